"""What a recipe says of the detector that labels its finished images: the schema of
`labels.detector`. Called by recipe.py; who detects: detectors/."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from datagen.prompt_schema import ClassName, Text

_Share = Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)]
_Count = Annotated[int, Field(strict=True)]


class DetectorRequest(BaseModel):
    """A pretrained network that finds objects, or names pixels, in images that were made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: Text = Field(
        description="the folder of a network as transformers saves it: zero-shot detection (OWL), "
        "object detection or segmentation, with safetensors"
    )
    classes: dict[ClassName, Text] = Field(
        min_length=1,
        max_length=254,
        description="what is looked for, like {cat: a photo of a cat}: in words of a zero-shot "
        "detector, else by the network's own labels",
    )
    threshold: _Share = Field(
        default=0.3, description="a confidence from 0 to 1: objects below it are none"
    )
    max_objects: _Count = Field(
        default=100, ge=1, le=1000, description="a whole number of objects in an image, to 1000"
    )
    max_overlap: _Share = Field(
        default=0.5,
        description="a share from 0 to 1: of two boxes of one class with a larger intersection "
        "over union, the less confident is dropped",
    )
    masks: Literal["none", "box"] = Field(
        default="none",
        description="none, or box: label maps with each box filled; segmentation has true ones",
    )
    min_pixels: _Count = Field(
        default=16,
        ge=1,
        le=1_000_000,
        description="a whole number of pixels: smaller parts of a label map are no objects",
    )
    own_class: bool = Field(
        default=False,
        strict=True,
        description="true: an image is searched for its own class alone, or false",
    )
