"""What a source of images holds, before any pixel is read. Made by the readers beside this file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datagen.errors import InputError
from datagen.image_files import Picture

MAX_IMAGES = 2_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
NOT_GIVEN = "not given"
_HALVES = re.compile("[\ud800-\udfff]")
_UNFIT_NAME = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Entry:
    """read: raises InputError if the image is broken."""

    name: str
    class_name: str
    read: Callable[[], Picture]
    group: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """class_names: in their order, also those of no image. notes: what was left out, in words."""

    entries: Sequence[Entry]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


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
