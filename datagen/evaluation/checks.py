"""Bad input: sets of images that do not fit each other are mapped, and said so, or refused.

Called by evaluate.py, and by whoever fits a reference, before anything is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from datagen.errors import InputError
from datagen.evaluation.alignment import same_channels, same_size, with_classes_of
from datagen.evaluation.held_out import MIN_PER_CLASS, split_reference
from datagen.faults import plural
from datagen.image_set import ImageSet
from datagen.real_images.listing import some
from datagen.real_images.resizing import size_text

MIN_IMAGES = 20
MIN_SIDE_PX = 4  # smaller ones the classifiers cannot halve twice


@dataclass(frozen=True)
class MatchedSets:
    """Three sets of the same classes in the same order, the same size and channels, and without a
    common image between what is learned from and what is tested on."""

    synthetic: ImageSet
    train: ImageSet
    held_out: ImageSet
    notes: tuple[str, ...]


def match_sets(
    synthetic: ImageSet, train: ImageSet, held_out: ImageSet | None = None, *, seed: int
) -> MatchedSets:
    """held_out: None draws it out of train. notes: all that was changed, also on loading.

    Raises InputError, naming what does not fit and what to do.
    """
    notes = [*synthetic.notes, *train.notes, *(held_out.notes if held_out else ())]
    _check_size(synthetic)
    train = with_classes_of(synthetic, train, "reference", notes)
    if held_out is None:
        train, held_out, note = split_reference(train, seed=seed)
        notes.append(note)
    held_out = with_classes_of(synthetic, held_out, "held-out data", notes)
    synthetic, train, held_out = same_channels(synthetic, train, held_out, notes)
    train = same_size(synthetic, train, "reference", notes)
    held_out = same_size(synthetic, held_out, "held-out data", notes)
    num_synthetic, num_held_out = len(synthetic), len(held_out)
    held_out = without_overlap(train, held_out, notes)
    num_in_reference = num_held_out - len(held_out)
    synthetic, held_out = _apart(synthetic, held_out, notes, seed=seed)
    num_in_set = num_held_out - num_in_reference - len(held_out)
    copies = overlap(train, synthetic)
    if copies:
        notes.append(
            f"{plural(len(copies), 'image', 'images')} of the data set "
            f"{'is a reference image' if len(copies) == 1 else 'are reference images'}, pixel by "
            f"pixel: {some(copies)}"
        )
    _check_enough("data set", synthetic, {"held-out data": num_synthetic - len(synthetic)})
    _check_enough("reference", train, {})
    taken = {"reference": num_in_reference, "data set": num_in_set}
    _check_enough("held-out data", held_out, taken)
    return MatchedSets(synthetic, train, held_out, tuple(notes))


def overlap(a: ImageSet, b: ImageSet) -> tuple[str, ...]:
    """Names of the images of b whose pixels are also in a."""
    known = set(a.pixel_digests())
    return tuple(
        name for name, digest in zip(b.names, b.pixel_digests(), strict=True) if digest in known
    )


def without_overlap(train: ImageSet, held_out: ImageSet, notes: list[str]) -> ImageSet:
    """held_out less the images that are in train as well; notes says which. Images of a group
    that is on both sides are named only: their pixels differ.

    Raises InputError if none is left.
    """
    shared = set(overlap(train, held_out))
    if len(shared) == len(held_out):
        raise InputError(
            f"held-out data: every one of the {len(held_out):,} images is in the reference as "
            "well; give real images that the model has not seen"
        )
    if held_out.groups is not None and train.groups is not None:
        groups = sorted(set(train.groups) & set(held_out.groups))
        if groups:
            told = plural(len(groups), "group is", "groups are")
            notes.append(
                f"{told} in the reference and in the held-out data: {some(groups)}; what is "
                "measured on them looks better than it is"
            )
    if not shared:
        return held_out
    notes.append(
        f"{plural(len(shared), 'held-out image is', 'held-out images are')} in the reference as "
        f"well, left out: {some(sorted(shared))}"
    )
    return held_out.take([i for i, name in enumerate(held_out.names) if name not in shared])


def _apart(
    synthetic: ImageSet, held_out: ImageSet, notes: list[str], *, seed: int
) -> tuple[ImageSet, ImageSet]:
    """What would be learned from and tested on at once is kept on one side only: in the data set,
    or, where little held-out data would be left, by lot."""
    shared = set(overlap(synthetic, held_out))
    if not shared:
        return synthetic, held_out
    digests = held_out.pixel_digests()
    rows = np.array([i for i, name in enumerate(held_out.names) if name in shared])
    removed = rows
    if len(rows) > len(held_out) / 2:
        drawn = np.random.default_rng(seed).permutation(sorted({digests[i] for i in rows}))
        to_set = set(drawn[: len(drawn) // 2].tolist())
        removed = np.array([i for i in rows if digests[i] in to_set], np.int64)
    kept_out = {digests[i] for i in rows} - {digests[i] for i in removed}
    staying = [i for i, d in enumerate(synthetic.pixel_digests()) if d not in kept_out]
    notes.append(
        f"{plural(len(shared), 'held-out image is', 'held-out images are')} in the data set as "
        f"well: {some(sorted(shared))}; left out, so that none is both learned from and tested on: "
        f"{plural(len(removed), 'image')} of the held-out data and "
        f"{plural(len(synthetic) - len(staying), 'image')} of the data set"
    )
    left = np.setdiff1d(np.arange(len(held_out)), removed)
    return synthetic.take(staying), held_out.take(left)


def _check_size(synthetic: ImageSet) -> None:
    height, width = synthetic.image_shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise InputError(
            f"data set: its images are {size_text((height, width))} px; expected {MIN_SIDE_PX} px "
            "a side or more: smaller ones show nothing to measure"
        )


def _check_enough(what: str, images: ImageSet, taken: Mapping[str, int]) -> None:
    """taken: in which other set images of this one were too -> how many were taken out for it."""
    told = " and ".join(f"{num:,} also in the {other}" for other, num in taken.items() if num)
    left = f" left (taken out: {told})" if told else ""
    if len(images) < MIN_IMAGES:
        raise InputError(
            f"{what}: {plural(len(images), 'image')}{left}; expected {MIN_IMAGES} or more, and "
            "some thousands for figures that mean something"
        )
    for name, count in zip(images.class_names, images.counts().tolist(), strict=True):
        if count < MIN_PER_CLASS:
            raise InputError(
                f"{what}: {plural(count, 'image')} of class {name!r}{left}; expected "
                f"{MIN_PER_CLASS} or more: add images, or take the class out"
            )
