"""Patients and attributes beside a folder of images: metadata.csv, or the metadata.jsonl that
`datagen pull --format imagefolder` writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.errors import InputError
from datagen.real_images.listing import NOT_GIVEN

_MAX_BYTES = 256 << 20
_FILE_COLUMNS = ("file", "file_name")
# What says the class again, or numbers the image, is no attribute.
_NO_ATTRIBUTES = (*_FILE_COLUMNS, "group", "label", "class", "class_name", "ordinal", "key")


@dataclass(frozen=True, slots=True)
class Row:
    group: str | None
    attributes: Mapping[str, str]


def read_metadata(folder: Path) -> dict[str, Row]:
    """File name, relative to the folder -> its row; empty if there is no such file.

    Raises InputError.
    """
    for name, read in (("metadata.csv", _csv_rows), ("metadata.jsonl", _json_rows)):
        path = folder / name
        if not path.is_file():
            continue
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"data file {path}: above {_MAX_BYTES >> 20} MiB; split the data")
        try:
            return _by_file(path, read(path))
        except (OSError, csv.Error, ValueError, RecursionError) as error:
            raise InputError(f"data file {path} cannot be read: {error}") from None
    return {}


def _by_file(path: Path, rows: Iterator[dict[str, str]]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for number, row in enumerate(rows, start=1):
        name = next((row[c] for c in _FILE_COLUMNS if row.get(c)), None)
        if name is None:
            raise InputError(
                f"data file {path}, row {number}: no file is named; expected a column `file` with "
                "paths relative to the folder, such as cat/001.png, beside `group` and attributes"
            )
        name = Path(name.replace("\\", "/")).as_posix()
        if name in found:
            raise InputError(f"data file {path}, row {number}: {name} is named twice; keep one")
        attributes = {k: v or NOT_GIVEN for k, v in row.items() if k not in _NO_ATTRIBUTES}
        found[name] = Row(row.get("group") or None, attributes)
    return found


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            yield {str(k).strip(): str(v or "").strip() for k, v in row.items() if k is not None}


def _json_rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            content = json.loads(line)
            if not isinstance(content, dict):
                raise ValueError("expected one JSON object a line")
            yield {k: str(v) for k, v in content.items() if k != "attributes"} | _attributes(
                content.get("attributes")
            )


def _attributes(value: Any) -> dict[str, str]:
    parsed = json.loads(value) if isinstance(value, str) else value
    return {str(k): str(v) for k, v in parsed.items()} if isinstance(parsed, dict) else {}
