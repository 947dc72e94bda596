"""What lies beside the images of a source: label maps and pictures, of the images' own size.

Called by reading.py, for each image, and by training/dataset.py.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError, LabelError
from datagen.faults import plural
from datagen.image_files import ORIENTED, Picture, read_picture
from datagen.image_set import ImageSet
from datagen.label_files import Colour, read_mask
from datagen.real_images.listing import FORMATS, MAX_IMAGES, Entry, Listing, some
from datagen.real_images.resizing import Fit, fitted, fitted_mask, fitted_spacing, size_text

Mask = NDArray[np.uint8]  # (H, W)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_MAX_VALUES = 20
_REMEDY = "name it as its image, or take the image out"


@dataclass(frozen=True)
class Pairing:
    """What is read beside each image. names: of the values of the label maps, the first the
    background. values: those of the names in the files; empty for 0, 1, 2 and so on."""

    wants_masks: bool = False
    wants_pictures: bool = False
    names: tuple[str, ...] = ()
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Pair:
    """What was read beside one image, of the size that all are brought to."""

    mask: Mask | None
    picture: NDArray[np.uint8] | None
    spacing_mm: tuple[float, float] | None


class PairReader:
    """Reads what lies beside images, one by one, and counts what is wrong with their values."""

    def __init__(self, pairing: Pairing, size: tuple[int, int], fit: Fit) -> None:
        self._pairing, self._size, self._fit = pairing, size, fit
        values = pairing.values or tuple(range(len(pairing.names)))
        # What a value of a file becomes; 255 where no name is given to it.
        self._numbers = np.full(256, 255, np.uint8)
        self._numbers[list(values)] = np.arange(len(values), dtype=np.uint8)
        self._known = np.zeros(256, np.bool_)
        self._known[list(values)] = True
        self._unknown = Counter[int]()
        self._num_unknown = self._num_empty = self._num_read = 0
        self._num_showing = np.zeros(256, np.int64)

    def read(self, entry: Entry, image: Picture) -> Pair:
        """image: the entry's, as read. Raises InputError."""
        mask = picture = spacing = None
        shape = image.pixels.shape[:2]
        is_turned = ORIENTED in image.changes
        if self._pairing.wants_masks:
            mask = self._mask(entry, shape)
            # PNG label maps are read without such a tag: nothing says which way theirs lie.
            _check_turned("label map", entry.name, (is_turned, False))
        if self._pairing.wants_pictures:
            if entry.read_condition is None:
                raise InputError(f"{entry.name}: no picture lies beside it; {_REMEDY}")
            found = entry.read_condition()
            _check_size("picture", entry.name, found.pixels.shape[:2], shape)
            _check_turned("picture", entry.name, (is_turned, ORIENTED in found.changes))
            picture = fitted(found.pixels, self._size, self._fit)
        if entry.spacing_mm is not None:
            spacing = fitted_spacing(entry.spacing_mm, shape, self._size, self._fit)
        self._num_read += 1
        return Pair(mask, picture, spacing)

    def _mask(self, entry: Entry, shape: tuple[int, int]) -> Mask:
        if entry.read_mask is None:
            raise InputError(f"{entry.name}: no label map lies beside it; {_REMEDY}")
        mask = entry.read_mask()
        _check_size("label map", entry.name, mask.shape, shape)
        present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
        unknown = present[~self._known[present]]
        self._unknown.update(unknown.tolist())
        self._num_unknown += bool(len(unknown))
        numbers = self._numbers[mask]
        self._num_empty += not numbers.any()
        self._num_showing[self._numbers[present]] += 1
        return fitted_mask(numbers, self._size, self._fit)

    def check(self, path: Path) -> list[str]:
        """Once all are read: notes. Raises InputError for values without a name, and if no label
        map shows anything."""
        names = self._pairing.names
        if self._unknown:
            values = some([str(value) for value in sorted(self._unknown)], most=_MAX_VALUES)
            given = self._pairing.values or range(len(names))
            known = ", ".join(f"{v} {n}" for v, n in zip(given, names, strict=True))
            raise InputError(
                f"data {path}: {plural(self._num_unknown, 'label map')} of {self._num_read:,} "
                f"{'holds' if self._num_unknown == 1 else 'hold'} values without a name: {values}; "
                f"expected {known}: name them in data.condition.names, or say in "
                "data.condition.values which values the names are of"
            )
        if self._pairing.wants_masks and self._num_empty == self._num_read:
            raise InputError(
                f"data {path}: no label map shows anything but {names[0]}; expected others of "
                f"{', '.join(names)}: see that they are the right files"
            )
        notes = []
        if self._num_empty:
            notes.append(
                f"{path.name}: {plural(self._num_empty, 'label map')} of {self._num_read:,} "
                f"without anything but {names[0]}"
            )
        unseen = [name for value, name in enumerate(names) if not self._num_showing[value]]
        if unseen:
            notes.append(f"{path.name}: shown by no label map: {some(unseen)}")
        return notes


