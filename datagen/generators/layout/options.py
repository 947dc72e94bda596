"""Typed options of the layout family. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from datagen.generators.conditioning.options import ClassName

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Millimetres = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)]


class NoOptions(BaseModel):
    """A layout makes no images and is not trained in steps."""

    model_config = _STRICT


class LayoutNetwork(BaseModel):
    """objects: the classes of scattered objects, which are drawn one by one; the others are drawn
    together. Found by how little the maps agree where left out, and written out once fitted.

    max_modes: modes of shape at most; fewer make the model smaller, and its maps smoother. names,
    spacing_mm: of the label maps, written by the fit.
    """

    model_config = _STRICT

    objects: tuple[ClassName, ...] | None = Field(
        default=None,
        max_length=255,
        description="a list of classes of the label maps, [] for none; or left out",
    )
    max_modes: int = Field(
        default=64, strict=True, ge=1, le=64, description="a whole number from 1 to 64"
    )
    names: tuple[ClassName, ...] = Field(
        default=(), max_length=256, description="left out: the data say the names"
    )
    spacing_mm: tuple[_Millimetres, _Millimetres] | None = Field(
        default=None, description="left out: the data say the spacing"
    )
