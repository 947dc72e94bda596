"""The recipe: the only schema of what is asked for. YAML or JSON in, canonical JSON and digest out.

Called by resolve.py and cli.py (load_recipe), by whatever reports a fault in a recipe
(field_error), and by all that writes JSON whose bytes count (canonical_json). Input is hostile:
it is bounded before it is read, and only ever becomes plain values or a RecipeError.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

import yaml
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
from pydantic_core import ErrorDetails, PydanticCustomError

from datagen.errors import RecipeError

MAX_BYTES = 1 << 20
MAX_NODES = 100_000  # 10,000 classes with five attributes each are 90,000
MAX_DEPTH = 16
MAX_PROBLEMS = 50
MAX_IMAGES = 100_000_000
MAX_TEXT = 1000

Place = tuple[str | int, ...]
Fault = tuple[Place, Any, str]  # where, the value, what was expected
Schema = TypeVar("Schema", bound=BaseModel)

# --- faults ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One fault. field: like classes[1].count, "" is the recipe as a whole.

    expected: completes "expected ...". text: how the file spells a value that was read as
    something other than text.
    """

    field: str
    value: Any
    expected: str
    line: int | None = None
    text: str | None = None

    def describe(self, source: str | None) -> str:
        place = [] if source is None else [source if self.line is None else f"{source}:{self.line}"]
        shown = _show(self.value)
        if self.text is not None and self.text != shown:
            text = self.text[:120]
            shown = text if self.value == self.text else f"{text} (read as {shown})"
        return ": ".join([*place, self.field or "recipe", shown, f"expected {self.expected}"])


class InvalidRecipe(RecipeError):
    """A recipe with its faults, one line of the message each. num_problems counts those cut off."""

    def __init__(
        self, problems: Iterable[Problem], *, source: str | None = None, num_problems: int = 0
    ) -> None:
        self.problems = tuple(problems)
        self.source = source
        self.num_problems = max(num_problems, len(self.problems))
        lines = [problem.describe(source) for problem in self.problems]
        if self.num_problems > len(lines):
            lines.append(f"... and {self.num_problems - len(lines)} more")
        super().__init__("\n".join(lines))


def field_error(field: str, value: Any, expected: str) -> InvalidRecipe:
    """A fault that only resolving can see; RecipeDocument.locate adds file and line."""
    return InvalidRecipe([Problem(field, value, expected)])


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" with the nearest known word, or ""."""
    by_folded = {_fold(name): name for name in known}
    nearest = get_close_matches(_fold(word[:64]), by_folded, n=1)
    return f"; did you mean '{by_folded[nearest[0]]}'?" if nearest else ""


def _fold(word: str) -> str:
    return word.casefold().replace("_", "-")


def _show(value: Any) -> str:
    """One short printable line, whatever the value."""
    if value is None:
        return "nothing given"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"a mapping of {len(value)}"
    if isinstance(value, (list, tuple)):
        short = f"[{', '.join(_show(item) for item in value[:4])}]"
        return short if len(value) <= 4 and len(short) <= 80 else f"a list of {len(value)}"
    text = repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


# --- rules inside the schema ----------------------------------------------------------------------


def _refuse(faults: Iterable[Fault]) -> None:
    """Raises, for pydantic, the faults found, each with its place below the field."""
    found = list(faults)
    if found:
        first, value, expected = found[0]
        summary = f"{_join(first)}: {_show(value)}: expected {expected}"
        raise PydanticCustomError("recipe_rule", "{summary}", {"summary": summary, "found": found})


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


def _plain_faults(value: Any, path: Place, depth: int) -> Iterator[Fault]:
    """Faults of a value that ought to be plain JSON; depth: how many containers may nest."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT or _CONTROL.search(value):
            yield path, value, f"text of at most {MAX_TEXT} characters, none of them control"
    elif isinstance(value, (list, tuple, dict)):
        if depth == 0:
            yield path, value, "a single value: text, a number, true or false"
            return
        if len(value) > 1000:
            yield path, value, "at most 1000 entries"
            return
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not (isinstance(key, str) and _WORD.fullmatch(key)):
                yield (*path, key), item, "a key of 1 to 63 letters, digits, '_' and '-'"
            else:
                yield from _plain_faults(item, (*path, key), depth - 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path, value, "a whole number of at most 63 bits"
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, value, "a finite number"
    elif not isinstance(value, (int, float)):
        yield path, value, "text, a number, true or false"


def _ordered(value: Any) -> Any:
    """Sorts the keys: what iterates over them must not see the order in the file."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    return [_ordered(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain_mapping(depth: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, dict):
            _refuse(_plain_faults(value, (), depth))
            return _ordered(value)
        return value

    return BeforeValidator(check)


