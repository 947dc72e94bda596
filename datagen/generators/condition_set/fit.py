"""From images and what lies beside them to a set of conditions. Called by spec.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datagen.conditions import ConditionKind
from datagen.errors import InputError
from datagen.generators.condition_set.items import MAX_BYTES, Items, checked_name, tensors_of
from datagen.generators.condition_set.options import ConditionSetNetwork
from datagen.image_set import ImageSet

if TYPE_CHECKING:
    import torch

_FOR_THE_HEADER = 1 << 20


@dataclass(frozen=True)
class FittedSet:
    """See Fitted in training/fitting.py."""

    network: dict[str, Any]
    weights: dict[str, torch.Tensor]
    lines: Sequence[str]


def fit_condition_set(images: ImageSet, *, kind: ConditionKind) -> FittedSet:
    """kind: mask and layout keep the label maps alone, image the pictures, inpaint the images
    themselves and their label maps, where there are any.

    Raises InputError if that does not fit into a model, or a name is none that it can hold.
    """
    items = _items_of(images, kind)
    try:
        for name in (*items.names, *items.groups):
            checked_name(name)
    except ValueError as error:
        raise InputError(f"data: {error}; rename it") from None
    tensors = tensors_of(items)
    size = sum(tensor.nbytes for tensor in tensors.values())
    if size > MAX_BYTES - _FOR_THE_HEADER:
        raise InputError(
            f"data: {len(items):,} items of {size >> 20:,} MiB in all; a model holds less than "
            f"{MAX_BYTES >> 20:,} MiB: give fewer images, or a smaller data.image_size"
        )
    num_groups = len(set(items.groups))
    network = ConditionSetNetwork(
        names=images.mask_names if items.masks is not None else (),
        picture_channels=0 if items.images is None else items.images.shape[3],
        num_items=len(items),
        num_groups=num_groups,
        has_spacing=items.spacing_mm is not None,
    )
    import torch

    weights = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}
    kept = [name for name in ("masks", "images") if name in tensors]
    lines = [
        f"{len(items):,} items as they are ({' and '.join(kept)}), in {num_groups:,} groups of "
        "which no two splits of a data set share one. Whoever has this model has these items."
    ]
    return FittedSet(network.model_dump(mode="json"), weights, lines)


def _items_of(images: ImageSet, kind: ConditionKind) -> Items:
    pictures = {"image": images.conditions, "inpaint": images.images}.get(kind)
    spacing = None
    if images.spacing_mm is not None and np.isfinite(images.spacing_mm).all():
        spacing = tuple((float(rows), float(columns)) for rows, columns in images.spacing_mm)
    return Items(
        masks=images.masks,
        images=pictures,
        names=images.names,
        groups=images.groups or images.names,
        class_ids=images.class_ids.astype(np.int64),
        spacing_mm=spacing,
    )
