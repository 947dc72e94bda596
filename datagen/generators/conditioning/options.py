"""Typed options that every family which draws conditions shares. Each description completes
"expected ..."."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

_Pair = TypeVar("_Pair", tuple[int, int], tuple[float, float])

ClassName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
_STRICT = ConfigDict(extra="forbid", frozen=True)


def ascending(pair: _Pair) -> _Pair:
    if pair[0] > pair[1]:
        raise ValueError(f"expected [least, most], not {list(pair)}")
    return pair


def _real(least: float, most: float) -> object:
    return Field(strict=True, ge=least, le=most, allow_inf_nan=False)


_Factor = Annotated[float, _real(0.25, 4)]
SizePx = Annotated[float, _real(1, 1024)]
SizeMm = Annotated[float, _real(0.01, 10_000)]
_Few = Annotated[int, Field(strict=True, ge=0, le=64)]
Probability = Annotated[float, _real(0, 1)]


class Affine(BaseModel):
    """rotate_deg, shear_deg: at most, either way. scale: factor. translate: at most, either way, as
    a share of each side."""

    model_config = _STRICT

    rotate_deg: float = Field(
        default=0.0, strict=True, ge=0, le=180, description="degrees from 0 to 180"
    )
    scale: Annotated[tuple[_Factor, _Factor], AfterValidator(ascending)] = Field(
        default=(1.0, 1.0), description="[least, most], factors from 0.25 to 4"
    )
    translate: float = Field(
        default=0.0, strict=True, ge=0, le=0.5, description="a share of each side from 0 to 0.5"
    )
    shear_deg: float = Field(
        default=0.0, strict=True, ge=0, le=45, description="degrees from 0 to 45"
    )


class Elastic(BaseModel):
    """A smooth random field of displacements. alpha_px: their root mean square along each axis.
    sigma_px: of the Gaussian that smooths them.

    Source: Simard et al. 2003 (ICDAR), section 2, with the field scaled to a stated length.
    """

    model_config = _STRICT

    alpha_px: float = Field(
        strict=True, ge=0, le=64, allow_inf_nan=False, description="pixels from 0 to 64"
    )
    sigma_px: float = Field(
        strict=True, ge=1, le=128, allow_inf_nan=False, description="pixels from 1 to 128"
    )

    @model_validator(mode="after")
    def _does_not_fold(self) -> Elastic:
        """A field folds, and tears what it moves, from about this slope on."""
        if self.alpha_px > 0.7 * self.sigma_px:
            raise PydanticCustomError(
                "recipe_rule_text",
                "alpha_px of at most 0.7 times sigma_px; above, the field folds over itself",
            )
        return self


class Deform(BaseModel):
    """How a drawn condition is moved; labels by nearest neighbour, a picture along with them."""

    model_config = _STRICT

    affine: Affine | None = Field(
        default=None, description="a mapping like {rotate_deg: 10, scale: [0.9, 1.1]}"
    )
    elastic: Elastic | None = Field(
        default=None, description="a mapping like {alpha_px: 3, sigma_px: 8}"
    )


class Edit(BaseModel):
    """One change of the label map: an object added, or a class removed.

    region: an existing class, inside whose pixels the object comes to lie; any class but the
    background where left out. classes: of the recipe's images, that are edited; all where empty.
    size: diameter of the circle of equal area. num: of objects.
    """

    model_config = _STRICT

    add: ClassName | None = Field(default=None, description="a class of the conditioned model")
    remove: ClassName | None = Field(default=None, description="a class of the label maps")
    region: ClassName | None = Field(default=None, description="a class of the label maps")
    size_mm: Annotated[tuple[SizeMm, SizeMm], AfterValidator(ascending)] | None = Field(
        default=None, description="[least, most], millimetres from 0.01 to 10000"
    )
    size_px: Annotated[tuple[SizePx, SizePx], AfterValidator(ascending)] | None = Field(
        default=None, description="[least, most], pixels from 1 to 1024"
    )
    num: Annotated[tuple[_Few, _Few], AfterValidator(ascending)] = Field(
        default=(1, 1), description="[least, most], whole numbers from 0 to 64"
    )
    shape: Literal["ellipse", "blob"] = Field(default="blob", description="ellipse or blob")
    classes: tuple[ClassName, ...] = Field(
        default=(), max_length=1000, description="a list of classes of the recipe"
    )
    probability: Probability = Field(default=1.0, description="a probability from 0 to 1")

    @model_validator(mode="after")
    def _is_one_edit(self) -> Edit:
        if (self.add is None) == (self.remove is None):
            fault = "one of add and remove, like {add: lesion, size_px: [4, 8]}"
        elif self.add is not None and (self.size_mm is None) == (self.size_px is None):
            fault = "one of size_mm and size_px, like size_px: [4, 8], with add"
        elif self.remove is not None and (self.size_mm or self.size_px or self.region):
            fault = "no size and no region with remove, which takes the whole class away"
        else:
            return self
        raise PydanticCustomError("recipe_rule_text", "{fault}", {"fault": fault})


class EditingOptions(BaseModel):
    """What every family that draws label maps lets a recipe set. objects: the classes whose
    connected parts count as objects; all but the background where left out."""

    model_config = _STRICT

    deform: Deform = Field(
        default=Deform(), description="a mapping like {elastic: {alpha_px: 3, sigma_px: 8}}"
    )
    edits: tuple[Edit, ...] = Field(
        default=(),
        max_length=16,
        description="a list of at most 16, each like {add: lesion, size_px: [4, 8], region: liver}",
    )
    objects: tuple[ClassName, ...] | None = Field(
        default=None, max_length=255, description="a list of classes of the label maps"
    )
