"""The recipe: the only schema of what is asked for. YAML or JSON in, canonical JSON and digest out.

Called by resolve.py and cli.py (load_recipe), by whatever reports a fault in a recipe
(field_error), and by all that writes JSON whose bytes count (canonical_json).
They find here also what they need of faults.py and yaml_reader.py.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from datagen.detector_schema import DetectorRequest
from datagen.errors import RecipeError
from datagen.faults import MAX_PROBLEMS, line_of
from datagen.faults import InvalidRecipe as InvalidRecipe
from datagen.faults import Problem as Problem
from datagen.faults import field_error as field_error
from datagen.faults import suggest as suggest
from datagen.gates import Gate, gate_fault
from datagen.prompt_checks import Prompted, conditioning_faults
from datagen.prompt_files import read_prompt_files
from datagen.prompt_schema import MixRequest, PromptRequest
from datagen.schema_faults import details_of, problems_of, refuse
from datagen.schema_rules import ordered, plain_faults, plain_mapping, repeated
from datagen.yaml_reader import MAX_BYTES as MAX_BYTES
from datagen.yaml_reader import Reader, check_size
from datagen.yaml_reader import load_bytes as load_bytes

MAX_IMAGES = 100_000_000

# mask: a label map. image: another picture of the same size. inpaint: a picture with a region to be
# filled, and a label map of what belongs there. layout: boxes with classes.
ConditionKind = Literal["mask", "image", "inpaint", "layout"]
CONDITION_KINDS: tuple[ConditionKind, ...] = get_args(ConditionKind)

Schema = TypeVar("Schema", bound=BaseModel)


def _check_classes(classes: tuple[ClassRequest, ...]) -> tuple[ClassRequest, ...]:
    refuse(repeated(((i, "name"), c.name) for i, c in enumerate(classes)))
    total = sum(c.count for c in classes)
    if total > MAX_IMAGES:
        refuse([((), total, f"at most {MAX_IMAGES} images over all classes; split the recipe")])
    return classes


def _check_filters(filters: tuple[FilterRequest, ...]) -> tuple[FilterRequest, ...]:
    refuse(repeated(((i, "filter"), f.filter) for i, f in enumerate(filters)))
    return filters


def _check_formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    refuse(repeated(((i,), name) for i, name in enumerate(formats)))
    return formats


def _only_int(value: Any) -> Any:
    return value if type(value) is int else str(value)


def _check_ratios(ratios: dict[str, float]) -> dict[str, float]:
    total = math.fsum(ratios.values())
    if abs(total - 1) > 1e-6:
        refuse([((), round(total, 9), "ratios that sum to 1")])
    return {name: ratios[name] for name in sorted(ratios)}


def _check_require(require: Any) -> Any:
    """Before pydantic looks at the values: one that is no text hides no fault of another."""
    if not isinstance(require, dict):
        return require
    faults = ((name, given, gate_fault(name, given)) for name, given in require.items())
    refuse(((name,), given, fault) for name, given, fault in faults if fault is not None)
    return {name: require[name] for name in sorted(require)}


# --- the schema: each description completes "expected ..." ----------------------------------------

_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
_MODEL = r"^[a-z0-9][a-z0-9-]{0,62}(@[1-9][0-9]{0,5})?$"
_NAME_TEXT = "1 to 63 lower-case letters, digits and '-', the first not '-'"
_CLASS = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"
_Count = Annotated[int, Field(strict=True)]
_Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassRequest(_Part):
    """One class and how many images of it."""

    name: str = Field(
        pattern=_CLASS,
        description="1 to 63 letters, digits, '-' and '_', the first a letter or digit",
    )
    count: _Count = Field(
        ge=1, le=10_000_000, description="a whole number of images from 1 to 10000000"
    )
    attributes: Annotated[dict[str, str | bool | int | float], plain_mapping(1)] = Field(
        default_factory=dict,
        max_length=32,
        description="a mapping of at most 32 attributes to text, a number, true or false",
    )
    also: tuple[Annotated[str, StringConstraints(pattern=_CLASS)], ...] = Field(
        default=(),
        max_length=64,
        description="a list of at most 64 further classes that are true of each of its images",
    )
    caption: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="1 to 1000 characters that are true of each of its images",
    )

    @model_validator(mode="after")
    def _also_names_others_once(self) -> ClassRequest:
        seen = {self.name}
        for index, name in enumerate(self.also):
            if name in seen:
                wanted = "further classes, each once, without the class's own name"
                refuse([(("also", index), name, wanted)])
            seen.add(name)
        return self


class _Optioned(BaseModel):
    """A named part with options; resolve checks them by the part's own schema."""

    model_config = ConfigDict(extra="allow", frozen=True)
    _max_depth: ClassVar[int] = 3

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _options_are_plain(cls, value: Any) -> Any:
        if isinstance(value, dict):
            options = {key: item for key, item in value.items() if key not in cls.model_fields}
            refuse(plain_faults(options, (), cls._max_depth))
            return {**value, **ordered(options)}
        return value