def _check_classes(classes: tuple[ClassRequest, ...]) -> tuple[ClassRequest, ...]:
    _refuse(_repeated(((i, "name"), c.name) for i, c in enumerate(classes)))
    total = sum(c.count for c in classes)
    if total > MAX_IMAGES:
        _refuse([((), total, f"at most {MAX_IMAGES} images over all classes; split the recipe")])
    return classes


def _check_filters(filters: tuple[FilterRequest, ...]) -> tuple[FilterRequest, ...]:
    _refuse(_repeated(((i, "filter"), f.filter) for i, f in enumerate(filters)))
    return filters


def _check_formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    _refuse(_repeated(((i,), name) for i, name in enumerate(formats)))
    return formats


def _repeated(names: Iterable[tuple[Place, str]]) -> Iterator[Fault]:
    """Names become folders, and some file systems fold case: names equal but for case repeat."""
    seen: dict[str, str] = {}
    for path, name in names:
        if name.lower() in seen:
            first = seen[name.lower()]
            yield path, name, f"each name once, whatever its case; '{first}' stands above"
        else:
            seen[name.lower()] = name


def _only_int(value: Any) -> Any:
    return value if type(value) is int else str(value)


def _check_ratios(ratios: dict[str, float]) -> dict[str, float]:
    total = math.fsum(ratios.values())
    if abs(total - 1) > 1e-6:
        _refuse([((), round(total, 9), "ratios that sum to 1")])
    return {name: ratios[name] for name in sorted(ratios)}


# --- the schema: each description completes "expected ..." ----------------------------------------

_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
_NAME_TEXT = "1 to 63 lower-case letters, digits and '-', the first not '-'"
_Count = Annotated[int, Field(strict=True)]
_Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassRequest(_Part):
    """One class and how many images of it."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="1 to 63 letters, digits, '-' and '_', the first a letter or digit",
    )
    count: _Count = Field(
        ge=1, le=10_000_000, description="a whole number of images from 1 to 10000000"
    )
    attributes: Annotated[dict[str, str | bool | int | float], _plain_mapping(1)] = Field(
        default_factory=dict,
        max_length=32,
        description="a mapping of at most 32 attributes to text, a number, true or false",
    )


class _Optioned(BaseModel):
    """A named part with options; resolve checks them by the part's own schema."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="before")
    @classmethod
    def _options_are_plain(cls, value: Any) -> Any:
        if isinstance(value, dict):
            options = {key: item for key, item in value.items() if key not in cls.model_fields}
            _refuse(_plain_faults(options, (), 3))
            return {**value, **_ordered(options)}
        return value


class GeneratorRequest(_Optioned):
    """Which model makes the images; all further fields are options of its generator."""

    model: str = Field(pattern=_NAME, description=f"the name of a model: {_NAME_TEXT}")


class FilterRequest(_Optioned):
    """One filter; all further fields are its options."""

    filter: str = Field(pattern=_NAME, description=f"the name of a filter: {_NAME_TEXT}")


