"""The pixels of a listing, one image at a time: resized, and what was changed is counted.

Called by load.py and training/dataset.py.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.faults import plural
from datagen.image_files import SCALED, Picture
from datagen.image_set import ImageSet, Rows
from datagen.real_images.listing import MAX_BROKEN, NOT_GIVEN, Entry, some
from datagen.real_images.pairs import Pair, Pairing, PairReader, with_pairs
from datagen.real_images.resizing import PROPORTIONS, Fit, fitted, size_text

_MAX_NAMED = 20


@dataclass(frozen=True)
class Reading:
    """broken: names of the images left out. sizes: (height, width) in the files -> images.

    pixel_sha256: of each image as it lies in its file, before it was resized. marks: name of an
    image that says it is synthetic -> its attempt key, empty if it tells none.
    """

    images: ImageSet
    broken: tuple[str, ...]
    sizes: Mapping[tuple[int, int], int]
    pixel_sha256: tuple[bytes, ...]
    marks: Mapping[str, str]

    def take(self, rows: Rows) -> Reading:
        digests = tuple(self.pixel_sha256[row] for row in rows)
        return replace(self, images=self.images.take(rows), pixel_sha256=digests)

    def class_digests(self) -> tuple[str, ...]:
        """Of each class, over its images as they lie in their files; sorted. What the classes are
        called, and in which order all comes and is resized, changes none of them."""
        members: dict[int, list[bytes]] = {}
        for class_id, digest in zip(self.images.class_ids.tolist(), self.pixel_sha256, strict=True):
            members.setdefault(class_id, []).append(digest)
        return tuple(sorted(_sha256_of(sorted(digests)) for digests in members.values()))


def content_digest(class_digests: Sequence[str]) -> str:
    """Of a whole set of images, from the digests of its classes."""
    return _sha256_of(bytes.fromhex(digest) for digest in sorted(class_digests))


def _sha256_of(pieces: Iterable[bytes]) -> str:
    return hashlib.sha256(b"".join(pieces)).hexdigest()


def read_images(
    path: Path,
    entries: Sequence[Entry],
    class_names: Sequence[str],
    size: tuple[int, int],
    notes: list[str],
    *,
    fit: Fit = "stretch",
    pairing: Pairing | None = None,
) -> Reading:
    """notes: what is known so far; those of the reading are put behind them. pairing: what is read
    beside each image; one that lacks it counts as broken.

    Raises InputError, naming the broken files, if they are over 1%.
    """
    kept: list[Entry] = []
    pixels: list[NDArray[np.uint8]] = []
    digests: list[bytes] = []
    marks: dict[str, str] = {}
    broken: list[tuple[str, str]] = []
    changes = _Changes(size, fit)
    beside = PairReader(pairing or Pairing(), size, fit)
    pairs: list[Pair] = []
    for entry in entries:
        try:
            picture = entry.read()
            pairs.append(beside.read(entry, picture))
        except InputError as error:
            broken.append((entry.name, str(error)))
            if len(broken) > max(_MAX_NAMED, MAX_BROKEN * len(entries)):
                break  # refused, whatever the rest is
            continue
        changes.note(picture)
        kept.append(entry)
        digests.append(hashlib.sha256(np.ascontiguousarray(picture.pixels).data).digest())
        if picture.mark is not None:
            marks[entry.name] = picture.mark
        pixels.append(fitted(picture.pixels, size, fit))
    if broken:
        num_read = len(kept) + len(broken)
        notes = [
            *notes,
            _broken_note(path, broken, num_read, len(entries), is_paired=bool(pairing)),
        ]
    notes += [f"{path.name}: {line}" for line in changes.lines()]
    if pairing is not None:
        notes += beside.check(path)
    images = _image_set(path, kept, class_names, pixels, notes)
    images = with_pairs(images, pairs, () if pairing is None else pairing.names)
    left_out = tuple(name for name, _ in broken)
    return Reading(images, left_out, changes.sizes, tuple(digests), marks)


def _image_set(
    path: Path,
    kept: Sequence[Entry],
    class_names: Sequence[str],
    pixels: list[NDArray[np.uint8]],
    notes: list[str],
) -> ImageSet:
    """Of one size; empties the list of pixels. Classes without an image are left out."""
    present = {entry.class_name for entry in kept}
    used_names = tuple(name for name in class_names if name in present)
    if len(used_names) == 1:
        notes.append(f"{path.name}: one class only, {used_names[0]}")
    class_id = {name: i for i, name in enumerate(used_names)}
    return ImageSet(
        images=_stack(pixels),
        class_ids=np.array([class_id[entry.class_name] for entry in kept], np.int64),
        class_names=used_names,
        names=_unique([entry.name for entry in kept], path),
        groups=_groups(kept),
        attributes=_attributes(kept),
        notes=tuple(notes),
    )


def _broken_note(
    path: Path, broken: list[tuple[str, str]], num_read: int, num: int, *, is_paired: bool
) -> str:
    """broken: name and reason, of the images read so far. is_paired: the fault may be that of what
    lies beside one. Raises InputError if they are too many of num."""
    fault = (
        ("image that cannot be used", "images that cannot be used")
        if is_paired
        else ("broken image", "broken images")
    )
    shown = [name for name, _ in broken[:_MAX_NAMED]]
    names = some([name for name, _ in broken], most=_MAX_NAMED)
    if len(broken) > MAX_BROKEN * num:
        if num_read < num:  # how many there are in all is not known
            names = f"{some(shown, most=_MAX_NAMED)} and more"
        raise InputError(
            f"data {path}: {fault[1]}: {names}; that is more than {MAX_BROKEN:.0%} of {num:,}: "
            f"repair or remove them ({broken[0][1]})"
        )
    return f"{path.name}: {plural(len(broken), *fault)}, left out: {names}"


class _Changes:
    """Counts what was done to the images on reading."""

    def __init__(self, size: tuple[int, int], fit: Fit) -> None:
        self._size = size
        self._fit = fit
        self._counts = Counter[str]()
        self.sizes = Counter[tuple[int, int]]()
        self._channels = Counter[int]()
        self._largest = 0

    def note(self, picture: Picture) -> None:
        height, width, channels = picture.pixels.shape
        self._counts.update(picture.changes)
        self.sizes[height, width] += 1
        self._channels[channels] += 1
        self._largest = max(self._largest, picture.largest)

    def lines(self) -> list[str]:
        lines = []
        for what, num in sorted(self._counts.items()):
            hint = f" (largest value {self._largest:,} of 65,535)" if what == SCALED else ""
            lines.append(f"{plural(num, 'image')} {what}{hint}")
        if len(self._channels) > 1:
            lines.append(f"{plural(self._channels[1], 'grey image')} among RGB ones, made RGB")
        others = [size for size in sorted(self.sizes) if size != self._size]
        if others:
            num = sum(self.sizes[size] for size in others)
            sizes = some([size_text(size) for size in others])
            stretched = any(h * self._size[1] != w * self._size[0] for h, w in others)
            hint = PROPORTIONS[self._fit] if stretched else ""
            lines.append(
                f"{plural(num, 'image')} of {sizes} resized to {size_text(self._size)}{hint}"
            )
        return lines


def _stack(pixels: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Empties the list, so that memory holds the images once. Grey among RGB is repeated."""
    channels = max(image.shape[2] for image in pixels)
    images = np.empty((len(pixels), *pixels[0].shape[:2], channels), np.uint8)
    for row in range(len(pixels) - 1, -1, -1):
        images[row] = pixels.pop()
    return images


def _unique(names: list[str], path: Path) -> tuple[str, ...]:
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(f"data {path}: {count} images are called {name!r}; rename them")
    return tuple(names)


def _groups(entries: Sequence[Entry]) -> tuple[str, ...] | None:
    """An image without a group is one of its own."""
    if all(entry.group is None for entry in entries):
        return None
    return tuple(entry.name if entry.group is None else entry.group for entry in entries)


def _attributes(entries: Sequence[Entry]) -> dict[str, tuple[str, ...]]:
    names = sorted({name for entry in entries for name in entry.attributes})
    return {name: tuple(e.attributes.get(name, NOT_GIVEN) for e in entries) for name in names}
