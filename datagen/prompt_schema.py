"""What a recipe says of prompts and of latent mixing: the schema. Called by recipe.py.

Who resolves them for an image: prompts.py and mixing.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_STRICT = ConfigDict(extra="forbid", frozen=True)

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
ClassName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
_Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class AttributeRequest(BaseModel):
    """Values of one attribute: each with a weight, or with an exact count in every class."""

    model_config = _STRICT

    weights: dict[Text, _Number] | None = Field(
        default=None, max_length=100, description="a mapping like {light: 0.5, dark: 0.5}"
    )
    counts: dict[Text, Annotated[int, Field(strict=True, ge=0)]] | None = Field(
        default=None, max_length=100, description="a mapping like {light: 40, dark: 60}"
    )


class PromptRequest(BaseModel):
    """Prompts of the images: templates with {class} and {attribute}, or lists of prompts."""

    model_config = _STRICT

    template: Text | dict[ClassName, Text] | None = Field(
        default=None, description='a text like "a photo of a {class}", or one for each class'
    )
    lists: dict[ClassName, tuple[Text, ...]] | None = Field(
        default=None, description="a list of prompts for each class"
    )
    words: dict[ClassName, Text] = Field(
        default_factory=dict, description="what {class} reads as, like {T_shirt: t-shirt}"
    )
    negative: Text | dict[ClassName, Text] | None = Field(
        default=None, description="what the images are to lack: a text, or one for each class"
    )
    attributes: dict[str, AttributeRequest] = Field(
        default_factory=dict, max_length=16, description="values of {attribute} in a template"
    )
    combine: Literal["crossed", "independent"] = Field(
        default="crossed", description="crossed or independent"
    )


class MixRequest(BaseModel):
    """Images between two ends: slerp of the latents of two seeds, classes or pictures."""

    model_config = _STRICT

    between: Literal["seeds", "classes", "images"] = Field(description="seeds, classes or images")
    weight: tuple[_Number, _Number] = Field(
        default=(0.0, 1.0), description="a range like [0.3, 0.7] in 0 to 1: 0 is its own end"
    )
    classes: dict[ClassName, tuple[ClassName, ...]] = Field(
        default_factory=dict,
        description="the other ends of a class, like {cat: [dog, fox]}; every other where left out",
    )
