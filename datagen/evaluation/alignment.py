"""Real images to the classes, channels and size of the synthetic ones. Called by checks.py.

Each function appends what it changed to `notes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datagen.errors import InputError
from datagen.evaluation.named_data import plain_name
from datagen.image_set import ImageSet
from datagen.real_images.listing import some
from datagen.real_images.resizing import resize_all, size_text


def with_classes_of(synthetic: ImageSet, real: ImageSet, what: str, notes: list[str]) -> ImageSet:
    """real with the classes of synthetic, in their order."""
    mapped = {name: _find_class(name, real.class_names, what) for name in synthetic.class_names}
    if not any(mapped.values()) and _are_numbers_of(synthetic.class_names, real.class_names):
        mapped = {name: real.class_names[int(name)] for name in synthetic.class_names}
    missing = [name for name, found in mapped.items() if found is None]
    if missing:
        hint = ""
        if all(name.isdecimal() for name in real.class_names):
            hint = ", or write the names of its labels into classes.txt, one a line, beside them"
        raise InputError(
            f"{what}: no class {some(missing)}; it has {some(real.class_names, most=10)}: rename "
            f"its classes as those of the data set{hint}"
        )
    found_names = [name for name in mapped.values() if name is not None]
    if twice := [name for name in set(found_names) if found_names.count(name) > 1]:
        raise InputError(f"{what}: class {some(twice)} would be two classes of the data set")
    renamed = [f"{found} = {name}" for name, found in mapped.items() if found != name]
    if renamed:
        notes.append(f"{what}: classes taken as equal: {some(renamed)}")
    unused = [name for name in real.class_names if name not in mapped.values()]
    if unused:
        notes.append(f"{what}: classes that the data set has not, left out: {some(unused)}")
    new_ids = np.full(real.num_classes, -1, np.int64)
    for class_id, found in enumerate(mapped.values()):
        new_ids[real.class_names.index(str(found))] = class_id
    kept = real.take(np.flatnonzero(new_ids[real.class_ids] >= 0))
    return replace(
        kept, class_ids=new_ids[kept.class_ids], class_names=synthetic.class_names, notes=()
    )


def _find_class(name: str, names: Sequence[str], what: str) -> str | None:
    """Exactly, else by letters and digits alone: "Ankle boot" is "ankle-boot"."""
    if name in names:
        return name
    alike = [other for other in names if plain_name(other) == plain_name(name) != ""]
    if len(alike) > 1:
        raise InputError(f"{what}: classes {some(alike)} could all be {name!r}; rename them")
    return alike[0] if alike else None


def _are_numbers_of(numbers: Sequence[str], names: Sequence[str]) -> bool:
    """0, 1, 2, ... for classes in their order, as loaders number them."""
    return all(name.isdecimal() and int(name) < len(names) for name in numbers) and not any(
        name.isdecimal() for name in names
    )


def same_channels(
    synthetic: ImageSet, train: ImageSet, held_out: ImageSet, notes: list[str]
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """RGB of equal channels is grey; if any set is coloured, grey ones are repeated."""
    sets = [synthetic, train, held_out]
    if len({images.image_shape[2] for images in sets}) == 1:
        return synthetic, train, held_out
    sets = [_grey_if_equal(images) for images in sets]
    target = max(images.image_shape[2] for images in sets)
    names = ("data set", "reference", "held-out data")
    for index, (before, now) in enumerate(zip((synthetic, train, held_out), sets, strict=True)):
        if now.image_shape[2] < target:
            sets[index] = replace(now, images=now.images.repeat(3, axis=3))
            notes.append(f"{names[index]}: grey, repeated to RGB as the others are")
        elif now.image_shape[2] < before.image_shape[2]:
            notes.append(f"{names[index]}: RGB with three equal channels, taken as grey")
    return sets[0], sets[1], sets[2]


def _grey_if_equal(images: ImageSet) -> ImageSet:
    pixels = images.images
    if pixels.shape[3] == 1 or any(
        not np.array_equal(image[..., :1].repeat(3, axis=2), image) for image in pixels
    ):
        return images
    return replace(images, images=pixels[..., :1])


def same_size(synthetic: ImageSet, real: ImageSet, what: str, notes: list[str]) -> ImageSet:
    size, target = real.image_shape[:2], synthetic.image_shape[:2]
    if size == target:
        return real
    stretched = size[0] * target[1] != size[1] * target[0]
    notes.append(
        f"{what}: resized from {size_text(size)} to the data set's {size_text(target)}"
        + (", which changes their proportions" if stretched else "")
    )
    return replace(real, images=resize_all(real.images, target))