class GeneratorRequest(_Optioned):
    """Which model makes the images; all further fields are options of its generator."""

    model: str = Field(
        pattern=_MODEL,
        description=f"the name of a model: {_NAME_TEXT}; and @VERSION for one of its versions",
    )


class FilterRequest(_Optioned):
    """One filter; all further fields are its options."""

    filter: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="the name of a filter: 1 to 63 lower-case letters, digits, '_' and '-', the "
        "first a letter or digit",
    )


class AugmentationRequest(_Part):
    """One transform, applied to an image with probability p."""

    transform: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9]{0,62}$",
        description="the name of a transform: 1 to 63 letters and digits",
    )
    p: _Real = Field(default=0.5, gt=0, le=1, description="a probability above 0, at most 1")
    params: Annotated[dict[str, Any], plain_mapping(4)] = Field(
        default_factory=dict,
        max_length=32,
        description="a mapping of parameters of the transform, such as {rotate: [-8, 8]}",
    )


class Splits(_Part):
    """How the images of each class are dealt out."""

    ratios: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")],
            Annotated[_Real, Field(gt=0, le=1)],
        ],
        AfterValidator(_check_ratios),
    ] = Field(
        default={"train": 1.0},
        min_length=1,
        max_length=16,
        description=(
            "1 to 16 splits such as {train: 0.9, val: 0.1}: names of at most 32 lower-case "
            "letters, digits, '-' and '_', ratios above 0 that sum to 1"
        ),
    )


class Output(_Part):
    """How the data set is stored."""

    formats: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=_NAME)], ...], AfterValidator(_check_formats)
    ] = Field(
        default=("webdataset",),
        min_length=1,
        max_length=16,
        description="a list of 1 to 16 formats, such as [webdataset]",
    )
    shard_size: _Count = Field(
        default=256, ge=1, le=100_000, description="a whole number of images from 1 to 100000"
    )
    bits: Annotated[Literal[8, 16], BeforeValidator(_only_int)] = Field(
        default=8, description="8, or 16 for grey images of 65536 brightnesses"
    )
    watermark: bool = Field(
        default=False, strict=True, description="true for an invisible mark in each image, or false"
    )

    @model_validator(mode="after")
    def _mark_fits(self) -> Output:
        if self.watermark and self.bits != 8:
            refuse([(("watermark",), True, "false where images have 16 bits: the mark is of 8")])
        return self


class Limits(_Part):
    """How much may be tried before a class counts as failed, and what happens then."""

    max_attempts_per_class: _Real = Field(
        default=8.0,
        ge=1,
        le=1000,
        description="attempts per requested image: a number from 1 to 1000",
    )
    max_attempts_per_sample: _Count = Field(
        default=256, ge=1, le=10_000, description="a whole number of attempts from 1 to 10000"
    )
    on_shortfall: Literal["fail", "publish"] = Field(default="fail", description="fail or publish")


class ConditionRequest(_Optioned):
    """Which model draws the conditions; all further fields are options of its family."""

    _max_depth: ClassVar[int] = 5  # edits: [{size_mm: [6, 10]}]

    model: str = Field(
        pattern=_MODEL,
        description="the name of a model that draws conditions, such as one of generator layout",
    )


