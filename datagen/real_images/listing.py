"""What a source of images holds, before any pixel is read. Made by the readers beside this file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.faults import plural
from datagen.image_files import Picture

MAX_IMAGES = 2_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
NOT_GIVEN = "not given"
# Of images without a label, as of broken ones.
MAX_BROKEN = 0.01
# As other tools call the same parts.
PART_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation", "dev"),
}
_HALVES = re.compile("[\ud800-\udfff]")
_UNFIT_NAME = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """read: raises InputError if the image is broken. Beside it there may lie, each None if not:
    read_mask: its label map, (H, W) uint8 of the image's size, as in the file; read_condition: the
    picture that it is to be made from. spacing_mm: (rows, columns) between centres of pixels, of
    the image as it lies in its file."""

    name: str
    class_name: str
    read: Callable[[], Picture]
    group: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    read_mask: Callable[[], NDArray[np.uint8]] | None = None
    read_condition: Callable[[], Picture] | None = None
    spacing_mm: tuple[float, float] | None = None


@dataclass(frozen=True)
class Listing:
    """class_names: in their order, also those of no image. notes: what was left out, in words.
    mask_names: of the values of its label maps, where the source says them."""

    entries: Sequence[Entry]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    mask_names: tuple[str, ...] = ()


def part_called(name: str) -> str:
    """train, test or val, if it is one of their names; else the name."""
    return next((part for part, names in PART_NAMES.items() if name.lower() in names), name)


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorted; numbers by their value."""
    found = set(names)
    by_value = all(name.isdecimal() for name in found)
    return tuple(sorted(found, key=lambda name: (int(name) if by_value else 0, name)))


def unlabelled_notes(path: Path, names: Sequence[str], num: int) -> tuple[str, ...]:
    """names: of the images without a label, of num. Raises InputError if they are over 1%."""
    if not names:
        return ()
    told = some(names, most=20)
    if len(names) > MAX_BROKEN * num:
        raise InputError(
            f"data {path}: images without a label: {told}; that is more than {MAX_BROKEN:.0%} of "
            f"{num:,}: give their labels, or take them out"
        )
    return (f"{path.name}: {plural(len(names), 'image')} without a label, left out: {told}",)


def check_texts(entries: Sequence[Entry], path: Path) -> None:
    """Raises InputError for what no digest, report or file of ours could hold."""
    for entry in entries:
        values = [entry.group or "", *entry.attributes, *entry.attributes.values()]
        texts = (("name", _UNFIT_NAME, entry.name), ("class", _UNFIT_NAME, entry.class_name))
        for what, unfit, text in (*texts, *(("metadata", _HALVES, value) for value in values)):
            if unfit.search(text):
                raise InputError(
                    f"data {path}: {what} {text[:80]!a} of image {entry.name[:80]!a}: "
                    "expected text without control characters and halves of characters; rename it"
                )


def some(names: Sequence[str], *, most: int = 5) -> str:
    """A few of many names, for a message; what no UTF-8 text holds is spelled out."""
    rest = len(names) - most
    shown = [name.encode("utf-8", "backslashreplace").decode() for name in names[:most]]
    return ", ".join(shown) + (f" and {rest:,} more" if rest > 0 else "")
