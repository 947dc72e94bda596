"""Held-out images out of a reference that comes without any. Called by checks.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.image_set import ImageSet

HELD_OUT_SHARE = 0.3
MIN_PER_CLASS = 2


def split_reference(
    reference: ImageSet, *, share: float = HELD_OUT_SHARE, seed: int
) -> tuple[ImageSet, ImageSet, str]:
    """Returns (train, held_out, note): about `share` of each class held out, no group in both.

    Raises InputError if that leaves a class without images on either side.
    """
    rng = np.random.default_rng(seed)
    if reference.groups is None:
        rows = [
            rng.permutation(members)[: round(share * len(members))]
            for members in (reference.rows_of(i) for i in range(reference.num_classes))
        ]
        is_held_out = np.isin(np.arange(len(reference)), np.concatenate(rows))
        unit = "images"
    else:
        is_held_out = _hold_out_groups(reference, reference.groups, share, rng)
        unit = "groups"
    train = reference.take(np.flatnonzero(~is_held_out))
    held_out = reference.take(np.flatnonzero(is_held_out))
    for part in (train, held_out):
        counts = part.counts()
        if counts.min() < MIN_PER_CLASS:
            name = part.class_names[int(counts.argmin())]
            raise InputError(
                f"reference: too few {unit} of class {name!r} to hold {share:.0%} of them out; add "
                "images, or give held-out images with --held-out"
            )
    note = (
        f"no held-out data were given: {len(held_out):,} of the {len(reference):,} reference "
        f"images are held out, drawn by {unit} within each class (seed {seed}). Where the model "
        "was trained on all of them, they are not new to it: the privacy figures then say little"
    )
    return train, held_out, note


def _hold_out_groups(
    reference: ImageSet, groups: Sequence[str], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Whole groups in random order, each taken if it brings the classes nearer to their share."""
    ids = {name: i for i, name in enumerate(sorted(set(groups)))}
    group_ids = np.array([ids[name] for name in groups])
    counts = np.zeros((len(ids), reference.num_classes))
    np.add.at(counts, (group_ids, reference.class_ids), 1)
    wanted = share * counts.sum(0)
    held, taken = np.zeros(reference.num_classes), np.zeros(len(ids), bool)
    for group in rng.permutation(len(ids)):
        nearer = np.square(wanted - held - counts[group]).sum() < np.square(wanted - held).sum()
        if nearer:
            taken[group], held = True, held + counts[group]
    return np.asarray(taken[group_ids])