class AugmentationRequest(_Part):
    """One transform, applied to an image with probability p."""

    transform: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9]{0,62}$",
        description="the name of a transform: 1 to 63 letters and digits",
    )
    p: _Real = Field(default=0.5, gt=0, le=1, description="a probability above 0, at most 1")
    params: Annotated[dict[str, Any], _plain_mapping(4)] = Field(
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


class Conditioning(_Part):
    """What the images are conditioned on beside their class: nothing in this version."""


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
        default=Conditioning(), description="{}: no conditioning in this version"
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

    @property
    def num_images(self) -> int:
        return sum(request.count for request in self.classes)

    def to_json(self) -> dict[str, Any]:
        """Plain values with every default filled in."""
        return self.model_dump(mode="json")


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
        located = [replace(p, line=_line_of(self.lines, p.field)) for p in error.problems]
        return InvalidRecipe(
            sorted(located, key=lambda p: p.line or 0),
            source=self.source,
            num_problems=error.num_problems,
        )


def load_recipe(path: Path) -> RecipeDocument:
    """Raises RecipeError if the file is absent, not a plain file, too large or not a recipe."""
    return parse_recipe(load_bytes(path), source=str(path))


def load_bytes(path: Path) -> bytes:
    """Raises RecipeError; never waits for a pipe and never reads more than MAX_BYTES + 1."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise RecipeError(f"{path}: not a plain file; give the path of a YAML or JSON file")
        _check_size(status.st_size, str(path))
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(
            f"{str(path)!r}: cannot be read ({reason}); give the path of a YAML or JSON file"
        ) from None


def parse_recipe(text: bytes, *, source: str) -> RecipeDocument:
    """Raises InvalidRecipe with every problem, by line. source: the file's name, for messages."""
    recipe, lines = parse_as(Recipe, text, source=source)
    return RecipeDocument(recipe, source, lines)


def parse_as(schema: type[Schema], text: bytes, *, source: str) -> tuple[Schema, dict[str, int]]:
    """YAML or JSON text to a model of the schema, with the line of each field.

    Model recipes may come this way too. Raises InvalidRecipe.
    """
    _check_size(len(text), source)
    reader = _Reader(source)
    values = reader.read(text)
    details: list[ErrorDetails] = []
    try:
        model = schema.model_validate(values)
        if not reader.problems:
            return model, reader.lines
    except ValidationError as error:
        details = [d for d in error.errors(include_url=False) if not _is_echo(d)]
    problems = _problems_of(details, schema, values, reader)
    raise reader.refusal(problems, num_hidden=max(0, len(details) - MAX_PROBLEMS))


def _check_size(size_bytes: int, source: str) -> None:
    if size_bytes > MAX_BYTES:
        size = f"{size_bytes} bytes"
        problem = Problem("", size, f"at most {MAX_BYTES} bytes", text=size)
        raise InvalidRecipe([problem], source=source)


# Scalars are read as YAML 1.2 and JSON read them. What YAML 1.1 takes for a truth value or for
# another number is refused, not guessed: NO may be Norway, 010 may be 8.
_NULL = frozenset(["", "~", "null", "Null", "NULL"])
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_DISPUTED_BOOL = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_DISPUTED_NUMBER = re.compile(
    r"[-+]?(0[0-9_]+|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+"
    r"|[0-9]+_[0-9_]*(\.[0-9_]*)?|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)"
)
_UNREADABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LINE_END = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_SURROGATE_PAIR = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)


