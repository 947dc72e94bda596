"""A pulled data set: WebDataset tars named {split}-{index}.tar, each image beside its JSON.

Reads what `datagen pull` writes, and tars of others whose JSON names `class_name`.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from datagen.errors import InputError
from datagen.image_files import Picture, read_picture
from datagen.real_images.listing import FORMATS, MAX_IMAGES, Entry, Listing

_SUFFIXES = ("png", "jpg", "jpeg", "webp")
_MAX_IMAGE_BYTES, _MAX_JSON_BYTES = 256 << 20, 1 << 20
_NAME = re.compile(r"(?P<split>[A-Za-z0-9_]+)-[0-9]+\.tar")


def tar_parts(root: Path) -> tuple[str, ...]:
    """The splits that the tars are named by; one without a name if they are named otherwise."""
    splits = [_split(path) for path in sorted(root.glob("*.tar"))]
    return tuple(dict.fromkeys(splits))


def list_tars(root: Path, part: str) -> Listing:
    """Raises InputError."""
    entries: list[Entry] = []
    for path in sorted(root.glob("*.tar")):
        if _split(path) != part:
            continue
        try:
            entries += _entries(path)
        except (OSError, EOFError, ValueError, RecursionError, tarfile.TarError) as error:
            raise InputError(f"data file {path} cannot be read: {error}; pull it again") from None
        if len(entries) > MAX_IMAGES:
            raise InputError(f"data {root}: more than {MAX_IMAGES:,} images; split them")
    return Listing(entries, tuple(sorted({entry.class_name for entry in entries})))


def _split(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    return match["split"] if match else ""


def _entries(path: Path) -> Iterator[Entry]:
    """Reads headers and JSON alone; the images stay where they are."""
    images: dict[str, tarfile.TarInfo] = {}
    records: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            key, _, suffix = member.name.partition(".")
            if not member.isreg():
                continue
            if suffix == "json":
                records[key] = _record(tar, member)
            elif suffix.lower() in _SUFFIXES:
                images[key] = member
    for key, member in images.items():
        if key not in records:
            raise InputError(f"data file {path}: {member.name} has no {key}.json beside it")
        record = records[key]
        attributes = {str(k): str(v) for k, v in record.get("attributes", {}).items()}
        read = partial(_read, path, member.offset_data, member.size, name=member.name)
        yield Entry(member.name, record["class_name"], read, attributes=attributes)


def _record(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    file = tar.extractfile(member)
    if file is None or member.size > _MAX_JSON_BYTES:
        raise InputError(f"{member.name}: {member.size} bytes; expected a short JSON file")
    record = json.loads(file.read())
    sound = isinstance(record, dict) and isinstance(record.get("class_name"), str)
    if not sound or not isinstance(record.get("attributes", {}), dict):
        raise InputError(f"{member.name}: expected a JSON object with class_name")
    return dict(record)


def _read(path: Path, offset: int, size: int, *, name: str) -> Picture:
    if size > _MAX_IMAGE_BYTES:
        raise InputError(f"{name}: {size} bytes; expected at most {_MAX_IMAGE_BYTES}")
    with path.open("rb") as file:
        file.seek(offset)
        return read_picture(io.BytesIO(file.read(size)), formats=FORMATS, name=name)
