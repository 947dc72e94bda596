"""Slices of NIfTI volumes, with label volumes beside them: single files, folders of files, and the
folders of nnU-Net. Called by opening.py and training/dataset.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.faults import plural
from datagen.image_files import Picture
from datagen.medical.nifti import (
    Plane,
    Slice,
    as_grey,
    is_marked_synthetic,
    is_nifti,
    read_label_volume,
    read_volume,
    slices_of,
    stem_of,
    window_of,
)
from datagen.real_images.listing import MAX_IMAGES, Entry, Listing, class_order

_NNUNET_IMAGES, _NNUNET_LABELS, _NNUNET_FILE = "imagesTr", "labelsTr", "dataset.json"
_FIRST_CHANNEL = "_0000"
_CLASS = "slice"
# A pixel shows something from this grey value on, where there is no label volume.
_DARK = 26
_MAX_JSON_BYTES = 1 << 20
_NUM_PROBES = 20
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")

Read = TypeVar("Read")


@dataclass(frozen=True)
class Slicing:
    """Which slices are images. every: that many. min_shown: the share of pixels that the label
    volume names, or that are not dark where there is none. block_mm: slices of one block of so many
    millimetres are a group; None for those of one volume."""

    plane: Plane = "axial"
    every: int = 1
    min_shown: float = 0.01
    block_mm: float | None = None


@dataclass(frozen=True)
class _Files:
    """One volume of a source. name: relative. labels: None if there is none."""

    name: str
    class_name: str
    volume: Path
    labels: Path | None


def has_volumes(path: Path) -> bool:
    """By names alone: of a folder's folders the first few files tell what they hold."""
    if path.is_file():
        return is_nifti(path)
    if not path.is_dir():
        return False
    here = sorted(path.iterdir())
    firsts = (islice(each.iterdir(), _NUM_PROBES) for each in here if each.is_dir())
    return any(is_nifti(each) for each in chain(here, *firsts))


def is_nnunet(path: Path) -> bool:
    return bool(_nnunet_parts(path))


def list_volumes(
    path: Path, *, slicing: Slicing | None = None, labels: Path | None = None
) -> Listing:
    """path: a NIfTI file; a folder of them, or with a folder of each class; or one of nnU-Net, of
    which the first channel of the training part is read. labels: of a file the label volume, of a
    folder that of label volumes of the same relative names; nnU-Net's are found.

    Reads each volume once. Raises InputError.
    """
    slicing = slicing or Slicing()
    mask_names: tuple[str, ...] = ()
    if is_nnunet(path):
        files, mask_names = _nnunet_files(path), _nnunet_names(path)
    else:
        files = _files(path, labels)
    entries: list[Entry] = []
    shelf = _Shelf()
    num_left_out = 0
    for each in files:
        found, left_out = _slices(each, slicing, shelf)
        entries += found
        num_left_out += left_out
        if len(entries) > MAX_IMAGES:
            raise InputError(f"data {path}: more than {MAX_IMAGES:,} slices; raise `every`")
    notes = []
    if num_left_out:
        notes.append(
            f"{path.name}: {plural(num_left_out, 'slice')} of which less than "
            f"{slicing.min_shown:.0%} shows anything, left out"
        )
    names = class_order(entry.class_name for entry in entries)
    return Listing(entries, names, tuple(notes), mask_names)


class _Shelf:
    """Holds one volume of a source in memory, the one that was read last."""

    def __init__(self) -> None:
        self._held: _Opened | None = None

    def hold(self, opened: _Opened) -> None:
        if self._held is not None:
            self._held.drop()
        self._held = opened


class _Opened:
    """The slices of one volume, read when they are first wanted."""

    def __init__(self, files: _Files, slicing: Slicing, shelf: _Shelf) -> None:
        self._files, self._slicing, self._shelf = files, slicing, shelf
        self.pictures: list[Slice] = []
        self.labels: list[Slice] | None = None
        self._window = (0.0, 1.0)
        self._is_synthetic = False

    def load(self) -> _Opened:
        """Raises InputError."""
        if not self.pictures:
            self._shelf.hold(self)
            volume = read_volume(self._files.volume)
            self._window = window_of(volume)
            self._is_synthetic = is_marked_synthetic(self._files.volume)
            plane, every = self._slicing.plane, self._slicing.every
            self.pictures = list(slices_of(volume, plane=plane, every=every))
            if self._files.labels is not None:
                found = read_label_volume(self._files.labels, like=volume)
                self.labels = list(slices_of(found, plane=plane, every=every))
        return self

    def drop(self) -> None:
        self.pictures, self.labels = [], None

    def picture(self, row: int) -> Picture:
        values = self.load().pictures[row].values
        mark = "" if self._is_synthetic else None
        return Picture(as_grey(values.astype(np.float32), self._window), mark=mark)

    def mask(self, row: int) -> NDArray[np.uint8]:
        """Raises InputError for values above 255."""
        labels = self.load().labels
        assert labels is not None
        values = labels[row].values
        largest = int(values.max(initial=0))
        if largest > 255:
            raise InputError(
                f"labels {self._files.labels}: values up to {largest:,}; expected 0 to 255, one "
                "for each structure"
            )
        return values.astype(np.uint8)