class Conditioning(_Part):
    """What the images are conditioned on beside their class: one of mask, image, inpaint and
    layout, or none; a prompt and a mix beside it."""

    mask: ConditionRequest | None = Field(
        default=None, description="label maps, like {model: my-layouts}"
    )
    image: ConditionRequest | None = Field(
        default=None, description="pictures to be translated, like {model: my-sketches}"
    )
    inpaint: ConditionRequest | None = Field(
        default=None, description="backgrounds to be painted into, like {model: my-backgrounds}"
    )
    layout: ConditionRequest | None = Field(
        default=None, description="boxes with classes, like {model: my-layouts}"
    )
    prompt: PromptRequest | None = Field(
        default=None, description='prompts, like {template: "a photo of a {class}"}'
    )
    mix: MixRequest | None = Field(
        default=None, description="images between two, like {between: classes}"
    )

    @model_validator(mode="after")
    def _is_one(self) -> Conditioning:
        given = [name for name in CONDITION_KINDS if getattr(self, name) is not None]
        refuse([((name,), "given", f"one condition, not also {given[0]}") for name in given[1:]])
        return self

    @property
    def kind(self) -> ConditionKind | None:
        return next((k for k in CONDITION_KINDS if getattr(self, k) is not None), None)

    @property
    def request(self) -> ConditionRequest | None:
        kind = self.kind
        request: ConditionRequest | None = None if kind is None else getattr(self, kind)
        return request

    def to_json(self) -> dict[str, Any]:
        """Without what is not given."""
        content: dict[str, Any] = {}
        for name in CONDITION_KINDS:
            request = getattr(self, name)
            if request is not None:
                content[name] = request.model_dump(mode="json")
        for field in ("prompt", "mix"):
            part = getattr(self, field)
            if part is not None:
                content[field] = part.model_dump(mode="json", exclude_defaults=True)
        return content


class LabelRules(_Part):
    """What becomes of labels under augmentation, and who labels what was made without any."""

    min_visibility: _Real = Field(
        default=0.1,
        ge=0,
        le=1,
        description="a share from 0 to 1: an object of which less is still seen is no longer one",
    )
    detector: DetectorRequest | None = Field(
        default=None,
        description="a mapping like {directory: my-owl, classes: {nevus: a dark mole}}: who finds "
        "objects in the finished images, as labels that a machine made",
    )


class EvaluationRequest(_Part):
    """What is measured before the version is published, and what it must show."""

    reference: str = Field(
        pattern=_NAME,
        description=f"the name of a set of real images (`datagen references`): {_NAME_TEXT}",
    )
    quick: bool = Field(
        default=True,
        strict=True,
        description="true for about two minutes on two free cores, or false",
    )
    require: Annotated[
        dict[str, Annotated[str, StringConstraints(max_length=100)]],
        BeforeValidator(_check_require),
    ] = Field(
        default_factory=dict,
        max_length=32,
        description='a mapping like {utility: "not harms", near_copy_excess: "<= 0.005"}',
    )

    @property
    def gates(self) -> list[Gate]:
        return [Gate(name, text) for name, text in self.require.items()]


class Recipe(_Part):
    """A labelled data set to make."""

    # Of true, 1.0 and 1, which Literal takes for equal, only 1 is the version.
    version: Annotated[Literal[1], BeforeValidator(_only_int)] = Field(
        description="1, the version of this schema"
    )
    name: str = Field(pattern=_NAME, description=_NAME_TEXT)
    seed: _Count | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="a whole number from 0 to 9223372036854775807; leave it out to use the name",
    )
    image_size: tuple[
        Annotated[_Count, Field(ge=8, le=1024)], Annotated[_Count, Field(ge=8, le=1024)]
    ] = Field(description="[height, width] in pixels, each a whole number from 8 to 1024")
    classes: Annotated[tuple[ClassRequest, ...], AfterValidator(_check_classes)] = Field(
        min_length=1,
        max_length=10_000,
        description="a list of 1 to 10000 classes, each like {name: trouser, count: 120}",
    )
    generator: GeneratorRequest = Field(
        description="a mapping with the model's name and options, like {model: fashion-mnist-edm}"
    )
    conditioning: Conditioning = Field(
        default=Conditioning(),
        description="{} for none, or one of mask, image, inpaint and layout, like "
        "{mask: {model: my-layouts}}; prompt and mix beside it",
    )
    labels: LabelRules = Field(
        default=LabelRules(), description="a mapping like {min_visibility: 0.2}"
    )
    filters: Annotated[tuple[FilterRequest, ...], AfterValidator(_check_filters)] = Field(
        default=(),
        max_length=32,
        description="a list of at most 32 filters, each like {filter: blank}; [] for none",
    )
    augmentations: tuple[AugmentationRequest, ...] = Field(
        default=(),
        max_length=64,
        description="a list of at most 64, each like {transform: Affine, p: 0.3}; [] for none",
    )
    splits: Splits = Field(
        default=Splits(), description="a mapping like {ratios: {train: 0.9, val: 0.1}}"
    )
    output: Output = Field(
        default=Output(), description="a mapping like {formats: [webdataset], shard_size: 256}"
    )
    limits: Limits = Field(
        default=Limits(),
        description="a mapping like {max_attempts_per_class: 8, on_shortfall: fail}",
    )

    evaluation: EvaluationRequest | None = Field(
        default=None,
        description='a mapping like {reference: my-data, require: {utility: "not harms"}}',
    )

    @model_validator(mode="after")
    def _prompts_fit_the_classes(self) -> Recipe:
        asked = self.conditioning
        if asked.prompt is not None or asked.mix is not None:
            classes = [Prompted(c.name, c.count, c.attributes) for c in self.classes]
            found = conditioning_faults(asked.prompt, asked.mix, classes)
            refuse((("conditioning", *below), value, wanted) for below, value, wanted in found)
        return self

    @property
    def num_images(self) -> int:
        return sum(request.count for request in self.classes)

    def to_json(self) -> dict[str, Any]:
        """Plain values with every default filled in, but for fields that came later: without them
        a recipe keeps the digest that it had before there were any."""
        content = self.model_dump(mode="json")
        if self.evaluation is None:
            del content["evaluation"]
        if self.labels == LabelRules():
            del content["labels"]
        elif self.labels.detector is None:
            del content["labels"]["detector"]
        if self.output.bits == 8:
            del content["output"]["bits"]
        if not self.output.watermark:
            del content["output"]["watermark"]
        content["conditioning"] = self.conditioning.to_json()
        for request in content["classes"]:
            for field, default in (("also", []), ("caption", None)):
                if request[field] == default:
                    del request[field]
        return content


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors; kept in recipes/recipe.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Recipe.model_json_schema(),
    }


