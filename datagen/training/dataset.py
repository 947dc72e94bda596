"""Real images in, as the recipe names them: one array of HWC uint8 and class ids.

Called by training/session.py and reference_parts.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.medical.options import DicomOptions
from datagen.real_images.derived import derived
from datagen.real_images.dicom import list_dicom
from datagen.real_images.folders import list_flat
from datagen.real_images.listing import Listing, check_texts, some
from datagen.real_images.load import common_shape
from datagen.real_images.opening import Kind, Source, open_source
from datagen.real_images.pairs import Pairing, beside
from datagen.real_images.reading import Reading, read_images
from datagen.real_images.resizing import size_text
from datagen.real_images.volumes import Slicing, list_volumes
from datagen.training.model_recipe import CLASS_NAME, DataSource

_MIN_SIDE_PX, _MAX_SIDE_PX = 8, 1024
_MAX_BYTES = 16 << 30
# Of data.path, where both lie there.
_IMAGES_FOLDER, _MASKS_FOLDER, _PICTURES_FOLDER = "images", "masks", "conditions"


@dataclass(frozen=True)
class RealImages:
    """images: (N, H, W, C) uint8. class_ids: (N,) int64. Of pairs: masks: (N, H, W) uint8;
    pictures: (N, H, W, C) uint8, that the images are to be made from."""

    images: NDArray[np.uint8]
    class_ids: NDArray[np.int64]
    masks: NDArray[np.uint8] | None = None
    pictures: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> RealImages:
        return RealImages(
            self.images[rows],
            self.class_ids[rows],
            None if self.masks is None else self.masks[rows],
            None if self.pictures is None else self.pictures[rows],
        )

    def without_pairs(self) -> RealImages:
        return RealImages(self.images, self.class_ids)

    def digest(self) -> str:
        """sha256 over pixels and classes, and what lies beside them, in order."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.class_ids).data)
        for pixels in (self.masks, self.pictures):
            if pixels is not None:
                digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()


def load_real_images(source: DataSource, *, part: str = "train") -> RealImages:
    """The images of read_training_images alone."""
    return real_images(read_training_images(source, part=part))


def real_images(reading: Reading) -> RealImages:
    images = reading.images
    return RealImages(images.images, images.class_ids, images.masks, images.conditions)


def read_training_images(source: DataSource, *, part: str = "train") -> Reading:
    """In the order of training: IDX files as they lie, all others mixed.

    Raises InputError if images are missing, too many are broken, or they do not fit each other or
    the recipe.
    """
    path = _images_place(source)
    opened = open_source(path, kind=None if source.format == "auto" else source.format)
    chosen = opened.part(None if part == "train" else part, path)
    listing = _with_class_names(_listed(opened, chosen, source), source, opened.kind)
    if opened.kind != "nifti":
        listing = _with_pairs(listing, source)
    check_texts(listing.entries, path)
    notes = list(listing.notes)
    if others := [p for p in opened.parts if p != chosen]:
        notes.append(f"{path.name}: the {chosen} part is used, not {', '.join(others)}")
    entries = listing.entries
    if opened.kind != "idx":
        entries = sorted(entries, key=lambda entry: listing.class_names.index(entry.class_name))
    size, num_channels = common_shape(entries, path)
    size = source.size or size
    _check_shape(path, (*size, num_channels), len(entries))
    reading = read_images(
        path,
        entries,
        listing.class_names,
        size,
        notes,
        fit=source.fit,
        pairing=_pairing_of(source, listing),
    )
    _check_reading(reading, listing, source)
    reading = _with_derived(reading, source)
    if opened.kind == "idx":
        return reading
    # Mixed, so that any leading part of the images holds every class.
    order = np.random.default_rng(0).permutation(len(reading.images))
    return reading.take(order)


def split_held_out(
    real: RealImages, *, held_out: int, seed: int, groups: Sequence[str] | None = None
) -> tuple[RealImages, RealImages]:
    """Returns (train, held_out): a seeded shuffle, the last `held_out` images kept apart; with
    groups, whole groups in a seeded order until they hold as many, so that none is in both."""
    kept = held_out_rows(len(real), held_out=held_out, seed=seed, groups=groups)
    return real.take(np.flatnonzero(~kept)), real.take(np.flatnonzero(kept))


def held_out_rows(
    num: int, *, held_out: int, seed: int, groups: Sequence[str] | None = None
) -> NDArray[np.bool_]:
    """Returns (num,), true where an image is held out; see split_held_out."""
    if groups is not None:
        return _held_out_groups(groups, held_out=held_out, seed=seed)
    if held_out >= num:
        raise InputError(
            f"data.held_out: {held_out} of {num} images leaves none to train on; lower it"
        )
    kept = np.zeros(num, np.bool_)
    kept[np.random.default_rng(seed).permutation(num)[num - held_out :]] = True
    return kept


