"""Typed options of the condition_set family. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from datagen.generators.conditioning.options import (
    ClassName,
    EditingOptions,
    SizeMm,
    SizePx,
    ascending,
)
from datagen.real_images.derived import Derivation

_STRICT = ConfigDict(extra="forbid", frozen=True)
_Count = Annotated[int, Field(strict=True, ge=0)]


class Region(BaseModel):
    """Where an inpainted image is made anew: where the set's own label map shows a class, or a
    shape at a place drawn for each image.

    size: diameter of the circle of equal area, of a box too. inside: a class in whose pixels the
    shape comes to lie, a box with its middle; anywhere where left out. margin_px: the hole is the
    box around it, so much wider; exactly its pixels where left out.
    """

    # `from` is a word of Python, and a recipe is stored as it is written.
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    from_class: ClassName | None = Field(
        default=None, alias="from", description="a class of the set's label maps"
    )
    shape: Literal["ellipse", "blob", "box"] | None = Field(
        default=None, description="ellipse, blob or box"
    )
    size_mm: Annotated[tuple[SizeMm, SizeMm], AfterValidator(ascending)] | None = Field(
        default=None, description="[least, most], millimetres from 0.01 to 10000"
    )
    size_px: Annotated[tuple[SizePx, SizePx], AfterValidator(ascending)] | None = Field(
        default=None, description="[least, most], pixels from 1 to 1024"
    )
    inside: ClassName | None = Field(default=None, description="a class of the set's label maps")
    margin_px: int | None = Field(
        default=None, strict=True, ge=0, le=256, description="a whole number from 0 to 256"
    )

    @model_validator(mode="after")
    def _is_one_region(self) -> Region:
        sizes = [size for size in (self.size_mm, self.size_px) if size is not None]
        if (self.from_class is None) == (self.shape is None):
            fault = "one of from and shape, like {shape: ellipse, size_px: [6, 12]}"
        elif self.shape is not None and len(sizes) != 1:
            fault = "one of size_mm and size_px, like size_px: [6, 12], with shape"
        elif self.from_class is not None and (sizes or self.inside):
            fault = "no size and no inside with from, which takes the pixels of the class"
        else:
            return self
        raise PydanticCustomError("recipe_rule_text", "{fault}", {"fault": fault})


class ConditionSetOptions(EditingOptions):
    """What a recipe may set where a set conditions.

    same_class: items of the image's class alone, where the set has that class. derive, factor: of
    kind image, what is made of the pictures, as in a training of pairs. region, object: of kind
    inpaint, what is made anew and the class painted there; where left out, what the label map shows
    stays true.
    """

    same_class: bool = Field(default=True, strict=True, description="true or false")
    derive: Literal["none"] | Derivation = Field(
        default="none", description="none, edges or low_resolution"
    )
    factor: int = Field(
        default=4, strict=True, ge=2, le=16, description="a whole number from 2 to 16"
    )
    region: Region | None = Field(
        default=None, description="a mapping like {shape: ellipse, size_px: [6, 12]}"
    )
    object: ClassName | None = Field(
        default=None, description="a class of the conditioned model, painted in the region"
    )


class ConditionSetNetwork(BaseModel):
    """What config.json says of the tensors; a model recipe sets nothing of it.

    names: of the values of the label maps, the first the background; empty without maps.
    picture_channels: 0 without pictures. num_groups: that splits share out whole.
    """

    model_config = _STRICT

    names: tuple[ClassName, ...] = Field(default=(), max_length=256)
    picture_channels: Annotated[int, Field(strict=True, ge=0, le=4)] = 0
    num_items: _Count = 0
    num_groups: _Count = 0
    has_spacing: bool = Field(default=False, strict=True)


class NoOptions(BaseModel):
    """A set makes no images and is not trained: nothing may be set."""

    model_config = _STRICT
