"""How many attempts and rounds a recipe is expected to need, given each class's acceptance.

Mirrors the judge (stages/judge.py) with expected numbers in place of scores. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from datagen.recipe import Limits
from datagen.stages.judge import MAX_AHEAD

# A class counts as filled when fewer are expected to miss: half of the runs are done by then.
_FILLED = 0.5


@dataclass(frozen=True)
class Round:
    """One round of generating and judging. num_places: images that the model makes, with those
    that pad a batch. num_judged: attempts that the judge looks at, every look counted."""

    num_attempts: float
    num_units: int
    num_places: int
    num_judged: float


def expected_rounds(
    counts: Sequence[int],
    chances: Sequence[float] | None,
    limits: Limits,
    *,
    batch_size: int,
    unit_size: int,
) -> list[Round]:
    """counts: images of each class. chances: that an attempt of the class passes, above 0 and at
    most 1; None if the recipe has no filters, so that nothing is judged."""
    first = float(sum(counts))
    if chances is None:
        return [_round(first, 0.0, batch_size, unit_size)]
    classes = [_Class(n, p, limits) for n, p in zip(counts, chances, strict=True)]
    rounds = [_round(first, sum(each.num_judged for each in classes), batch_size, unit_size)]
    for num_attempts in _refills(classes):
        judged = sum(each.num_judged for each in classes)
        rounds.append(_round(num_attempts, judged, batch_size, unit_size))
    return rounds


def _refills(classes: Sequence[_Class]) -> Iterator[float]:
    while num_attempts := sum(each.refill() for each in classes):
        yield num_attempts


def _round(num_attempts: float, num_judged: float, batch_size: int, unit_size: int) -> Round:
    """Each unit but the last is full, and each unit fills up its last batch."""
    whole = math.ceil(num_attempts)
    num_full, rest = divmod(whole, unit_size)
    places = num_full * _padded(unit_size, batch_size) + _padded(rest, batch_size)
    return Round(num_attempts, num_full + (rest > 0), places, num_judged)


def _padded(num_images: int, batch_size: int) -> int:
    return math.ceil(num_images / batch_size) * batch_size


class _Class:
    """Its missing samples have all made the same number of attempts."""

    def __init__(self, count: int, chance: float, limits: Limits) -> None:
        self._count = count
        self._chance = chance
        self._max_made = limits.max_attempts_per_sample
        self._budget = math.floor(limits.max_attempts_per_class * count)
        self._first_cap = max(1, min(self._max_made, self._budget // count - 1))
        self._made = 1

    @property
    def num_judged(self) -> float:
        """The judge starts at the first cap every time, and looks again for each one above."""
        return self._num_considered * max(1, self._made - self._first_cap + 1)

    @property
    def _num_considered(self) -> float:
        """Each sample up to its first attempt that passes: a geometric series."""
        return self._count * (1 - self._rejected_all) / self._chance

    @property
    def _rejected_all(self) -> float:
        return float((1 - self._chance) ** self._made)

    def refill(self) -> float:
        """Makes the next attempts of the samples that miss; 0.0 if the class is done or fails."""
        missing = self._count * self._rejected_all
        over_budget = self._num_considered + missing > self._budget
        if missing < _FILLED or self._made >= self._max_made or over_budget:
            return 0.0
        per_image = self._num_considered / max(1.0, self._count - missing)
        ahead = max(1, min(MAX_AHEAD, round(per_image)))
        cap = max(self._first_cap, self._made + 1)
        ahead = min(ahead, cap - self._made)
        self._made += ahead
        return missing * ahead
