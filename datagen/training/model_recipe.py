"""The model recipe: what `datagen train` reads. Torch-free.

Each field's description completes "expected ..." in an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    create_model,
    model_validator,
)

from datagen.errors import InputError
from datagen.generators import GENERATORS
from datagen.generators.encoding import KINDS_TAKEN, MAX_NAMES
from datagen.generators.interface import takes_any_class
from datagen.medical.nifti import Plane
from datagen.medical.options import DicomOptions
from datagen.real_images.derived import Derivation
from datagen.real_images.opening import Kind
from datagen.real_images.resizing import Fit
from datagen.recipe import (
    CONDITION_KINDS,
    ConditionKind,
    InvalidRecipe,
    Problem,
    load_bytes,
    parse_as,
    suggest,
)
from datagen.schema_faults import refuse

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
_Count = Annotated[int, Field(strict=True)]
_Real = Annotated[float, Field(strict=True)]
CLASS_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")
_ClassName = Annotated[str, StringConstraints(pattern=CLASS_NAME)]
_Side = Annotated[int, Field(strict=True, ge=8, le=256)]
DataFormat = Literal["auto"] | Kind
# Left out of the digest at their defaults: recipes from before them keep theirs.
_LATER_SCHEDULE_FIELDS = {
    "decay", "max_grad_norm", "class_balanced", "stop_after_evaluations", "max_copy_share",
}  # fmt: skip
_NOT_PRIVATE = {"class_balanced", "max_grad_norm", "max_copy_share", "stop_after_evaluations"}
_LATER_DATA_FIELDS = {
    "format", "class_names", "image_size", "fit", "allow_synthetic", "condition", "volumes",
    "dicom",
}  # fmt: skip
PRIVATE_GENERATORS = ("cgan", "edm")
# Made from the data at once: no network is trained, and nothing is chosen by held-out images.
FITTED_GENERATORS = ("condition_set", "layout", "style_transfer")
MAX_LINE_CHARS = 1024
_IMAGES = "a whole number of images, 1 or more"


def is_line(text: str) -> bool:
    """Whether it can stand in a message, a card and the catalog."""
    return text.isprintable() and len(text) <= MAX_LINE_CHARS


_Level = Annotated[int, Field(strict=True, ge=0, le=255)]


class ConditionSource(BaseModel):
    """What lies beside each image, and is the condition of the model: see docs/training.md, Pairs.

    mask: label maps. image: pictures. inpaint: the images themselves, with holes, and label maps of
    what lies in them if there are names. layout: boxes, of what label maps show.
    values, colours: of the names, in the files of label maps. factor: of low_resolution.
    """

    model_config = _STRICT

    kind: ConditionKind = Field(description=f"one of {', '.join(CONDITION_KINDS)}")
    path: Path | None = Field(
        default=None,
        description="a folder of label maps or pictures with the same relative names as the "
        "images; or left out where they lie in the data, or are derived",
    )
    names: tuple[_ClassName, ...] = Field(
        default=(),
        min_length=2,
        max_length=MAX_NAMES,
        description="a list of 2 to 256 names of the values of label maps, the first of them the "
        "background; or left out where the data say them",
    )
    values: tuple[Annotated[int, Field(strict=True, ge=0, le=255)], ...] = Field(
        default=(),
        max_length=MAX_NAMES,
        description="a list of the values of the names, from 0 to 255, none twice; or left out for "
        "0, 1, 2 and so on",
    )
    colours: tuple[tuple[_Level, _Level, _Level], ...] = Field(
        default=(),
        max_length=MAX_NAMES,
        description="a list of the colours of the names, each [red, green, blue] from 0 to 255, "
        "none twice; or left out for label maps of one number a pixel",
    )
    derive: Derivation | None = Field(
        default=None, description="edges or low_resolution; or left out"
    )
    factor: _Count = Field(default=4, ge=2, le=16, description="a whole number from 2 to 16")

    @model_validator(mode="after")
    def _check_together(self) -> ConditionSource:
        unpictured, derived = self.kind != "image", self.derive is not None
        faults = (
            (self.names and not unpictured, "names", "left out: pictures have none"),
            (derived and unpictured, "derive", "left out, or kind image"),
            (derived and self.path is not None, "path", "left out: pictures are derived"),
            (len(set(self.names)) < len(self.names), "names", "each name once"),
            ("background" in self.names[1:], "names", "background first: the others are of it"),
            (len(set(self.values)) < len(self.values), "values", "each value once"),
            (
                bool(self.values) and len(self.values) != len(self.names),
                "values",
                f"one for each of {len(self.names)} names",
            ),
            (len(set(self.colours)) < len(self.colours), "colours", "each colour once"),
            (bool(self.colours and self.values), "colours", "left out, or values left out"),
            (
                bool(self.colours) and len(self.colours) != len(self.names),
                "colours",
                f"one for each of {len(self.names)} names",
            ),
        )
        refuse(((name,), getattr(self, name), told) for wrong, name, told in faults if wrong)
        return self


class VolumeSource(BaseModel):
    """How volumes become images: see real_images/volumes.py."""

    model_config = _STRICT

    plane: Plane = Field(default="axial", description=f"one of {', '.join(get_args(Plane))}")
    every: _Count = Field(
        default=1, ge=1, le=1000, description="a whole number of slices, 1 or more"
    )
    min_shown: _Real = Field(
        default=0.01,
        ge=0,
        le=1,
        description="a share of pixels from 0 to 1: slices that show less are left out",
    )
    block_mm: _Real | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="millimetres above 0, of slices that are held out together; or left out, for "
        "whole volumes",
    )


class DataSource(BaseModel):
    """Where the real images are, and under which terms they were given: as `registered` says, or
    as the recipe does. path: with `registered`, in place of where that says they lie."""

    model_config = _STRICT

    format: DataFormat = Field(
        default="auto", description=f"auto, or one of {', '.join(get_args(Kind))}"
    )
    path: Path | None = Field(
        default=None,
        description="the folder or file of the data, or s3://bucket/prefix; --data replaces it",
    )
    registered: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}(@[1-9][0-9]{0,8})?$",
        description="NAME or NAME@VERSION of a source that `datagen sources register` knows",
    )
    class_names: tuple[_ClassName, ...] = Field(
        default=(),
        min_length=1,
        max_length=1000,
        description="a list of 2 to 1000 class names of letters, digits, '-' and '_', for labels "
        "that are numbers in their order; or left out, for those of the data",
    )
    image_size: _Side | tuple[_Side, _Side] | None = Field(
        default=None,
        description="a side of 8 to 256 pixels, or [height, width]; or left out where all images "
        "are of one size",
    )
    fit: Fit = Field(
        default="crop",
        description="crop, pad or stretch: what becomes of images of other proportions",
    )
    licence: str = Field(
        default="", min_length=1, max_length=200, description="the licence of the images"
    )
    source: str = Field(
        default="", min_length=1, max_length=1000, description="where the images come from"
    )
    allow_synthetic: bool = Field(
        default=False, strict=True, description="true or false: whether synthetic images may train"
    )
    held_out: _Count = Field(
        default=5000,
        ge=2,
        le=1_000_000,
        description="a whole number of images, 2 or more, kept out of training to choose the best "
        "weights by",
    )
    condition: ConditionSource | None = Field(
        default=None,
        description="a mapping with the kind of what lies beside each image; or left out",
    )
    volumes: VolumeSource | None = Field(
        default=None, description="a mapping like {plane: axial}, of NIfTI volumes; or left out"
    )
    dicom: DicomOptions = Field(
        default=DicomOptions(),
        description="a mapping like {window: {center: 40, width: 400}}, of DICOM; or left out",
    )

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width); None for the images' own."""
        side = self.image_size
        return (side, side) if isinstance(side, int) else side

    @property
    def place(self) -> Path:
        """The path, once it is known: of a registered source, see datagen/sources.py."""
        if self.path is None:
            raise InputError(
                f"data.registered: the images of {self.registered} are not located; use `datagen "
                "train`, or name their folder in data.path"
            )
        return self.path

    @model_validator(mode="after")
    def _check_origin(self) -> DataSource:
        terms = {"licence": self.licence, "source": self.source}
        given_lines = terms | {"path": "" if self.path is None else str(self.path)}
        if len(self.class_names) == 1 and self.condition is None:
            told = str(type(self).model_fields["class_names"].description)
            refuse([(("class_names",), self.class_names, told)])
        told = f"one line of at most {MAX_LINE_CHARS} printable characters"
        refuse([((name,), text, told) for name, text in given_lines.items() if not is_line(text)])
        if self.registered is not None:
            told = "left out: data.registered brings it"
            refuse([((name,), given, told) for name, given in terms.items() if given])
        else:
            needed = {"path": self.path, **terms}
            fields = type(self).model_fields
            lacking = [name for name, given in needed.items() if not given]
            refuse([((name,), None, str(fields[name].description)) for name in lacking])
        return self


