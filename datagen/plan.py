"""recipe -> samples, splits, attempt keys, units and shards: pure and lazy.

Nothing here grows with the number of images: any unit or shard of a plan of a million samples is
computed from its index alone. Called by engine and its stages, and by `datagen plan`.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from datagen.recipe import Recipe


class Sample(NamedTuple):
    """One requested image. class_index: position in the recipe's classes."""

    class_index: int
    ordinal: int
    split: str


class AttemptRequest(NamedTuple):
    """One try at a sample."""

    class_index: int
    ordinal: int
    attempt: int


def attempt_key(context: str, class_name: str, ordinal: int, attempt: int) -> str:
    """The identity of a raw image: sha256 over all that it depends on.

    context: digest of the seed, the model, its options, the conditioning and the fingerprint.
    """
    return hashlib.sha256(f"{context}/{class_name}/{ordinal}/{attempt}".encode()).hexdigest()


def attempt_seed(recipe_seed: int, class_name: str, ordinal: int, attempt: int) -> int:
    """63 bits of sha256 over the four."""
    return _seed_of(f"{recipe_seed}/{class_name}/{ordinal}/{attempt}")


def augmentation_seed(recipe_seed: int, class_name: str, ordinal: int, attempt: int) -> int:
    """Beside the attempt's seed: a changed augmentation never changes a raw image."""
    return _seed_of(f"augment/{recipe_seed}/{class_name}/{ordinal}/{attempt}")


def seed_of_name(name: str) -> int:
    """The seed of a recipe that states none."""
    return _seed_of(f"name/{name}")


def seed_of_fire(schedule_id: str, fire_at: int) -> int:
    """The seed of a schedule's job whose every fire makes a new version."""
    return _seed_of(f"schedule/{schedule_id}/{fire_at}")


def _seed_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class SplitPattern:
    """Which split the ordinals of every class go to: each next one to the split furthest behind.

    The rule hands an ordinal only to a split whose deficit is positive, and the deficits are
    integers that sum to 0 after `period` ordinals: the pattern repeats, and one period is enough.
    """

    def __init__(self, ratios: Mapping[str, float], *, limit: int) -> None:
        """limit: the largest ordinal count that will be asked for.

        Splits are taken by falling ratio, then by name: a recipe's key order must not matter.
        """
        self.names = tuple(sorted(ratios, key=lambda name: (-ratios[name], name)))
        shares = [Fraction(str(ratios[name])) for name in self.names]
        total = sum(shares)
        shares = [share / total for share in shares]
        self.period = math.lcm(*(share.denominator for share in shares))
        weights = [int(share * self.period) for share in shares]
        self._positions = [array("L") for _ in weights]
        deficits = [0] * len(weights)
        for ordinal in range(min(self.period, limit)):
            for split, weight in enumerate(weights):
                deficits[split] += weight
            split = max(range(len(weights)), key=deficits.__getitem__)
            deficits[split] -= self.period
            self._positions[split].append(ordinal)

    def split_of(self, ordinal: int) -> str:
        place = ordinal % self.period
        for name, positions in zip(self.names, self._positions, strict=True):
            found = bisect_left(positions, place)
            if found < len(positions) and positions[found] == place:
                return name
        raise ValueError(f"ordinal {ordinal} lies beyond the planned limit")

    def count(self, split_index: int, num_ordinals: int) -> int:
        """How many of the first num_ordinals go to the split."""
        positions = self._positions[split_index]
        whole, rest = divmod(num_ordinals, self.period)
        return whole * len(positions) + bisect_left(positions, rest)

    def ordinal(self, split_index: int, rank: int) -> int:
        """The ordinal of the split's image number `rank`."""
        positions = self._positions[split_index]
        whole, rest = divmod(rank, len(positions))
        return whole * self.period + positions[rest]


