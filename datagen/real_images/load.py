"""Any source of images -> ImageSet, of one size and within bounded memory.

Called by evaluation/ and assessment.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datagen.errors import InputError
from datagen.image_set import ImageSet
from datagen.real_images.listing import Entry, Listing, check_texts
from datagen.real_images.opening import open_source
from datagen.real_images.reading import read_images

MAX_BYTES = 1 << 30
# What a set is held out as, the better first.
HELD_OUT_PARTS = ("test", "val")
_NUM_PROBES = 64


def load_reference(
    path: Path,
    held_out: Path | None = None,
    *,
    image_size: tuple[int, int] | None = None,
    max_images: int | None = None,
    seed: int = 0,
) -> tuple[ImageSet, ImageSet | None]:
    """Real images for training and held-out real images: of `held_out`, else of the test or val
    part that lies beside the training part, else None. max_images: of each.

    Raises InputError.
    """
    parts = open_source(path).parts
    part = "train" if "train" in parts else None
    train = load_image_set(path, part=part, image_size=image_size, max_images=max_images, seed=seed)
    if held_out is None:
        if part is None or (part := _held_out_part(parts)) is None:
            return train, None
        held_out, note = path, f"held-out images: the {part} part of {path.name}"
    else:
        part, note = _held_out_part(open_source(held_out).parts), None
    kept = load_image_set(
        held_out, part=part, image_size=image_size, max_images=max_images, seed=seed
    )
    return train, replace(kept, notes=(*((note,) if note else ()), *kept.notes))


def load_image_set(
    path: Path,
    *,
    part: str | None = None,
    class_names: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    max_images: int | None = None,
    max_bytes: int = MAX_BYTES,
    seed: int = 0,
) -> ImageSet:
    """part: train, test or val where the source has parts; None: train, or what there is.
    class_names: of IDX labels 0, 1, ...; else the order of the classes. image_size: (height,
    width); None: that of most images. Above max_images or max_bytes of pixels, a seeded draw as
    equal as possible over the classes is loaded.

    Raises InputError, naming what is missing, or the broken files if they are over 1%.
    """
    source = open_source(path)
    chosen = source.part(part, path)
    listing = _with_class_names(source.list(chosen), class_names, path)
    check_texts(listing.entries, path)
    notes = list(listing.notes)
    if len(source.parts) > 1 and part is None:
        others = ", ".join(p for p in source.parts if p != chosen)
        notes.append(f"{path.name}: the {chosen} part is used, not {others}")
    size, num_channels = common_shape(listing.entries, path)
    size = image_size or size
    limit = min(max_images or len(listing.entries), max_bytes // (size[0] * size[1] * num_channels))
    entries = draw(listing.entries, listing.class_names, max(1, limit), seed=seed)
    if len(entries) < len(listing.entries):
        notes.append(
            f"{path.name}: {len(entries):,} of {len(listing.entries):,} images, drawn as equally "
            f"as possible over the classes (seed {seed})"
        )
    return read_images(path, entries, listing.class_names, size, notes).images


def draw(
    entries: Sequence[Entry], class_names: Sequence[str], limit: int, *, seed: int
) -> list[Entry]:
    """At most `limit`, from each class as many as from the others where it has them, in order."""
    if len(entries) <= limit:
        return list(entries)
    rng = np.random.default_rng(seed)
    rows: dict[str, list[int]] = {name: [] for name in class_names}
    for row, entry in enumerate(entries):
        rows[entry.class_name].append(row)
    chosen: list[int] = []
    waiting = sorted(rows.values(), key=len)  # the smallest first: what they lack, others may have
    for index, members in enumerate(waiting):
        share = (limit - len(chosen)) // (len(waiting) - index)
        chosen += [members[i] for i in rng.permutation(len(members))[:share]]
    return [entries[row] for row in sorted(chosen)]


def _held_out_part(parts: Sequence[str]) -> str | None:
    return next((part for part in HELD_OUT_PARTS if part in parts), None)


def _with_class_names(listing: Listing, names: Sequence[str] | None, path: Path) -> Listing:
    if not listing.entries:
        raise InputError(f"data {path}: no image in it")
    if names is None:
        return listing
    if all(name.isdecimal() for name in listing.class_names) and len(names) >= len(
        listing.class_names
    ):
        new = dict(zip(listing.class_names, names, strict=False))
        entries = [replace(entry, class_name=new[entry.class_name]) for entry in listing.entries]
        return replace(listing, entries=entries, class_names=tuple(names))
    unknown = sorted(set(listing.class_names) - set(names))
    if unknown:
        raise InputError(f"data {path}: class {unknown[0]!r}; expected one of {', '.join(names)}")
    return replace(listing, class_names=tuple(names))


def common_shape(entries: Sequence[Entry], path: Path) -> tuple[tuple[int, int], int]:
    """The commonest (height, width) and the most channels among some images, evenly spread."""
    sizes, most_channels = Counter[tuple[int, int]](), 1
    broken: list[str] = []
    for row in np.unique(np.linspace(0, len(entries) - 1, _NUM_PROBES).astype(int)):
        try:
            height, width, channels = entries[row].read().pixels.shape
        except InputError as error:
            broken.append(str(error))
            continue
        sizes[height, width] += 1
        most_channels = max(most_channels, channels)
    if not sizes:
        raise InputError(f"data {path}: no readable image; {broken[0]}")
    # Among equals the smallest: less is made up.
    return min(sizes, key=lambda size: (-sizes[size], size)), most_channels