class Schedule(BaseModel):
    """How long and how fast. One unit of progress is one real image seen.

    decay: inverse_sqrt is constant up to decay_after_images and then falls with the inverse square
    root of the images seen (Karras et al. 2024, arXiv 2312.02696, equation 67): it needs no
    horizon, so that a run may be stopped or prolonged. cosine falls to 0 at num_images (Loshchilov
    & Hutter 2017, arXiv 1608.03983, equation 5), and can not be prolonged.
    class_balanced: every class is drawn as often, whatever its number of images.
    stop_after_evaluations: without better weights. max_copy_share: weights whose samples single
    out training images more often end the training, and are not kept (training/copying.py).
    """

    model_config = _STRICT

    num_images: _Count = Field(ge=1, le=10**12, description=_IMAGES)
    batch_size: _Count = Field(default=128, ge=1, le=65_536, description="1 to 65536 images")
    learning_rate: _Real = Field(gt=0, le=1, description="a number above 0, at most 1")
    warmup_images: _Count = Field(default=10_000, ge=0, description="images, 0 or more")
    decay_after_images: _Count = Field(default=300_000, ge=1, description=_IMAGES)
    ema_halflife_images: _Count = Field(default=100_000, ge=1, description=_IMAGES)
    ema_rampup: _Real = Field(default=0.05, gt=0, le=1, description="a number above 0, at most 1")
    evaluate_every_images: _Count = Field(default=100_000, ge=1, description=_IMAGES)
    checkpoint_every_images: _Count = Field(default=20_000, ge=1, description=_IMAGES)
    num_threads: _Count = Field(default=1, ge=1, le=64, description="1 to 64 threads")
    decay: Literal["inverse_sqrt", "cosine", "constant"] = Field(
        default="inverse_sqrt", description="inverse_sqrt, cosine or constant"
    )
    max_grad_norm: _Real | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="a number above 0, at most 1000000; or left out, for the generator's own",
    )
    class_balanced: bool = Field(default=False, strict=True, description="true or false")
    stop_after_evaluations: _Count | None = Field(
        default=None, ge=1, le=10_000, description="a whole number of evaluations, 1 to 10000"
    )
    max_copy_share: _Real | None = Field(
        default=None, gt=0.05, le=1, description="a share above 0.05, which is chance, at most 1"
    )


