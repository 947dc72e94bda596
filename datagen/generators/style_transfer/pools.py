"""Which style pictures a split draws from: whole groups, of which no two splits have one."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.generators.condition_set.items import Items, joined_groups


class StylePools:
    """Groups stand in the order of the sha256 of their names."""

    def __init__(self, items: Items) -> None:
        groups = joined_groups(items)
        ordered = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
        places = {group: place for place, group in enumerate(ordered)}
        self.num_groups = len(ordered)
        self._place_of = np.array([places[group] for group in groups])

    def rows(self, pool: tuple[float, float]) -> NDArray[np.int64]:
        """pool: [low, high) of 0 to 1, the share of a split. Raises ModelError if it holds no whole
        group."""
        first, last = places_of_pool(self.num_groups, pool)
        if first == last:
            raise ModelError(
                f"style_transfer: {self.num_groups} groups of style pictures are too few for the "
                "splits: one has none; fit the set to more groups, or ask for fewer splits"
            )
        return np.flatnonzero((self._place_of >= first) & (self._place_of < last))


def places_of_pool(num_groups: int, pool: tuple[float, float]) -> tuple[int, int]:
    """[first, last) of the groups."""
    return round(pool[0] * num_groups), round(pool[1] * num_groups)
