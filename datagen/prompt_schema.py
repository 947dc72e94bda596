"""What a recipe says of prompts and of latent mixing: the schema. Called by recipe.py.

Whether it fits the recipe's classes: prompt_checks.py. Who resolves it for an image: prompts.py and
mixing.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from datagen.faults import WORD, Place
from datagen.prompt_templates import CLASS, template_fault
from datagen.schema_faults import Fault, refuse

MAX_TEXT = 1000
MAX_VALUE = 200
MAX_VALUES = 100
MAX_LIST = 10_000
# The labels of a mixed image have these; {class} is the class.
RESERVED = (CLASS, "mix_with", "mix_weight")

_STRICT = ConfigDict(extra="forbid", frozen=True)
_CLASS = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=MAX_VALUE)]
ClassName = Annotated[str, StringConstraints(pattern=_CLASS)]
_Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(strict=True, ge=0)]


def text_fault(text: Any, most: int = MAX_TEXT) -> str | None:
    """What was expected, if it is no line of text."""
    if isinstance(text, str) and len(text) <= most and text.strip() and not _CONTROL.search(text):
        return None
    return f"one line of 1 to {most} characters, none of them control, and not blank"


# --- rules: they see the values before pydantic does, and name the entry at fault -----------------

_Rule = Callable[[Any, Place], Iterator[Fault]]


def _checked(rule: _Rule) -> BeforeValidator:
    """A mapping that passes is sorted: the order in the file decides nothing."""

    def check(value: Any) -> Any:
        if value is None:
            return None
        refuse(rule(value, ()))
        return dict(sorted(value.items())) if isinstance(value, dict) else value

    return BeforeValidator(check)


def _template(value: Any, place: Place) -> Iterator[Fault]:
    fault = text_fault(value)
    if fault is None:
        fault = template_fault(value)
    if fault is not None:
        yield place, value, fault


def _word(value: Any, place: Place) -> Iterator[Fault]:
    fault = text_fault(value, MAX_VALUE)
    if fault is not None:
        yield place, value, fault


def _templates(value: Any, place: Place) -> Iterator[Fault]:
    if isinstance(value, Mapping):
        yield from _by_class(value, place, _template)
    else:
        yield from _template(value, place)


def _words(value: Any, place: Place) -> Iterator[Fault]:
    if value != {}:
        yield from _by_class(value, place, _word)


def _lists(value: Any, place: Place) -> Iterator[Fault]:
    yield from _by_class(value, place, _list)


def _list(value: Any, place: Place) -> Iterator[Fault]:
    if isinstance(value, Mapping) and "file" in value:
        yield (
            place,
            value.get("file"),
            (
                "the prompts themselves: a file is read by the command line and the client, where "
                "the recipe is a file beside it, and never by the service"
            ),
        )
    elif not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MAX_LIST:
        yield place, value, f"a list of 1 to {MAX_LIST} prompts, or {{file: prompts.txt}}"
    else:
        faults = ((i, item, text_fault(item)) for i, item in enumerate(value))
        yield from (((*place, i), item, fault) for i, item, fault in faults if fault is not None)


def _by_class(value: Any, place: Place, rule: _Rule) -> Iterator[Fault]:
    if not isinstance(value, Mapping) or not value:
        yield place, value, "a mapping of the recipe's classes, like {nevus: ...}"
        return
    for name, item in value.items():
        if not isinstance(name, str) or not re.fullmatch(_CLASS, name):
            yield (*place, name), item, "the name of a class of the recipe before ':'"
        else:
            yield from rule(item, (*place, name))


def _values(
    value: Any, place: Place, number: Callable[[Any], bool], wanted: str
) -> Iterator[Fault]:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= MAX_VALUES:
        yield place, value, f"a mapping of 1 to {MAX_VALUES} values, like {{light: ..., dark: ...}}"
        return
    for name, item in value.items():
        fault = text_fault(name, MAX_VALUE)
        if fault is not None:
            yield (*place, name), name, f"a value that is {fault}"
        elif not number(item):
            yield (*place, name), item, wanted


def _weights(value: Any, place: Place) -> Iterator[Fault]:
    yield from _values(value, place, _is_weight, "a weight of 0 or more")


def _counts(value: Any, place: Place) -> Iterator[Fault]:
    if isinstance(value, Mapping) and any(isinstance(item, Mapping) for item in value.values()):
        yield from _by_class(value, place, _counts_of_one)
    else:
        yield from _counts_of_one(value, place)


def _counts_of_one(value: Any, place: Place) -> Iterator[Fault]:
    yield from _values(value, place, _is_count, "a whole number of images, 0 or more")


def _is_weight(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1e9


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 10_000_000


def _attribute_names(value: Any, place: Place) -> Iterator[Fault]:
    for name in value if isinstance(value, Mapping) else ():
        if not isinstance(name, str) or not WORD.fullmatch(name) or name in RESERVED:
            yield (
                (*place, name),
                name,
                (
                    "the name of an attribute: 1 to 63 letters, digits, '_' and '-', the first a "
                    f"letter, and none of {', '.join(RESERVED)}"
                ),
            )


# --- the schema: each description completes "expected ..." ----------------------------------------


class AttributeRequest(BaseModel):
    """Values of one attribute, each with a weight or with an exact count: of every class, or for
    each class its own."""

    model_config = _STRICT

    weights: Annotated[dict[Value, _Number] | None, _checked(_weights)] = Field(
        default=None, max_length=MAX_VALUES, description="a mapping like {light: 0.5, dark: 0.5}"
    )
    counts: Annotated[
        dict[Value, _Count] | dict[ClassName, dict[Value, _Count]] | None, _checked(_counts)
    ] = Field(
        default=None,
        max_length=10_000,
        description="a mapping like {light: 40, dark: 60}, or one for each class",
    )

    @model_validator(mode="after")
    def _is_one_that_sums(self) -> AttributeRequest:
        if (self.weights is None) == (self.counts is None):
            given = None if self.weights is None else "weights and counts"
            refuse([((), given, "one of weights and counts, like {weights: {a: 0.5, b: 0.5}}")])
        total = math.fsum(self.weights.values()) if self.weights is not None else 1.0
        if abs(total - 1) > 1e-6:
            refuse([(("weights",), round(total, 9), "weights that sum to 1")])
        return self

    def counts_of(self, class_name: str) -> Mapping[str, int] | None:
        """None: it has weights, or no counts for that class."""
        counts: Any = self.counts
        found: Mapping[str, int] | None = counts.get(class_name) if self.is_by_class else counts
        return found

    @property
    def is_by_class(self) -> bool:
        return not isinstance(next(iter((self.counts or {"": 0}).values())), int)

    def values_of(self, class_name: str) -> list[str]:
        """Those that an image of the class may have: of weight or count 0 are none."""
        shares = self.weights or self.counts_of(class_name) or {}
        return [value for value, share in shares.items() if share > 0]


class PromptRequest(BaseModel):
    """Prompts of the images: templates with {class} and {attribute}, or lists of prompts."""

    model_config = _STRICT

    template: Annotated[Text | dict[ClassName, Text] | None, _checked(_templates)] = Field(
        default=None, description='a text like "a photo of a {class}", or one for each class'
    )
    lists: Annotated[dict[ClassName, tuple[Text, ...]] | None, _checked(_lists)] = Field(
        default=None, description="a list of prompts for each class, or {file: prompts.txt}"
    )
    words: Annotated[dict[ClassName, Value], _checked(_words)] = Field(
        default_factory=dict, description="what {class} reads as, like {T_shirt: t-shirt}"
    )
    negative: Annotated[Text | dict[ClassName, Text] | None, _checked(_templates)] = Field(
        default=None, description="what the images are to lack: a text, or one for each class"
    )
    attributes: Annotated[dict[str, AttributeRequest], _checked(_attribute_names)] = Field(
        default_factory=dict, max_length=16, description="values of {attribute} in a template"
    )
    combine: Literal["crossed", "independent"] = Field(
        default="crossed", description="crossed or independent"
    )

    @model_validator(mode="after")
    def _is_one_kind(self) -> PromptRequest:
        if (self.template is None) == (self.lists is None):
            given = None if self.template is None else "template and lists"
            refuse([((), given, 'one of template and lists, like {template: "a {class}"}')])
        if self.lists is not None:
            for field in ("words", "attributes"):
                if getattr(self, field):
                    wanted = "none beside lists: their prompts are taken as they are"
                    refuse([((field,), "given", wanted)])
        return self

    def template_of(self, class_name: str) -> str | None:
        return self._of(self.template, class_name)

    def negative_of(self, class_name: str) -> str | None:
        return self._of(self.negative, class_name)

    def word_of(self, class_name: str) -> str:
        return self.words.get(class_name, re.sub("[_-]+", " ", class_name).strip())

    @staticmethod
    def _of(texts: str | dict[str, str] | None, class_name: str) -> str | None:
        return texts.get(class_name) if isinstance(texts, dict) else texts


def _ends(value: Any, place: Place) -> Iterator[Fault]:
    if value != {}:
        yield from _by_class(value, place, _other_ends)


def _other_ends(value: Any, place: Place) -> Iterator[Fault]:
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MAX_LIST:
        yield place, value, "a list of the classes that may be its other end, like [dog, fox]"
        return
    seen = {place[-1]}
    for index, name in enumerate(value):
        if not isinstance(name, str) or not re.fullmatch(_CLASS, name) or name in seen:
            yield (*place, index), name, "another class, each once"
        elif isinstance(name, str):
            seen.add(name)


class MixRequest(BaseModel):
    """Images between two ends: slerp of the latents of two seeds, classes or pictures."""

    model_config = _STRICT

    between: Literal["seeds", "classes", "images"] = Field(description="seeds, classes or images")
    weight: tuple[_Number, _Number] = Field(
        default=(0.0, 1.0), description="a range like [0.3, 0.7] in 0 to 1: 0 is its own end"
    )
    classes: Annotated[dict[ClassName, tuple[ClassName, ...]], _checked(_ends)] = Field(
        default_factory=dict,
        description="the other ends of a class, like {cat: [dog, fox]}; every other where left out",
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> MixRequest:
        low, high = self.weight
        if not low <= high <= 1:
            refuse([(("weight",), list(self.weight), "a range like [0.3, 0.7] in 0 to 1")])
        if self.classes and self.between != "classes":
            refuse([(("classes",), "given", f"none where it is between {self.between}")])
        return self