class Privacy(BaseModel):
    """A budget of differential privacy: see docs/differential-privacy.md.

    max_grad_norm, noise_multiplicity: of noised gradients (edm); the noised sums of cgan need none.
    num_canaries: of the audit; with the default a claim of epsilon 10 can be refuted.
    """

    model_config = _STRICT

    epsilon: _Real = Field(gt=0, le=100, description="a number above 0, at most 100")
    delta: _Real = Field(
        gt=0, lt=0.01, description="a number above 0, below 1 over the number of training images"
    )
    max_grad_norm: _Real = Field(
        default=1.0, gt=0, le=1000, description="a number above 0, at most 1000"
    )
    noise_multiplicity: _Count = Field(
        default=8, ge=1, le=128, description="a whole number of draws an image, 1 to 128"
    )
    num_canaries: _Count = Field(
        default=1 << 19, ge=1000, le=1 << 22, description="a whole number, 1000 to 4194304"
    )


class ModelRecipe(BaseModel):
    """A model to train. network and objective: options of the generator."""

    model_config = _STRICT

    version: Literal[1] = Field(description="1, the version of this schema")
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="1 to 63 lower-case letters, digits and '-', the first not '-'",
    )
    generator: str = Field(max_length=63, description="the name of a generator, such as cgan")
    seed: _Count = Field(
        default=0, ge=0, lt=2**63, description="a whole number from 0 to 9223372036854775807"
    )
    data: DataSource = Field(description="a mapping that says where the images are")
    network: dict[str, Any] = Field(
        default_factory=dict, description="a mapping of sizes of the generator's networks"
    )
    objective: dict[str, Any] = Field(
        default_factory=dict, description="a mapping of options of the generator's objective"
    )
    schedule: Schedule = Field(
        description="a mapping that says how long and how fast to train; left out of "
        f"{' and '.join(FITTED_GENERATORS)}, which are fitted"
    )
    init: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="the name of a model to start from; --init replaces it",
    )
    privacy: Privacy | None = Field(
        default=None, description="a mapping with epsilon and delta, to train privately"
    )
    weights_dtype: Literal["float32", "float16"] = Field(
        default="float32", description="float32 or float16: of the shipped weights"
    )
    description: str = Field(default="", max_length=1000, description="one sentence for the card")

    @property
    def is_fitted(self) -> bool:
        return self.generator in FITTED_GENERATORS

    @model_validator(mode="before")
    @classmethod
    def _without_schedule(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("generator") not in FITTED_GENERATORS:
            return value
        if value["generator"] == "style_transfer" and isinstance(value.get("data"), dict):
            # A style set is its pictures themselves, whatever lies beside them.
            value = {**value, "data": {"condition": {"kind": "inpaint"}, **value["data"]}}
        return value if "schedule" in value else {**value, "schedule": dict(_NO_SCHEDULE)}


# What stands for the schedule of a model that is fitted.
_NO_SCHEDULE = {"num_images": 1, "learning_rate": 1.0}


def load_model_recipe(path: Path) -> ModelRecipe:
    """Raises RecipeError with file, line and field."""
    return parse_model_recipe(load_bytes(path), source=str(path))


def parse_model_recipe(text: bytes, *, source: str) -> ModelRecipe:
    """source: the file's name, for messages. Raises InvalidRecipe with every problem, by line."""
    recipe, lines = parse_as(ModelRecipe, text, source=source)
    names = recipe.data.class_names
    if len({name.lower() for name in names}) != len(names):
        field = "data.class_names"
        expected = "each name once, upper and lower case being equal"
        raise InvalidRecipe([Problem(field, names, expected, lines.get(field))], source=source)
    trainable = [
        name
        for name, spec in GENERATORS.items()
        # Models of any class learn from captions, which no model recipe has.
        if spec.needs_weights and (name in FITTED_GENERATORS or not takes_any_class(spec))
    ]
    if recipe.generator not in trainable:
        known = recipe.generator in GENERATORS
        hint = "" if known else suggest(recipe.generator, trainable)
        expected = f"one of {', '.join(trainable)}{hint}"
        problem = Problem("generator", recipe.generator, expected, lines.get("generator"))
        raise InvalidRecipe([problem], source=source)
    _check_condition(recipe, lines, source=source)
    if recipe.privacy is not None and recipe.init is not None:
        expected = "no model to start from, or no privacy: what it learned would not be counted"
        raise InvalidRecipe(
            [Problem("init", recipe.init, expected, lines.get("init"))], source=source
        )
    if recipe.privacy is not None and recipe.generator not in PRIVATE_GENERATORS:
        expected = f"one of {', '.join(PRIVATE_GENERATORS)}, which train privately; or no privacy"
        problem = Problem("generator", recipe.generator, expected, lines.get("generator"))
        raise InvalidRecipe([problem], source=source)
    if recipe.privacy is not None:
        for field in sorted(recipe.schedule.model_fields_set & _NOT_PRIVATE):
            name = f"schedule.{field}"
            expected = "no such field: a private training draws, clips and ends by its privacy"
            value = getattr(recipe.schedule, field)
            raise InvalidRecipe([Problem(name, value, expected, lines.get(name))], source=source)
    _check_options(recipe.generator, text, source=source)
    return recipe


def _check_condition(recipe: ModelRecipe, lines: Mapping[str, int], *, source: str) -> None:
    """That the generator takes it, or can be fitted to it. Raises InvalidRecipe."""
    condition, generator = recipe.data.condition, recipe.generator
    problem: tuple[str, Any, str] | None = None
    if recipe.is_fitted:
        if condition is None:
            problem = ("data.condition", None, "what the model is fitted to, like {kind: mask}")
        elif recipe.schedule.model_dump(exclude_defaults=True) != _NO_SCHEDULE:
            problem = ("schedule", "given", f"left out: generator {generator} is fitted at once")
        elif recipe.init is not None or recipe.privacy is not None:
            field = "init" if recipe.init is not None else "privacy"
            problem = (field, "given", f"left out: generator {generator} is fitted to its data")
    elif condition is not None and condition.kind not in KINDS_TAKEN.get(generator, ()):
        able = [name for name, kinds in KINDS_TAKEN.items() if condition.kind in kinds]
        problem = ("generator", generator, f"one that takes a {condition.kind}: {', '.join(able)}")
    elif condition is not None and recipe.privacy is not None:
        problem = ("privacy", "given", "left out, or no data.condition: it would not be private")
    elif generator == "spade" and condition is None:
        problem = ("data.condition", None, "label maps for spade, like {kind: mask, names: [...]}")
    if problem is not None:
        field, value, expected = problem
        raise InvalidRecipe([Problem(field, value, expected, lines.get(field))], source=source)


def _check_options(generator: str, text: bytes, *, source: str) -> None:
    """Reads the text once more, by a schema in which network and objective are the generator's:
    its faults then carry field and line like all others."""
    spec = GENERATORS[generator]
    schema = create_model(
        f"{generator.capitalize()}Recipe",
        __base__=ModelRecipe,
        network=(spec.network_options, Field(default_factory=spec.network_options)),
        objective=(spec.objective_options, Field(default_factory=spec.objective_options)),
    )
    parse_as(schema, text, source=source)


def model_recipe_digest(recipe: ModelRecipe) -> str:
    """Of all that shapes the weights at a given step: not of how long to train, nor of where the
    data lie, so that a run may be prolonged. A private one may not: its noise is for its length."""
    content = recipe.model_dump(mode="json")
    del content["data"]["path"], content["data"]["registered"], content["description"]
    given = recipe.data.model_dump(exclude_defaults=True)
    for field in _LATER_DATA_FIELDS - given.keys():
        del content["data"][field]
    if recipe.data.condition is not None:
        content["data"]["condition"].pop("path")
        if not recipe.data.condition.colours:
            del content["data"]["condition"]["colours"]
    if recipe.is_fitted:
        del content["schedule"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    set_later = recipe.schedule.model_dump(exclude_defaults=True)
    for field in _LATER_SCHEDULE_FIELDS - set_later.keys():
        del content["schedule"][field]
    if recipe.init is None:
        del content["init"]
    if recipe.privacy is None:
        del content["privacy"]
        if recipe.schedule.decay != "cosine":
            del content["schedule"]["num_images"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