class Plan:
    """The samples of a recipe, by generate unit and by shard."""

    def __init__(self, recipe: Recipe, *, unit_size: int) -> None:
        """unit_size: images per generate unit; it changes speed, never an image."""
        self.class_names = tuple(c.name for c in recipe.classes)
        self.counts = tuple(c.count for c in recipe.classes)
        self.num_samples = sum(self.counts)
        self.unit_size = unit_size
        self.shard_size = recipe.output.shard_size
        self.pattern = SplitPattern(recipe.splits.ratios, limit=max(self.counts))
        self._starts = [0]
        for count in self.counts:
            self._starts.append(self._starts[-1] + count)

    @property
    def num_generate_units(self) -> int:
        return math.ceil(self.num_samples / self.unit_size)

    def generate_requests(self, unit_index: int) -> Iterator[AttemptRequest]:
        """First attempts of one unit: consecutive samples, class by class, so that a grown class
        leaves its new images side by side."""
        first = unit_index * self.unit_size
        for place in range(first, min(first + self.unit_size, self.num_samples)):
            class_index = bisect_right(self._starts, place) - 1
            yield AttemptRequest(class_index, place - self._starts[class_index], 0)

    def counts_by_split(self, class_index: int) -> dict[str, int]:
        return {
            name: self.pattern.count(split, self.counts[class_index])
            for split, name in enumerate(self.pattern.names)
        }

    @cached_property
    def _split_layouts(self) -> tuple[EvenLayout, ...]:
        return tuple(
            EvenLayout([self.pattern.count(split, count) for count in self.counts])
            for split in range(len(self.pattern.names))
        )

    @cached_property
    def _shards_by_split(self) -> tuple[int, ...]:
        return tuple(math.ceil(lay.total / self.shard_size) for lay in self._split_layouts)

    @property
    def num_shards(self) -> int:
        return sum(self._shards_by_split)

    def shard_split(self, shard_index: int) -> tuple[str, int]:
        """Returns the split of a shard and the shard's place within it: a shard holds one split."""
        place = shard_index
        for name, num_shards in zip(self.pattern.names, self._shards_by_split, strict=True):
            if place < num_shards:
                return name, place
            place -= num_shards
        raise ValueError(f"shard {shard_index} of {self.num_shards}")

    def shard_samples(self, shard_index: int) -> list[Sample]:
        """The samples of one shard, classes spread evenly, in the order of the tar."""
        split, place = self.shard_split(shard_index)
        split_index = self.pattern.names.index(split)
        layout = self._split_layouts[split_index]
        first = place * self.shard_size
        return [
            Sample(class_index, self.pattern.ordinal(split_index, rank), split)
            for class_index, rank in layout.between(first, first + self.shard_size)
        ]


class EvenLayout:
    """An order in which every class is spread evenly from the first sample to the last.

    Rank r of a class of n samples stands at (2r + 1) / 2n of the way; ties go by class. Any piece
    is found without walking the whole.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = tuple(counts)
        self.total = sum(counts)

    def between(self, first: int, last: int) -> list[tuple[int, int]]:
        """Returns (class index, rank) of the places in [first, last)."""
        low, high = self._cut(first), self._cut(min(last, self.total))
        placed = [
            (self._position(c, rank), c, rank)
            for c in range(len(self.counts))
            for rank in range(low[c], high[c])
        ]
        return [(c, rank) for _, c, rank in sorted(placed)]

    def _position(self, class_index: int, rank: int) -> float:
        """Counts are at most 10^7: unequal positions differ by 10^-15 or more, far above the
        rounding of a division, and equal ones round alike."""
        return (2 * rank + 1) / (2 * self.counts[class_index])

    def _cut(self, place: int) -> list[int]:
        """How many samples of each class lie before `place`: proportional, then corrected by the
        few that rounding put on the wrong side."""
        if place == 0:
            return [0] * len(self.counts)
        # Rank r of n lies before place/total exactly when (2r + 1) * total <= 2 * n * place.
        ranks = [min(n, (2 * n * place + self.total) // (2 * self.total)) for n in self.counts]
        excess = sum(ranks) - place
        if excess > 0:
            last = [(-self._position(c, r - 1), -c, c) for c, r in enumerate(ranks) if r > 0]
            heapq.heapify(last)
            for _ in range(excess):
                c = heapq.heappop(last)[2]
                ranks[c] -= 1
                if ranks[c] > 0:
                    heapq.heappush(last, (-self._position(c, ranks[c] - 1), -c, c))
        else:
            following = [
                (self._position(c, r), c) for c, r in enumerate(ranks) if r < self.counts[c]
            ]
            heapq.heapify(following)
            for _ in range(-excess):
                c = heapq.heappop(following)[1]
                ranks[c] += 1
                if ranks[c] < self.counts[c]:
                    heapq.heappush(following, (self._position(c, ranks[c]), c))
        return ranks