def _slices(files: _Files, slicing: Slicing, shelf: _Shelf) -> tuple[list[Entry], int]:
    """And how many show too little."""
    opened = _Opened(files, slicing, shelf).load()
    shown = [_share_shown(opened, row) for row in range(len(opened.pictures))]
    rows = [row for row, share in enumerate(shown) if share >= slicing.min_shown]
    entries = []
    for row in rows:
        found = opened.pictures[row]
        block = slicing.block_mm
        part = "" if block is None else f"#{int(found.position_mm // block)}"
        entries.append(
            Entry(
                f"{files.name}#{slicing.plane}-{found.index:04d}",
                files.class_name,
                _of_row(opened.picture, row),
                group=files.name + part,
                read_mask=None if files.labels is None else _of_row(opened.mask, row),
                spacing_mm=found.spacing_mm,
            )
        )
    return entries, len(shown) - len(rows)


def _of_row(read: Callable[[int], Read], row: int) -> Callable[[], Read]:
    return lambda: read(row)


def _share_shown(opened: _Opened, row: int) -> float:
    if opened.labels is not None:
        return float((opened.labels[row].values > 0).mean())
    return float((opened.picture(row).pixels >= _DARK).mean())


def _volumes_at(path: Path) -> list[Path]:
    """Of a file itself; of a folder those in it, else those in its folders."""
    if path.is_file():
        return [path] if is_nifti(path) else []
    if not path.is_dir():
        return []
    for pattern in ("*", "*/*"):
        found = [p for p in sorted(path.glob(pattern)) if p.is_file() and is_nifti(p)]
        if found := [p for p in found if not p.name.startswith(".")]:
            return found
    return []


def _files(path: Path, labels: Path | None) -> list[_Files]:
    volumes = _volumes_at(path)
    if path.is_file():
        if labels is not None and not labels.is_file():
            raise InputError(f"data.condition.path {labels}: expected a file, the label volume")
        return [_Files(stem_of(path), _CLASS, path, labels)]
    found = {} if labels is None else _by_stem(labels)
    files = []
    for volume in volumes:
        folder = volume.parent.relative_to(path).as_posix()
        stem = stem_of(volume) if folder == "." else f"{folder}/{stem_of(volume)}"
        class_name = _CLASS if folder == "." else folder
        files.append(_Files(stem, class_name, volume, found.get(stem)))
    return files


def _by_stem(folder: Path) -> Mapping[str, Path]:
    """Relative name without .nii or .nii.gz -> file. Raises InputError if there is none."""
    found = {
        (path.parent / stem_of(path)).relative_to(folder).as_posix(): path
        for path in _volumes_at(folder)
    }
    if not found:
        raise InputError(f"data.condition.path {folder}: no NIfTI file in it; name label volumes")
    return found


def _nnunet_parts(path: Path) -> Sequence[Path]:
    parts = [path / name for name in (_NNUNET_IMAGES, _NNUNET_LABELS, _NNUNET_FILE)]
    is_whole = path.is_dir() and all(part.exists() for part in parts)
    return parts if is_whole and _volumes_at(parts[0]) else ()


def _nnunet_files(path: Path) -> list[_Files]:
    """Source: nnU-Net's documentation, dataset_format.md: imagesTr/NAME_0000 is the first channel,
    labelsTr/NAME the label volume."""
    images, labels, _ = _nnunet_parts(path)
    found = _by_stem(labels)
    files = []
    for volume in _volumes_at(images):
        if (name := stem_of(volume)).endswith(_FIRST_CHANNEL):
            name = name.removesuffix(_FIRST_CHANNEL)
            files.append(_Files(name, _CLASS, volume, found.get(name)))
    return files


def _nnunet_names(path: Path) -> tuple[str, ...]:
    """Of the values 0, 1, 2 and so on; empty if the file tells none that are such."""
    file = path / _NNUNET_FILE
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError("too large")
        labels = json.loads(file.read_bytes())["labels"]
        by_value = {int(value): str(name) for name, value in labels.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ()  # regions, such as {"whole": [1, 2]}: the recipe names the values then
    if sorted(by_value) != list(range(len(by_value))):
        return ()
    return tuple(_UNFIT.sub("-", by_value[v]).strip("-_") or str(v) for v in sorted(by_value))
