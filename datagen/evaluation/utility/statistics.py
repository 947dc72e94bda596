"""Intervals of paired gaps, equivalence, and many tests at once. Called by arms.py and verdict.py.

Two things vary: the training (seeds and subsets, repeated) and the test set (one, whose images or
patients are a sample). Their variances are added: that counts the noise of single predictions
twice, so intervals are a little wide rather than too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from datagen.evaluation.measure import Measure
from datagen.evaluation.results import Verdict

Array = NDArray[np.float64]

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error and the degrees of freedom of its t distribution."""

    value: float
    error: float
    freedom: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        half = float(stats.t.ppf((1 + level) / 2, self.freedom)) * self.error
        return self.value - half, self.value + half

    def p_value(self) -> float:
        """Two-sided, that it is 0."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.value) / self.error, self.freedom))

    def measure(self, n: int, *, level: float = LEVEL, note: str = "") -> Measure:
        low, high = self.interval(level)
        return Measure(self.value, n, low=low, high=high, note=note)


def estimate(values: Array, influence: Array, clusters: NDArray[np.int64] | None) -> Estimate:
    """values: (num_repeats,), 2 or more, of one figure or one paired gap. influence: (num_test,),
    the mean over the repeats. clusters: (num_test,) ids of patients, None: every image is one."""
    repeats = float(values.var(ddof=1) / len(values))
    test, num_clusters = test_variance(influence, clusters)
    total = repeats + test
    if total == 0:
        return Estimate(float(values.mean()), 0.0, len(values) - 1)
    # Welch 1947, Satterthwaite 1946: degrees of freedom of a sum of variances.
    parts = repeats**2 / (len(values) - 1) + test**2 / max(1, num_clusters - 1)
    return Estimate(float(values.mean()), total**0.5, total**2 / parts)


def pooled_estimates(
    values: Sequence[Array], influences: Sequence[Array], clusters: NDArray[np.int64] | None
) -> list[Estimate]:
    """`estimate` for many classes. A few repeats tell little about each one's variance: its ratio
    to the variance over test sets is taken to be the same in all of them."""
    if not values:
        return []
    tested = np.array([test_variance(each, clusters)[0] for each in influences])
    repeated = np.array([each.var(ddof=1) / len(each) for each in values])
    if not 0 < tested.sum() < np.inf:
        return [estimate(v, i, clusters) for v, i in zip(values, influences, strict=True)]
    ratio = repeated.sum() / tested.sum()
    freedom = len(values) * (len(values[0]) - 1)
    return [
        Estimate(float(each.mean()), float((variance * (1 + ratio)) ** 0.5), freedom)
        for each, variance in zip(values, tested, strict=True)
    ]


def test_variance(influence: Array, clusters: NDArray[np.int64] | None) -> tuple[float, int]:
    """Of the figure over test sets, and the number of clusters that it rests on."""
    sums = influence if clusters is None else np.bincount(clusters, weights=influence)
    num = len(sums)
    if num < 2:
        return float("inf"), num
    return float(np.square(sums).sum() * num / (num - 1) / len(influence) ** 2), num


def judge(gap: Estimate, margin: float, *, level: float = LEVEL) -> Verdict:
    """Equivalence first: two one-sided tests at 1 - level each, that is the interval of level
    2 * level - 1 within the margin (Schuirmann 1987). An effect that is real but surely smaller
    than the margin is no difference."""
    low, high = gap.interval(2 * level - 1)
    if -margin < low and high < margin:
        return "no_difference"
    low, high = gap.interval(level)
    if low > 0:
        return "helps"
    return "harms" if high < 0 else "inconclusive"


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values. Source: Holm 1979, A simple sequentially rejective multiple test
    procedure, section 3."""
    order = np.argsort(p_values)
    num = len(p_values)
    adjusted, highest = [0.0] * num, 0.0
    for rank, row in enumerate(order):
        highest = max(highest, min(1.0, (num - rank) * p_values[row]))
        adjusted[row] = highest
    return adjusted
