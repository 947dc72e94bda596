"""marks.json comes from anywhere: what is no review of this very version is told and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.catalog.rows import VersionRow
from datagen.errors import InputError
from datagen.review import Marks, check_marks, load_marks, parse_marks

SOUND = {"format": 1, "dataset": "small", "version": 2, "digest": "ab" * 32}
MARKS = {"cat-00000001": "drop", "cat-00000002": "keep", "dog-00000003": "wrong_label"}


def parsed(changes: dict[str, Any]) -> Marks:
    content = {**SOUND, "marks": MARKS} | changes
    return parse_marks(json.dumps(content).encode(), source="marks.json")


def test_drop_and_wrong_label_reject_and_keep_does_not() -> None:
    marks = parsed({})
    assert marks.rejected == ["cat-00000001", "dog-00000003"]
    assert marks.summary() == {"keep": 1, "drop": 1, "wrong_label": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"marks": {"cat-1": "dorp"}}, r"marks\.cat-1: 'dorp': expected a mark: .*mean 'drop'"),
        ({"marks": {"cat-1": 1}}, r"marks\.cat-1: 1: expected a mark: keep, drop, wrong_label$"),
        ({"marks": [1]}, "marks: .*: expected a mapping such as"),
        ({"format": 2}, "format: 2: expected 1, the format of the file"),
        ({"version": "2"}, "version: '2': expected the number"),
        ({"mark": {}}, "mark: .*: expected a mapping of .*; did you mean 'marks'"),
    ],
)
def test_a_fault_is_told_with_its_field_and_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        parsed(changes)
    assert str(told.value).startswith("marks.json: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe", "marks.json: not JSON"),
        (b"{", "marks.json: not JSON"),
        (b"[]", r"^marks.json: \[\]: expected a mapping of format, dataset"),
        (
            json.dumps({**SOUND, "marks": {"a-1": "drop"}}).encode()[:-2] + b', "a-1": "keep"}}',
            "marks.json: 'a-1' is there twice: expected each name once",
        ),
        (b"[" * 100_000, "marks.json: "),
        (json.dumps(SOUND).encode(), "marks.json: marks: nothing given: expected a mapping such"),
    ],
)
def test_what_is_no_marks_file_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_marks(text, source="marks.json")


@pytest.mark.parametrize(
    ("field", "value"), [("dataset", "other"), ("version", 3), ("digest", "cd" * 32)]
)
def test_marks_of_another_version_are_refused(field: str, value: Any) -> None:
    row = VersionRow(
        *("small", 2, 1, "ab" * 32, "", 1, 1, 1.0, 1.0, "", "local"),
        *(None, None, None, None, None),
    )
    check_marks(parsed({}), row, source="marks.json")
    with pytest.raises(InputError, match=f"marks.json: {field}: .* of another version"):
        check_marks(parsed({field: value}), row, source="marks.json")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.json"):
        with pytest.raises(InputError, match="not a file"):
            load_marks(path)
