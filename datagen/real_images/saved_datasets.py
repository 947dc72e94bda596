"""What Hugging Face's `Dataset.save_to_disk` and `DatasetDict.save_to_disk` leave, read without
that library. Called by opening.py.

Each part is a folder of Arrow streams beside dataset_info.json (the features) and state.json (the
files, in order). Source: huggingface/datasets, src/datasets/arrow_dataset.py, `save_to_disk`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datagen.errors import InputError
from datagen.image_files import Picture, read_picture
from datagen.real_images.listing import (
    FORMATS,
    MAX_IMAGES,
    Entry,
    Listing,
    class_order,
    part_called,
    unlabelled_notes,
)

if TYPE_CHECKING:
    import pyarrow as pa

_PARTS_FILE, _STATE_FILE, _FEATURES_FILE = "dataset_dict.json", "state.json", "dataset_info.json"
_MAX_JSON_BYTES, _MAX_IMAGE_BYTES = 16 << 20, 256 << 20


@dataclass(frozen=True)
class _Columns:
    """class_names: of a ClassLabel, else empty: the labels are the names. group: or None."""

    image: str
    label: str
    class_names: tuple[str, ...]
    group: str | None


def saved_parts(root: Path) -> dict[str, Path]:
    """part -> its folder; one part "" of a Dataset without splits; empty if it is neither."""
    if (root / _STATE_FILE).is_file() and (root / _FEATURES_FILE).is_file():
        return {"": root}
    if not (root / _PARTS_FILE).is_file():
        return {}
    splits = _json(root / _PARTS_FILE).get("splits")
    if not isinstance(splits, list):
        raise InputError(f"data file {root / _PARTS_FILE}: no list of splits; save it again")
    return {part_called(str(s)): root / _bare_name(str(s), root) for s in splits}


def list_saved(folder: Path) -> Listing:
    """folder: of one part. Raises InputError."""
    import pyarrow as pa

    columns = _columns(folder)
    files = _json(folder / _STATE_FILE).get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise InputError(f"data file {folder / _STATE_FILE}: no _data_files; save it again")
    found: list[Entry] = []
    for file in files:
        path = folder / _bare_name(str(file.get("filename")), folder)
        try:
            found += _entries(path, columns)
        except (OSError, KeyError, IndexError, ValueError, pa.ArrowException) as error:
            raise InputError(f"data file {path} cannot be read: {error}; save it again") from None
        if len(found) > MAX_IMAGES:
            raise InputError(f"data {folder}: more than {MAX_IMAGES:,} images; split them")
    entries = [entry for entry in found if entry.class_name]
    bare = [entry.name for entry in found if not entry.class_name]
    names = columns.class_names or class_order({entry.class_name for entry in entries})
    return Listing(entries, names, unlabelled_notes(folder, bare, len(found)))


def _entries(path: Path, columns: _Columns) -> Iterator[Entry]:
    """Of one Arrow stream, whose images stay in the file until they are read. An image without a
    label has an empty class name."""
    import pyarrow as pa

    wanted = [columns.image, columns.label, *([columns.group] if columns.group else [])]
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        row = 0
        for whole in stream:
            batch = whole.select(wanted)
            batch.validate(full=True)  # a hostile file's offsets could point anywhere
            images = batch.column(columns.image)
            groups = batch.column(columns.group).to_pylist() if columns.group else None
            for i, label in enumerate(batch.column(columns.label).to_pylist()):
                name = f"{path.name}-{row:07d}"
                group = None if groups is None or groups[i] is None else str(groups[i])
                read = partial(_read, images, i, name=name)
                yield Entry(name, _class_name(label, columns), read, group=group)
                row += 1


def _class_name(label: Any, columns: _Columns) -> str:
    """Raises ValueError if a number has no name. Unlabelled is None, or -1 of a ClassLabel."""
    if label is None or label == -1:
        return ""
    if not columns.class_names:
        return str(label).strip()
    if not isinstance(label, int) or not 0 <= label < len(columns.class_names):
        raise ValueError(f"label {label!r}: expected 0 to {len(columns.class_names) - 1}")
    return columns.class_names[label]


def _read(images: pa.StructArray, row: int, *, name: str) -> Picture:
    content = images[row].as_py()
    body = content.get("bytes") if isinstance(content, dict) else None
    if not isinstance(body, bytes):
        raise InputError(f"data file {name}: no bytes in it, and files elsewhere are not read")
    if len(body) > _MAX_IMAGE_BYTES:
        raise InputError(f"{name}: {len(body)} bytes; expected at most {_MAX_IMAGE_BYTES}")
    return read_picture(io.BytesIO(body), formats=FORMATS, name=name)


def _columns(folder: Path) -> _Columns:
    """Of the features, the image and the label. Raises InputError if they are not there."""
    path = folder / _FEATURES_FILE
    features = _json(path).get("features")
    if not isinstance(features, dict):
        raise InputError(f"data file {path}: no features; save the data set again")
    kinds = {
        str(name): feature.get("_type") if isinstance(feature, dict) else None
        for name, feature in features.items()
    }
    images = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    labels += [n for n in ("label", "class_name", "class") if kinds.get(n) == "Value"]
    if not images or not labels:
        raise InputError(
            f"data file {path}: columns {', '.join(kinds)[:200]}; expected one of kind Image, and "
            "one of kind ClassLabel or called label"
        )
    image = "image" if "image" in images else images[0]
    label = "label" if "label" in labels else labels[0]
    names = features[label].get("names") or ()
    group = "group" if kinds.get("group") == "Value" else None
    return _Columns(image, label, tuple(map(str, names)), group)


def _bare_name(name: str, folder: Path) -> str:
    """Raises InputError if it would leave the folder."""
    path = folder / name
    if Path(name).name != name or name in ("", ".", "..") or path.is_symlink():
        raise InputError(
            f"data {folder}: it names {name[:80]!a}; expected a file or folder in it, and no link"
        )
    return name


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise InputError(f"data file {path}: above {_MAX_JSON_BYTES} bytes; save it again")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"data file {path} cannot be read: {error}; save it again") from None
    if not isinstance(content, dict):
        raise InputError(f"data file {path}: expected a JSON object; save it again")
    return content
