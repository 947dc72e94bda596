"""marks.json: what a reviewer said of single images in the report's gallery.

    {"format": 1, "dataset": NAME, "version": V, "digest": D,
     "marks": {"trouser-00000012": "drop", "bag-00000003": "wrong_label", ...}}

Called by refilter.py, which takes the images marked drop or wrong_label out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datagen.catalog.rows import VersionRow
from datagen.errors import InputError
from datagen.faults import Problem, join, show, suggest

FORMAT = 1
MAX_BYTES = 64 * 2**20  # a million marks
Mark = Literal["keep", "drop", "wrong_label"]
# Those that take an image out: a label that is wrong cannot be kept, whatever the image shows.
REJECTING: tuple[Mark, ...] = ("drop", "wrong_label")


class Marks(BaseModel):
    """dataset, version, digest: of the version that was looked at. marks: sample key -> mark."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal[1] = Field(description="1, the format of the file")
    dataset: str = Field(description="the name of the data set")
    version: int = Field(description="the number of the version")
    digest: str = Field(description="the version's digest")
    marks: dict[str, Mark] = Field(
        max_length=1_000_000, description='a mapping such as {"trouser-00000012": "drop"}'
    )

    @property
    def rejected(self) -> list[str]:
        """Keys of the images that go."""
        return [key for key, mark in self.marks.items() if mark in REJECTING]

    def count(self, mark: Mark) -> int:
        return sum(1 for each in self.marks.values() if each == mark)

    def summary(self) -> dict[str, int]:
        return {mark: self.count(mark) for mark in get_args(Mark)}


def load_marks(path: Path) -> bytes:
    """Raises InputError; reads at most MAX_BYTES + 1."""
    try:
        if not path.is_file():
            raise InputError(f"{path}: not a file; give the marks.json that the report saved")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES} bytes; expected the report's marks.json")
    return data


def parse_marks(data: bytes, *, source: str) -> Marks:
    """source: the file's name, for messages. Raises InputError that names field and value."""
    try:
        marks = Marks.model_validate_json(data)
        json.loads(data, object_pairs_hook=_without_repeats)
    except ValidationError as error:
        raise _refusal(error, source) from None
    except _RepeatedKeyError as error:
        raise InputError(
            f"{source}: {show(error.key)} is there twice: expected each name once; keep one"
        ) from None
    return marks


class _RepeatedKeyError(Exception):
    """Of an object: most readers, ours too, would take the last and say nothing."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(key)
        found[key] = value
    return found


def check_marks(marks: Marks, row: VersionRow, *, source: str) -> None:
    """Raises InputError unless they are of this very version."""
    name = f"{row.name}@{row.version}"
    for field, given, expected in (
        ("dataset", marks.dataset, row.name),
        ("version", marks.version, row.version),
        ("digest", marks.digest, row.digest),
    ):
        if given != expected:
            raise InputError(
                f"{source}: {field}: {given!r}: expected {expected!r}, of {name}: the marks are of "
                "another version; name the one whose report they were made in"
            )


def _refusal(error: ValidationError, source: str) -> InputError:
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return InputError(f"{source}: not JSON ({first['ctx']['error']})")
    place = [part for part in first["loc"] if part != "[key]"]
    value: Any = None if first["type"] == "missing" else first["input"]
    expected = _expected(place, value)
    if not place:  # a Problem of no field would speak of a recipe
        return InputError(f"{source}: {show(value)}: expected {expected}")
    return InputError(Problem(join(tuple(place)), value, expected).describe(source))


def _expected(place: list[Any], value: Any) -> str:
    fields = Marks.model_fields
    if len(place) > 1:
        known = get_args(Mark)
        hint = suggest(value, known) if isinstance(value, str) else ""
        return f"a mark: {', '.join(known)}{hint}"
    if place and place[0] in fields:
        return str(fields[place[0]].description)
    hint = suggest(str(place[0]), fields) if place else ""
    return f"a mapping of {', '.join(fields)}{hint}"
