"""Typed options of the procedural family. Each description completes "expected ..."."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from datagen.generators.conditioning.options import ClassName, EditingOptions, ascending

Shape = Literal["circle", "ellipse", "rectangle", "triangle", "star", "polygon", "ring", "cross"]
Pattern = Literal["flat", "gradient", "noise", "stripes", "checks", "blobs"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

_Num = Annotated[int, Field(strict=True, ge=0, le=64)]
_Share = Annotated[float, Field(strict=True, ge=0.02, le=1, allow_inf_nan=False)]


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("expected no name twice")
    return names


class SceneOptions(BaseModel):
    """What lies in a scene, and where.

    shapes: of classes that are not named like a shape, each object one of these. size: diameter of
    the circle around an object, as a share of the shorter side. max_occlusion: the share of an
    object that others may hide. truncation: whether objects may leave the frame.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shapes: Annotated[tuple[Shape, ...], AfterValidator(_once)] = Field(
        default=SHAPES,
        min_length=1,
        description=f"a list of shapes, each once, of {', '.join(SHAPES)}",
    )
    num_objects: Annotated[tuple[_Num, _Num], AfterValidator(ascending)] = Field(
        default=(1, 3), description="[least, most], whole numbers from 0 to 64"
    )
    size: Annotated[tuple[_Share, _Share], AfterValidator(ascending)] = Field(
        default=(0.2, 0.5), description="[least, most], shares of the shorter side from 0.02 to 1"
    )
    rotation: bool = Field(default=True, strict=True, description="true or false")
    max_occlusion: float = Field(
        default=0.25,
        strict=True,
        ge=0,
        le=0.9,
        allow_inf_nan=False,
        description="a share from 0 (objects lie apart) to 0.9",
    )
    truncation: bool = Field(default=False, strict=True, description="true or false")


class ProceduralOptions(SceneOptions):
    """What a recipe may set when it draws scenes.

    contrast: least difference between the brightness of objects and of the background, as a share
    of white. texture_contrast: amplitude of patterns, likewise. blur_px: standard deviation;
    noise: the same, as a share of white; neither moves an edge. keypoints: whether corners, tips
    and centres are among the labels.
    """

    keypoints: bool = Field(default=True, strict=True, description="true or false")
    channels: Literal[1, 3] = Field(default=3, description="1 (grey) or 3 (RGB)")
    background: Annotated[tuple[Pattern, ...], AfterValidator(_once)] = Field(
        default=get_args(Pattern),
        min_length=1,
        description=f"a list of patterns, each once, of {', '.join(get_args(Pattern))}",
    )
    texture: Annotated[tuple[Pattern, ...], AfterValidator(_once)] = Field(
        default=("flat", "noise", "stripes"),
        min_length=1,
        description=f"a list of patterns, each once, of {', '.join(get_args(Pattern))}",
    )
    contrast: float = Field(
        default=0.3, strict=True, ge=0.02, le=0.5, description="a share from 0.02 to 0.5"
    )
    texture_contrast: float = Field(
        default=0.08, strict=True, ge=0, le=0.5, description="a share from 0 to 0.5"
    )
    blur_px: float = Field(
        default=0.0, strict=True, ge=0, le=8, description="a number of pixels from 0 to 8"
    )
    noise: float = Field(
        default=0.0, strict=True, ge=0, le=0.5, description="a share from 0 to 0.5"
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any) -> Any:
        """True equals 1, and Literal compares by equality."""
        if isinstance(value, bool):
            raise ValueError("expected 1 or 3")
        return value


class ProceduralConditionOptions(EditingOptions, SceneOptions):
    """What a recipe may set when scenes are conditions of another model.

    names: what a shape is called there, where that is not its own name.
    """

    names: dict[Shape, ClassName] = Field(
        default_factory=dict,
        description="a mapping of shapes to names of the conditioned model, like {star: lesion}",
    )

    @field_validator("names")
    @classmethod
    def _no_background(cls, names: dict[Shape, str]) -> dict[Shape, str]:
        """A shape of that name would have the value of what lies around it."""
        if "background" in names.values():
            raise ValueError("expected names of classes, not 'background'")
        return names


class NoNetwork(BaseModel):
    """There is no network and no objective: nothing may be set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
