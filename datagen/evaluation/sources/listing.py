"""What a source of images holds, before any pixel is read. Made by the readers beside this file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from datagen.image_files import Picture

MAX_IMAGES = 2_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
NOT_GIVEN = "not given"


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


def some(names: Sequence[str], *, most: int = 5) -> str:
    """A few of many names, for a message."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")