class _Reader:
    """YAML events to plain values: bounded, without anchors, tags or objects.

    lines: the line of each field. texts: the spelling of scalars that are not read as text.
    """

    def __init__(self, source: str) -> None:
        self.lines: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._source = source
        self._num_nodes = 0
        self._last_line = 0  # what is missing at the end, libyaml puts a line below it

    def read(self, text: bytes) -> Any:
        decoded = self._decode(text)
        self._last_line = len(_LINE_END.findall(decoded.rstrip()))
        # libyaml scans 1 MB in a fraction of a second, the Python scanner in ten.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(decoded)
        try:
            loader.get_event()  # the stream's start
            if isinstance(loader.get_event(), yaml.StreamEndEvent):
                return None
            value = self._build(loader, loader.get_event(), "", 0)
            loader.get_event()  # the document's end
            after = loader.get_event()
            if not isinstance(after, yaml.StreamEndEvent):
                self._fail(after.start_mark.line, "a second document", "one document in the file")
            return value
        except yaml.YAMLError as error:
            self._fail_syntax(decoded, error)
        finally:
            loader.dispose()

    def refusal(self, more: Iterable[Problem], *, num_hidden: int = 0) -> InvalidRecipe:
        """All problems by line. At each field the first one stands: others follow from it."""
        by_field: dict[str, Problem] = {}
        for problem in [*self.problems, *more]:
            by_field.setdefault(problem.field, problem)
        ranked = sorted(by_field.values(), key=lambda problem: problem.line or 0)
        return InvalidRecipe(
            ranked[:MAX_PROBLEMS], source=self._source, num_problems=len(ranked) + num_hidden
        )

    def _decode(self, text: bytes) -> str:
        try:
            decoded = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start)
            self._fail(line, f"byte 0x{error.object[error.start]:02x}", "UTF-8 text")
        odd = _UNREADABLE.search(decoded)
        if odd:
            line = decoded.count("\n", 0, odd.start())
            self._fail(line, _show(odd[0]), "text without control characters")
        return _SURROGATE_PAIR.sub(_join_surrogates, decoded)

    def _fail_syntax(self, text: str, error: yaml.YAMLError) -> NoReturn:
        """The scanner notices late: where it began to look is said as well."""
        mark, start = (getattr(error, f"{m}_mark", None) for m in ("problem", "context"))
        line = min(mark.line if mark else 0, self._last_line)
        near = _LINE_END.split(text, line + 1)[line]
        reason = getattr(error, "problem", None) or "a character cannot be read"
        if start and start.line < line:
            reason += f", {getattr(error, 'context', '')} that begins in line {start.line + 1}"
        if near.lstrip(" ").startswith("\t"):
            reason = "a tab indents this line, where only spaces may"
        self._fail(line, _show(near), f"valid YAML or JSON; {reason}")

    def _fail(self, line: int, found: str, expected: str) -> NoReturn:
        raise self.refusal([Problem("", found, expected, line + 1, found)]) from None

    def _note(
        self, field: str, line: int, value: Any, expected: str, *, text: str | None = None
    ) -> None:
        self.problems.append(Problem(field, value, expected, line + 1, text))

    def _build(self, loader: Any, event: Any, field: str, depth: int) -> Any:
        line = min(event.start_mark.line, self._last_line)
        self.lines.setdefault(field, line + 1)
        self._num_nodes += 1
        if self._num_nodes > MAX_NODES:
            self._fail(line, "more values", f"at most {MAX_NODES} values in the file")
        if depth > MAX_DEPTH:
            self._fail(line, "deeper nesting", f"at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            alias = f"*{event.anchor}"
            self._note(field, line, alias, "the value itself: aliases are refused", text=alias)
            return None
        if event.anchor is not None:
            anchor = f"&{event.anchor}"
            self._note(field, line, anchor, "no anchor: anchors are refused", text=anchor)
        if event.tag is not None:
            self._note(field, line, event.tag, "no tag: tags are refused; quotes make text")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(loader, field, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(loader, field, depth)
        return self._scalar(event.value, field, line) if event.implicit[0] else event.value

    def _sequence(self, loader: Any, field: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := loader.get_event(), yaml.SequenceEndEvent):
            items.append(self._build(loader, event, _member(field, len(items)), depth + 1))
        return items

    def _mapping(self, loader: Any, field: str, depth: int) -> dict[str, Any]:
        """Keys are text as the file spells it, whatever type they would have as values."""
        values: dict[str, Any] = {}
        while not isinstance(event := loader.get_event(), yaml.MappingEndEvent):
            line = event.start_mark.line
            if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
                self._fail(line, "a key that is not plain text", "the name of a field before ':'")
            member = _member(field, event.value)
            first = self.lines.setdefault(member, line + 1)
            value = self._build(loader, loader.get_event(), member, depth + 1)
            if event.value in values:
                self._note(member, line, value, f"this field once; line {first} has it already")
            values.setdefault(event.value, value)
        return values

    def _scalar(self, text: str, field: str, line: int) -> Any:
        """A scalar without quotes. None stands in for a refused one."""
        value: Any
        if text in _NULL:
            value = None
            if not text:
                return None
        elif text in _BOOL:
            value = _BOOL[text]
        elif _DISPUTED_BOOL.fullmatch(text):
            taken = text.lower() in ("yes", "on")
            expected = (
                f"'{text}' in quotes, or true or false: YAML readers disagree on the bare word"
            )
            self._note(field, line, taken, expected, text=text)
            return None
        elif _INT.fullmatch(text):
            value = int(text)
        elif _DISPUTED_NUMBER.fullmatch(text):
            expected = (
                "a plain decimal number, or text in quotes: YAML readers disagree on this one"
            )
            self._note(field, line, text, expected, text=text)
            return None
        elif _FLOAT.fullmatch(text):
            value = float(text)
        elif special := _NOT_FINITE.fullmatch(text):
            value = float(special[1] + special[2])
        else:
            return text
        self.texts[field] = text
        return value


def _join_surrogates(match: re.Match[str]) -> str:
    r"""JSON writes what lies above U+FFFF as two \u escapes; YAML knows \U alone."""
    high, low = int(match[2], 16), int(match[3], 16)
    return f"{match[1]}\\U{0x10000 + ((high - 0xD800) << 10) + low - 0xDC00:08x}"


# --- from pydantic's faults to ours ---------------------------------------------------------------


def _is_echo(detail: ErrorDetails) -> bool:
    """Whether a list is called too short because its items, faults of their own, do not count."""
    return detail["type"] == "too_short" and len(detail["input"]) > detail["ctx"]["actual_length"]


def _problems_of(
    details: Sequence[ErrorDetails], schema: type[BaseModel], values: Any, reader: _Reader
) -> list[Problem]:
    """The first MAX_PROBLEMS faults by line; a rule inside the schema may bring several each."""
    placed = []
    for detail in details:
        path = _path_in(values, detail["loc"], missing=detail["type"] == "missing")
        placed.append((_line_of(reader.lines, _join(path)), path, detail))
    problems = []
    for _, path, detail in sorted(placed, key=lambda entry: entry[0])[:MAX_PROBLEMS]:
        for place, value, expected in _faults_of(detail, schema, values, path):
            field = _join(place)
            text = reader.texts.get(field)
            if text and detail["type"] == "string_type":
                expected += f"; to give it as text write it in quotes, '{text[:80]}'"
            line = _line_of(reader.lines, field)
            problems.append(Problem(field, value, expected, line, text))
    return problems


def _faults_of(
    detail: ErrorDetails, schema: type[BaseModel], values: Any, path: Place
) -> list[Fault]:
    if detail["type"] == "recipe_rule":
        return [((*path, *below), value, text) for below, value, text in detail["ctx"]["found"]]
    return [(path, _value_at(values, path), _expected(schema, path, detail))]


def _path_in(values: Any, loc: Place, *, missing: bool) -> Place:
    """The part of pydantic's loc that exists: it also names members of unions and "[key]"."""
    for depth, part in enumerate(loc):
        inside = _child(values, part)
        if inside is None:
            return loc[: depth + 1] if missing else loc[:depth]
        values = inside[0]
    return loc


def _value_at(values: Any, path: Place) -> Any:
    for part in path:
        inside = _child(values, part)
        values = inside[0] if inside else None
    return values


def _child(values: Any, part: str | int) -> tuple[Any] | None:
    if isinstance(values, dict) and part in values:
        return (values[part],)
    if isinstance(values, list) and isinstance(part, int) and part < len(values):
        return (values[part],)
    return None


def _expected(schema: type[BaseModel], path: Place, detail: ErrorDetails) -> str:
    """The description of the field at the path, or what pydantic says where there is none."""
    model: type[BaseModel] | None = schema
    text: str | None = f"a mapping of fields: {', '.join(schema.model_fields)}"
    for part in path:
        if not isinstance(part, str) or model is None:
            continue  # an item of a list or mapping: what is said of the whole holds for it
        if part not in model.model_fields:
            known = list(model.model_fields)
            return f"a known field ({', '.join(known) or 'there is none'}){suggest(part, known)}"
        text = model.model_fields[part].description
        model = _model_in(model.model_fields[part].annotation)
    text = text or detail["msg"].removeprefix("Input should be ")
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        return text + suggest(detail["input"], re.findall("'(.*?)'", detail["ctx"]["expected"]))
    if detail["type"] in ("int_type", "float_type") and isinstance(detail["input"], str):
        return f"{text}, without quotes"
    return text


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _join(path: Place) -> str:
    field = ""
    for part in path:
        field = _member(field, part)
    return field


def _member(field: str, part: str | int) -> str:
    """classes, 1, name => classes[1].name; keys that are no plain word are quoted."""
    if isinstance(part, str) and _WORD.fullmatch(part):
        return f"{field}.{part}" if field else part
    return f"{field}[{part if isinstance(part, int) else _show(part)}]"


def _line_of(lines: Mapping[str, int], field: str) -> int:
    """The line of the field, or of the nearest one around it."""
    while field and field not in lines:
        field = field[: max(field.rfind("."), field.rfind("["), 0)]
    return lines.get(field, 1)


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
