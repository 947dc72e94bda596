"""WebDataset tars, such as {split}-{index}.tar: each image beside its label.

Reads what `datagen pull` writes, and tars of others, whose label is a .cls or in the .json: as
class_name, label or cls. Beside an image there may lie a label map, KEY.mask.png, and a picture
that it is to be made from, KEY.condition.png. Called by opening.py.
"""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.image_files import Picture, read_picture
from datagen.real_images.listing import (
    FORMATS,
    MAX_IMAGES,
    Entry,
    Listing,
    class_order,
    unlabelled_notes,
)
from datagen.real_images.pairs import mask_of

Content = TypeVar("Content")

_SUFFIXES = ("png", "jpg", "jpeg", "webp")
_MAX_IMAGE_BYTES, _MAX_JSON_BYTES, _MAX_LABEL_BYTES = 256 << 20, 1 << 20, 1 << 10
_LABELS = ("class_name", "label", "cls")
_MAX_CLASSES = 1000
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
    bare = [entry.name for entry in entries if not entry.class_name]
    labelled = [entry for entry in entries if entry.class_name]
    notes = unlabelled_notes(root, bare, len(entries))
    return Listing(labelled, _class_names(labelled), notes)


def _class_names(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Of numbers, those of no image too: each then keeps its place in a list of names."""
    names = class_order(entry.class_name for entry in entries)
    if names and names[-1].isdecimal() and int(names[-1]) < _MAX_CLASSES:
        return tuple(str(label) for label in range(int(names[-1]) + 1))
    return names


def _split(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    return match["split"] if match else ""


def _entries(path: Path) -> Iterator[Entry]:
    """Reads headers and labels alone; the images stay where they are. An image without a label
    has an empty class name."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, str] = {}
    records: dict[str, dict[str, Any]] = {}
    beside: dict[str, dict[str, tarfile.TarInfo]] = {"mask.png": {}, "condition.png": {}}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            folder, slash, name = member.name.rpartition("/")
            key, _, suffix = name.partition(".")
            key = folder + slash + key
            if not member.isreg():
                continue
            if suffix in ("mask.png", "condition.png"):
                beside[suffix][key] = member
            elif suffix == "cls":
                labels[key] = _text(tar, member)
            elif suffix == "json":
                records[key] = _record(tar, member)
            elif suffix.lower() in _SUFFIXES:
                images[key] = member
    for key, member in images.items():
        record = records.get(key, {})
        attributes = {str(k): str(v) for k, v in record.get("attributes", {}).items()}
        mask, picture = beside["mask.png"].get(key), beside["condition.png"].get(key)
        label = labels.get(key) or _label(record)
        group = record.get("group")
        yield Entry(
            member.name,
            label,
            _reader(_read, path, member),
            group=None if group is None else str(group),
            attributes=attributes,
            read_mask=None if mask is None else _reader(_read_mask, path, mask),
            read_condition=None if picture is None else _reader(_read, path, picture),
            spacing_mm=_spacing(record),
        )


def _spacing(record: dict[str, Any]) -> tuple[float, float] | None:
    """As datagen writes it: labels.spacing_mm."""
    labels = record.get("labels")
    found = labels.get("spacing_mm") if isinstance(labels, dict) else None
    if not (isinstance(found, list) and len(found) == 2):
        return None
    rows, columns = (float(side) if isinstance(side, (int, float)) else 0.0 for side in found)
    return (rows, columns) if 0 < rows < math.inf and 0 < columns < math.inf else None


def _label(record: dict[str, Any]) -> str:
    """Empty if there is none."""
    found = next((record[name] for name in _LABELS if name in record), None)
    is_label = isinstance(found, (str, int)) and not isinstance(found, bool)
    return str(found).strip() if is_label else ""


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member)
    if file is None or member.size > _MAX_LABEL_BYTES:
        raise InputError(f"{member.name}: {member.size} bytes; expected a label")
    return file.read().decode("utf-8").strip()


def _record(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    file = tar.extractfile(member)
    if file is None or member.size > _MAX_JSON_BYTES:
        raise InputError(f"{member.name}: {member.size} bytes; expected a short JSON file")
    record = json.loads(file.read())
    if not isinstance(record, dict) or not isinstance(record.get("attributes", {}), dict):
        raise InputError(f"{member.name}: expected a JSON object, its attributes one too")
    return dict(record)


def _reader(
    read: Callable[[Path, int, int, str], Content], path: Path, member: tarfile.TarInfo
) -> Callable[[], Content]:
    return partial(read, path, member.offset_data, member.size, member.name)


def _read(path: Path, offset: int, size: int, name: str) -> Picture:
    data = _bytes(path, offset, size, name)
    return read_picture(io.BytesIO(data), formats=FORMATS, name=name)


def _read_mask(path: Path, offset: int, size: int, name: str) -> NDArray[np.uint8]:
    return mask_of(_bytes(path, offset, size, name), name=name)


def _bytes(path: Path, offset: int, size: int, name: str) -> bytes:
    if size > _MAX_IMAGE_BYTES:
        raise InputError(f"{name}: {size} bytes; expected at most {_MAX_IMAGE_BYTES}")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
