"""A folder of images with one folder for each class, optionally below train/, test/ and val/."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from datagen.errors import InputError
from datagen.faults import plural
from datagen.image_files import read_picture
from datagen.real_images.listing import FORMATS, MAX_IMAGES, PART_NAMES, Entry, Listing, some
from datagen.real_images.metadata import Row, read_metadata

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def part_folders(root: Path) -> dict[str, Path]:
    """part -> its folder. A folder named train that holds images itself is a class of trains."""
    found = {}
    for part, names in PART_NAMES.items():
        for name in names:
            folder = root / name
            if part not in found and folder.is_dir() and _class_folders(folder):
                found[part] = folder
    return found


def list_folder(root: Path, part: str | None) -> Listing:
    """part: train, test or val; None where the folder has no parts. Raises InputError."""
    base = part_folders(root)[part] if part else root
    folders = _class_folders(base)
    if not folders:
        raise InputError(
            f"data {base}: no folder with images in it; expected one folder for each class, such "
            f"as {base.name}/cat/001.png"
        )
    # Beside the classes, else beside the parts; its paths are relative to where it lies.
    place, metadata = base, read_metadata(base)
    if not metadata and base != root:
        place, metadata = root, read_metadata(root)
    entries: list[Entry] = []
    others: list[str] = []
    known: set[str] = set()
    for folder in folders:
        for path in _files(folder):
            name = path.relative_to(root).as_posix()
            if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
                others.append(name)
                continue
            row = metadata.get(path.relative_to(place).as_posix())
            known.add(path.relative_to(place).as_posix())
            entries.append(_entry(path, name, folder.name, row))
            if len(entries) > MAX_IMAGES:
                raise InputError(f"data {base}: more than {MAX_IMAGES:,} images; split them")
    present = {entry.class_name for entry in entries}
    empty = [folder.name for folder in folders if folder.name not in present]
    notes = _left_out(base, empty, others)
    bare = sum(not entry.attributes and entry.group is None for entry in entries)
    if metadata and bare:
        notes.append(
            f"{base.name}: the metadata say nothing of {bare:,} of {len(entries):,} images"
        )
    notes += _unknown_rows(base.name, place, [name for name in metadata if name not in known])
    return Listing(entries, tuple(f.name for f in folders if f.name in present), tuple(notes))


def list_flat(root: Path, class_name: str) -> Listing | None:
    """Images that lie in the folder itself, all of one class; None if there is none, or if there
    are folders of classes: pairs need no classes."""
    if not root.is_dir() or _class_folders(root):
        return None
    # In the folder, else beside it; its paths are relative to where it lies, or to the folder.
    place, metadata = root, read_metadata(root)
    if not metadata and root.parent.is_dir():
        place, metadata = root.parent, read_metadata(root.parent)
    paths = [
        path
        for path in sorted(root.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if len(paths) > MAX_IMAGES:
        raise InputError(f"data {root}: more than {MAX_IMAGES:,} images; split them")
    entries: list[Entry] = []
    for path in paths:
        known = metadata.get(path.relative_to(place).as_posix())
        row = metadata.get(path.name) if known is None else known
        entries.append(_entry(path, path.name, class_name, row))
    if not entries:
        return None
    return Listing(entries, (class_name,), tuple(_row_notes(root, place, entries, metadata)))


def _row_notes(
    root: Path, place: Path, entries: Sequence[Entry], metadata: Mapping[str, Row]
) -> list[str]:
    """Raises InputError if no row is of an image here: patients would be told apart by nothing."""
    bare = sum(not entry.attributes and entry.group is None for entry in entries)
    if not metadata or not bare:
        return []
    if bare == len(entries):
        raise InputError(
            f"data {root}: the metadata in {place} say nothing of its images, such as "
            f"{entries[0].name}; expected their names in the column `file`, and a `group` or an "
            f"attribute: they name {some(list(metadata), most=3)}"
        )
    unknown = [name for name in metadata if not (root / name).is_file()]
    return [
        f"{root.name}: the metadata say nothing of {bare:,} of {len(entries):,} images",
        *_unknown_rows(root.name, place, unknown),
    ]


def _unknown_rows(what: str, place: Path, names: Sequence[str]) -> list[str]:
    """Rows of images of another part are no fault."""
    unknown = [name for name in names if not (place / name).is_file()]
    if not unknown:
        return []
    told = plural(len(unknown), "row names a file that is", "rows name files that are")
    return [f"{what}: in the metadata {told} not there: {some(unknown, most=3)}"]


def _entry(path: Path, name: str, class_name: str, row: Row | None) -> Entry:
    read = partial(read_picture, path, formats=FORMATS, name=name)
    if row is None:
        return Entry(name, class_name, read)
    return Entry(name, class_name, read, group=row.group, attributes=row.attributes)


def _class_folders(base: Path) -> list[Path]:
    """Every visible folder, if at least one holds an image at some depth."""
    folders = sorted(p for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))
    has_images = any(
        path.suffix.lower() in SUFFIXES for folder in folders for path in _files(folder)
    )
    return folders if has_images else []


def _files(folder: Path) -> Iterator[Path]:
    """Of all depths, in order; folders that are links are not entered, nor hidden ones."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file():
                yield path


def _left_out(base: Path, empty: list[str], others: list[str]) -> list[str]:
    notes = []
    if empty:
        notes.append(f"{base.name}: class folders without images, left out: {some(empty)}")
    if others:
        told = plural(len(others), "file that is no image", "files that are no images")
        notes.append(f"{base.name}: {told}: {some(others)}")
    return notes