def check_split(train: RealImages, held_out: RealImages, class_names: Sequence[str]) -> None:
    """Raises InputError if all images of a class are held out."""
    missing = np.setdiff1d(held_out.class_ids, train.class_ids)
    if len(missing):
        num = int((held_out.class_ids == missing[0]).sum())
        raise InputError(
            f"data.held_out: {len(held_out)} of {len(train) + len(held_out)} images, drawn by the "
            f"seed, hold all {num} of class {class_names[missing[0]]!r}, which leaves none to "
            "train on: lower it, or add images of the class"
        )


def _held_out_groups(groups: Sequence[str], *, held_out: int, seed: int) -> NDArray[np.bool_]:
    """Returns (N,), true where the image is held out."""
    names, group_ids = np.unique(np.asarray(groups), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(group_ids, minlength=len(names))
    num_groups = int(np.searchsorted(np.cumsum(sizes[order]), held_out)) + 1
    if num_groups >= len(names):
        raise InputError(
            f"data.held_out: {held_out} of {len(groups)} images, in whole groups of which there "
            f"are {len(names)}, leaves none to train on; lower it"
        )
    kept: NDArray[np.bool_] = np.isin(group_ids, order[:num_groups])
    return kept


def _listed(opened: Source, part: str, source: DataSource) -> Listing:
    """Pairs need no folders of classes."""
    if opened.kind == "dicom":
        _check_unpaired(source)
        return list_dicom(_images_place(source), part, options=source.dicom)
    if source.dicom != DicomOptions():
        raise InputError(
            f"data.dicom: options are given, but data {source.place} are read as {opened.kind}; "
            "leave them out, or set data.format to dicom"
        )
    if opened.kind == "nifti":
        slicing = None if source.volumes is None else Slicing(**dict(source.volumes))
        labels = None if source.condition is None else source.condition.path
        place = _images_place(source)
        return list_volumes(place, slicing=slicing, labels=labels or _beside_folder(source))
    if source.condition is not None and opened.kind == "imagefolder":
        name = source.class_names[0] if source.class_names else _IMAGES_FOLDER
        if (flat := list_flat(_images_place(source), name)) is not None:
            return flat
    return opened.list(part)


def _check_unpaired(source: DataSource) -> None:
    """Raises InputError for what lies beside DICOM: frames are turned and have no names of files,
    so that nothing can be told to be beside one."""
    condition = source.condition
    if condition is None or condition.derive is not None:
        return
    if condition.path is None and condition.kind == "inpaint" and not condition.names:
        return
    raise InputError(
        "data.condition: label maps and pictures beside DICOM are not read; convert both to NIfTI "
        "volumes, or to PNG, or use derive"
    )


def _images_place(source: DataSource) -> Path:
    """The folder `images` of data.path, where a folder of what is beside them is there too."""
    place, condition = source.place, source.condition
    if condition is None or condition.path is not None:
        return place
    others = (place / _MASKS_FOLDER, place / _PICTURES_FOLDER)
    images = place / _IMAGES_FOLDER
    return images if images.is_dir() and any(other.is_dir() for other in others) else place


def _beside_folder(source: DataSource) -> Path | None:
    condition = source.condition
    if condition is None or condition.path is not None or condition.derive is not None:
        return None
    name = _PICTURES_FOLDER if condition.kind == "image" else _MASKS_FOLDER
    folder = source.place / name
    return folder if folder.is_dir() and (source.place / _IMAGES_FOLDER).is_dir() else None


def _with_pairs(listing: Listing, source: DataSource) -> Listing:
    condition = source.condition
    if condition is None:
        return listing
    folder = condition.path or _beside_folder(source)
    if folder is None:
        if condition.colours:
            raise InputError(
                f"data.condition.colours: the label maps of {source.place} lie in no folder of PNG "
                "files; expected data.condition.path, or colours left out"
            )
        return listing
    return beside(listing, folder, pictures=condition.kind == "image", colours=condition.colours)


def _pairing_of(source: DataSource, listing: Listing) -> Pairing | None:
    """Raises InputError if label maps are wanted and their values have no names, or if what is
    wanted lies nowhere."""
    condition = source.condition
    if condition is None:
        return None
    names = condition.names or listing.mask_names
    wants_masks = condition.kind in ("mask", "layout") or (
        condition.kind == "inpaint" and bool(condition.names)
    )
    wants_pictures = condition.kind == "image" and condition.derive is None
    if wants_masks and not names:
        raise InputError(
            f"data.condition.names: none are given, and data {source.place} say none; expected the "
            "names of the values of the label maps, the first the background"
        )
    found = [e for e in listing.entries if (e.read_condition if wants_pictures else e.read_mask)]
    if (wants_masks or wants_pictures) and not found:
        what, folder = (
            ("pictures", _PICTURES_FOLDER) if wants_pictures else ("label maps", _MASKS_FOLDER)
        )
        raise InputError(
            f"data.condition: no {what} lie beside the images of {source.place}; name their folder "
            f"in data.condition.path, with the same relative names as the images, or put both into "
            f"folders {_IMAGES_FOLDER} and {folder} of data.path"
        )
    return Pairing(wants_masks, wants_pictures, names if wants_masks else (), condition.values)


def _with_derived(reading: Reading, source: DataSource) -> Reading:
    condition = source.condition
    if condition is None or condition.derive is None:
        return reading
    pictures = derived(reading.images.images, condition.derive, factor=condition.factor)
    return replace(reading, images=replace(reading.images, conditions=pictures))


def _with_class_names(listing: Listing, source: DataSource, kind: Kind) -> Listing:
    """Names given for labels that are numbers, and no classes but those given."""
    if not listing.entries:
        raise InputError(f"data {source.place}: no image in it; name a folder with images")
    if not source.class_names:
        return _checked_class_names(listing, source)
    names = source.class_names
    labels = listing.class_names
    if len(names) == len(labels) == 1:
        entries = [replace(entry, class_name=names[0]) for entry in listing.entries]
        return replace(listing, entries=entries, class_names=names)
    present = {entry.class_name for entry in listing.entries}
    if kind == "idx" or (all(label.isdecimal() for label in labels) and present - set(names)):
        if len(labels) > len(names):
            raise InputError(
                f"data {source.place}: labels up to {labels[-1]!r}, which are {len(labels)}; "
                f"expected {len(names)} classes: list every label's name in data.class_names"
            )
        name_of = dict(zip(labels, names, strict=False))
        entries = [replace(e, class_name=name_of[e.class_name]) for e in listing.entries]
        return replace(listing, entries=entries, class_names=names)
    others = [label for label in labels if label not in names]
    if not present & set(names):
        raise InputError(
            f"data {source.place}: classes {some(others)}; expected some of data.class_names, "
            f"{some(names)}: correct one of them"
        )
    note = f"{source.place.name}: classes not in data.class_names, left out: {some(others)}"
    return Listing(
        [entry for entry in listing.entries if entry.class_name in names],
        names,
        (*listing.notes, *([note] if others else [])),
    )


def _checked_class_names(listing: Listing, source: DataSource) -> Listing:
    """Raises InputError if a name of the data could not be one of a model's classes."""
    present = {entry.class_name for entry in listing.entries}
    names = tuple(name for name in listing.class_names if name in present)
    if len(names) < 2 and source.condition is None:
        raise InputError(
            f"data {source.place}: one class only, {names[0]!r}; expected 2 or more, such as one "
            "folder of images each"
        )
    for name in names:
        if not CLASS_NAME.fullmatch(name):
            raise InputError(
                f"data {source.place}: class {name[:80]!a}; expected 1 to 63 letters, digits, '-' "
                "and '_', the first a letter or digit: rename it"
            )
    if len({name.lower() for name in names}) < len(names):
        raise InputError(
            f"data {source.place}: classes {some(names)}; expected each name once, upper and lower "
            "case being equal: rename one"
        )
    return replace(listing, class_names=names)


def _check_shape(path: Path, shape: tuple[int, int, int], num: int) -> None:
    height, width, channels = shape
    if not all(_MIN_SIDE_PX <= side <= _MAX_SIDE_PX for side in (height, width)):
        raise InputError(
            f"data {path}: images of {height} x {width} pixels, {channels} channels; expected "
            f"sides of {_MIN_SIDE_PX} to {_MAX_SIDE_PX}: set data.image_size to resize them"
        )
    if num * height * width * channels > _MAX_BYTES:
        raise InputError(
            f"data {path}: {num:,} images of {height} x {width} pixels are above "
            f"{_MAX_BYTES >> 30} GiB in memory; lower data.image_size"
        )


def _check_reading(reading: Reading, listing: Listing, source: DataSource) -> None:
    missing = [name for name in listing.class_names if name not in reading.images.class_names]
    if missing:
        raise InputError(
            f"data {source.place}: no image of class {missing[0]!r}; expected some of every class: "
            "take it out of data.class_names, or add images"
        )
    if source.size is None and len(reading.sizes) > 1:
        sizes = some([size_text(size) for size in sorted(reading.sizes)], most=3)
        raise InputError(
            f"data {source.place}: images of different shapes, such as {sizes}; set "
            "data.image_size to resize them"
        )