# --- canonical JSON -------------------------------------------------------------------------------

_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)


def canonical_json(value: Any) -> bytes:
    """One byte string per JSON value: sorted keys, no spaces, UTF-8; 1.0 is written as 1.

    Raises ValueError for NaN and infinity, TypeError for what JSON cannot hold.
    """
    return _ENCODER.encode(_normal(value)).encode()


def recipe_digest_of(canonical: bytes) -> str:
    return hashlib.sha256(canonical).hexdigest()


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"keys {list(value)[:8]}: the keys of a JSON object are text")
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)  # from 2**53 on, whole floats are not exact
    return value


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecipeDocument:
    """A recipe and where its fields stand. lines: field, like classes[1].count => line from 1."""

    recipe: Recipe
    source: str
    lines: Mapping[str, int]

    def locate(self, error: RecipeError) -> RecipeError:
        """The same error with file and line; for errors found after parsing."""
        if not isinstance(error, InvalidRecipe):
            return RecipeError(f"{self.source}: {error}")
        located = [replace(p, line=line_of(self.lines, p.field)) for p in error.problems]
        return InvalidRecipe(
            sorted(located, key=lambda p: p.line or 0),
            source=self.source,
            num_problems=error.num_problems,
        )


def load_recipe(path: Path) -> RecipeDocument:
    """Raises RecipeError if the file is absent, not a plain file, too large or not a recipe."""
    return parse_recipe(load_bytes(path), source=str(path), folder=path.parent)


def parse_recipe(text: bytes, *, source: str, folder: Path | None = None) -> RecipeDocument:
    """Raises InvalidRecipe with every problem, by line. source: the file's name, for messages.
    folder: of the files that the recipe may name; None for text that came without one."""
    recipe, lines = parse_as(Recipe, text, source=source, folder=folder)
    return RecipeDocument(recipe, source, lines)


def parse_as(
    schema: type[Schema], text: bytes, *, source: str, folder: Path | None = None
) -> tuple[Schema, dict[str, int]]:
    """YAML or JSON text to a model of the schema, with the line of each field.

    Model recipes may come this way too. Raises InvalidRecipe.
    """
    check_size(len(text), source)
    reader = Reader(source)
    values = reader.read(text)
    if folder is not None:
        reader.problems += read_prompt_files(values, folder)
    details: list[ErrorDetails] = []
    try:
        model = schema.model_validate(values)
        if not reader.problems:
            return model, reader.lines
    except ValidationError as error:
        details = details_of(error)
    problems = problems_of(details, schema, values, lines=reader.lines, texts=reader.texts)
    raise reader.refusal(problems, num_hidden=max(0, len(details) - MAX_PROBLEMS))


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
