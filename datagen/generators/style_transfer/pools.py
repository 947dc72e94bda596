"""Which style pictures a split draws from: whole groups, of which no two splits have one."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.generators.condition_set.items import Items, joined_groups


def rows_of_pool(items: Items, pool: tuple[float, float]) -> NDArray[np.int64]:
    """pool: [low, high) of 0 to 1, the share of a split. Groups stand in the order of the sha256 of
    their names. Raises ModelError if the share holds no whole group."""
    groups = joined_groups(items)
    ordered = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    first, last = places_of_pool(len(ordered), pool)
    if first == last:
        raise ModelError(
            f"style_transfer: {len(ordered)} groups of style pictures are too few for the splits: "
            "one has none; fit the set to more groups, or ask for fewer splits"
        )
    kept = set(ordered[first:last])
    return np.flatnonzero([group in kept for group in groups])


def places_of_pool(num_groups: int, pool: tuple[float, float]) -> tuple[int, int]:
    """[first, last) of the groups."""
    return round(pool[0] * num_groups), round(pool[1] * num_groups)