def beside(
    listing: Listing, folder: Path, *, pictures: bool, colours: Sequence[Colour] = ()
) -> Listing:
    """The entries with what lies in `folder` under the same relative name, whatever its suffix:
    pictures, or else label maps. colours: of the values 0, 1, 2 and so on of label maps in RGB.
    Raises InputError if the folder does not exist or holds none, or
    if two images would share a file."""
    files = _by_stem(folder)
    owners: dict[Path, str] = {}
    entries = []
    for entry in listing.entries:
        path = files.get(entry.name) or files.get(os.path.splitext(entry.name)[0])
        if path is None:
            entries.append(entry)
            continue
        if path in owners:
            raise InputError(
                f"data.condition.path {folder}: {path.name} would lie beside two images, "
                f"{owners[path]} and {entry.name}; rename one of them, or take it out"
            )
        owners[path] = entry.name
        entries.append(_beside(entry, path, pictures=pictures, colours=colours))
    return replace(listing, entries=entries)


def _beside(entry: Entry, path: Path, *, pictures: bool, colours: Sequence[Colour]) -> Entry:
    if pictures:
        read = partial(read_picture, path, formats=FORMATS, name=str(path))
        return replace(entry, read_condition=read)
    return replace(entry, read_mask=partial(mask_of, path, name=str(path), colours=colours))


def _by_stem(folder: Path) -> dict[str, Path]:
    """Relative path without its suffix -> file. Raises InputError."""
    if not folder.is_dir():
        raise InputError(
            f"data.condition.path {folder}: expected a folder, with files of the same relative "
            "names as the images"
        )
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() not in SUFFIXES or name.startswith("."):
                continue
            if not path.is_file():  # as of images: a link is followed, one to nowhere is no file
                continue
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                raise InputError(
                    f"data.condition.path {folder}: {found[stem].name} and {name} are both named "
                    f"{stem}; keep one"
                )
            found[stem] = path
            if len(found) > MAX_IMAGES:
                raise InputError(f"data.condition.path {folder}: above {MAX_IMAGES:,} files")
    if not found:
        raise InputError(f"data.condition.path {folder}: no image file in it; name another folder")
    return found


def mask_of(source: bytes | Path, *, name: str, colours: Sequence[Colour] = ()) -> Mask:
    """A label map as its PNG holds it: grey values, or places in a palette, or those of RGB in
    colours.

    Raises LabelError for other colours, and values above 255.
    """
    table = {colour: value for value, colour in enumerate(colours)}
    values = read_mask(source, name=name, colours=table or None)
    largest = int(values.max(initial=0))
    if largest > 255:
        raise LabelError(
            f"label map {name}: values up to {largest:,}; expected 0 to 255, one for each class"
        )
    return values.astype(np.uint8)


def _check_size(what: str, name: str, found: Sequence[int], expected: tuple[int, int]) -> None:
    if tuple(found) != expected:
        raise InputError(
            f"{name}: its {what} is {size_text((found[0], found[1]))}, the image "
            f"{size_text(expected)}; expected one size: resize the {what}"
        )


def _check_turned(what: str, name: str, are_turned: tuple[bool, bool]) -> None:
    """are_turned: the image, and what lies beside it, by their EXIF tags."""
    if are_turned[0] != are_turned[1]:
        turned, other = ("the image", f"its {what}") if are_turned[0] else (f"its {what}", "it")
        raise InputError(
            f"{name}: an EXIF tag turns {turned} and not {other}, so they may not lie on each "
            "other; save both upright, without the tag"
        )


def with_pairs(images: ImageSet, pairs: Sequence[Pair], names: tuple[str, ...]) -> ImageSet:
    """names: of the values of the label maps."""
    masks = [pair.mask for pair in pairs if pair.mask is not None]
    pictures = [pair.picture for pair in pairs if pair.picture is not None]
    spacing = [pair.spacing_mm for pair in pairs if pair.spacing_mm is not None]
    channels = max((picture.shape[2] for picture in pictures), default=1)
    return replace(
        images,
        masks=np.stack(masks) if masks else None,
        # Grey among RGB is repeated, as of images.
        conditions=np.stack([np.broadcast_to(p, (*p.shape[:2], channels)) for p in pictures])
        if pictures
        else None,
        mask_names=names if masks else (),
        spacing_mm=np.array(spacing, np.float64) if len(spacing) == len(pairs) else None,
    )
