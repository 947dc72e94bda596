"""Worth in real labels: the learning curve of real images, read at the accuracy of a data set.

Pure statistics over the margins of trained classifiers; learning.py trains them. docs/utility.md
derives what stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from datagen.evaluation.measure import Measure
from datagen.evaluation.results import CurvePoint

Array = NDArray[np.float64]

LEVEL = 0.90
# Read the curve up to this times the real images there are; beyond, "at least".
EXTRAPOLATION = 1.5
_SMOOTHING = 0.4
_EXPONENTS = np.linspace(0.02, 2.0, 67)
_DRAWS = 1000
_ENDLESS = 1e12
NUM_PARTS = 8
# A subset of at most this share of the pool varies about as a fresh draw does.
_FRESH_SHARE = 0.25


@dataclass(frozen=True)
class Curve:
    """margins: (num_repeats, num_sizes, num_test) of nested subsets of the real pool. sizes:
    rising, the last is the pool itself."""

    sizes: Array
    margins: Array

    @property
    def accuracies(self) -> Array:
        """(num_repeats, num_sizes), smooth."""
        return smooth_accuracy(self.margins)

    def training_variance(self) -> float:
        """Of the accuracy over trainings on one and the same set, the pool: 0 for the probe."""
        return float(self.accuracies[:, -1].var(ddof=1))

    def draw_variance(self) -> float:
        """times 1 / n: the variance of the accuracy of one fresh set of n images, training apart
        (finite population correction: Cochran 1977, equation 2.20). Falls as 1 / n, as measured."""
        shares = self.sizes / self.sizes[-1]
        fresh = shares <= max(_FRESH_SHARE, shares[0])
        spread = self.accuracies[:, fresh].var(0, ddof=1)
        # Two noisy estimates may leave nothing: at least half of the spread is the draw's.
        drawn = np.maximum(spread - self.training_variance(), 0.5 * spread)
        return float((drawn * self.sizes[fresh] / (1 - shares[fresh])).mean())

    def freedom(self) -> int:
        num_fresh = int((self.sizes / self.sizes[-1] <= _FRESH_SHARE).sum())
        return max(1, num_fresh) * (len(self.margins) - 1)

    def points(self, num_real: Sequence[int]) -> tuple[CurvePoint, ...]:
        """Plain accuracy with the 95% interval for fresh draws of so many images, within [0, 1]:
        Student's t knows no bounds. The n of each is the number of images trained on."""
        plain = (self.margins > 0).mean(-1)
        shares = self.sizes / self.sizes[-1]
        drawn = self.draw_variance() / self.sizes * (shares + (1 - shares) / len(self.margins))
        error = np.sqrt(drawn + self.training_variance() / len(self.margins))
        half = stats.t.ppf(0.975, self.freedom()) * error
        means = plain.mean(0)
        lows, highs = np.clip(means - half, 0, 1), np.clip(means + half, 0, 1)
        return tuple(
            CurvePoint(n, Measure(float(mean), n, low=float(low), high=float(high)))
            for n, mean, low, high in zip(num_real, means, lows, highs, strict=True)
        )


def smooth_accuracy(margins: Array) -> Array:
    """(..., num_test) => (...): the share of margins above 0, smoothed over a part of their spread
    (a kernel estimate of the distribution at 0: Azzalini 1981). Follows accuracy, with half of the
    noise that single test images near the boundary add."""
    return np.asarray(_credit(margins).mean(-1))


def _credit(margins: Array) -> Array:
    """What each test image adds to smooth_accuracy."""
    width = _SMOOTHING * margins.std(-1, keepdims=True)
    return np.asarray(expit(margins / np.maximum(width, 1e-9)))


def worth(
    curve: Curve, whole: Array, halves: Array, *, own_variance: float = 0.0, seed: int
) -> Measure:
    """Real labels that train as accurate a model, with the 90% interval.

    whole: (num_runs, num_test) margins of models trained on the whole data set. halves: (2,
    num_test), of models trained on its two disjoint halves: what they share against real images is
    no noise. own_variance: of the accuracy over fresh draws of such a set, from variance_of_parts.
    """
    accuracy = float(smooth_accuracy(whole).mean())
    means = curve.accuracies.mean(0)
    value = float(_invert(curve.sizes, means[None], np.array([accuracy]))[0])
    rng = np.random.default_rng(seed)
    drawn = _redrawn(curve, accuracy, value, halves, own_variance, len(whole), rng)
    low, high = (float(q) for q in np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return _bounded(curve, value, min(low, value), max(high, value))


def variance_of_parts(parts: Array) -> float:
    """parts: (NUM_PARTS, num_test) margins of models trained on disjoint parts of a data set. The
    variance of one part's accuracy falls as 1 / n to that of the whole."""
    return float(smooth_accuracy(parts).var(ddof=1) / NUM_PARTS)


def _redrawn(
    curve: Curve,
    accuracy: float,
    value: float,
    halves: Array,
    own_variance: float,
    num_runs: int,
    rng: np.random.Generator,
) -> Array:
    """(_DRAWS,): the worth, were the real pool, its subsets and the data set drawn anew."""
    sizes, shares, num = curve.sizes, curve.sizes / curve.sizes[-1], len(curve.margins)
    # The variance is itself an estimate: its uncertainty makes t of normal draws.
    doubt = curve.freedom() / rng.chisquare(curve.freedom(), (_DRAWS, 1))
    unit, training = curve.draw_variance() * doubt, curve.training_variance() * doubt
    pool = rng.standard_normal((_DRAWS, 1)) * np.sqrt(shares)
    subsets = rng.standard_normal((_DRAWS, len(sizes))) * np.sqrt((1 - shares) / num)
    trained = rng.standard_normal((_DRAWS, len(sizes))) * np.sqrt(training / num)
    redrawn = curve.accuracies.mean(0) + (pool + subsets) * np.sqrt(unit / sizes) + trained
    # A set as good as N real images varies as N real images do, or as its own parts do.
    fitted = np.clip(value, sizes[0], EXTRAPOLATION * sizes[-1])
    own = own_variance * (NUM_PARTS - 1) / rng.chisquare(NUM_PARTS - 1, _DRAWS)
    spread = np.maximum(unit[:, 0] / fitted, own) + training[:, 0] / num_runs
    spread = np.sqrt(spread + _shared_difference(curve, halves))
    return _invert(sizes, redrawn, accuracy + rng.standard_normal(_DRAWS) * spread)


def _shared_difference(curve: Curve, halves: Array) -> float:
    """Variance over test sets of what sets this data set apart from real images of equal worth.

    Two independent estimates of the difference on each test image: their covariance holds no noise
    of training.
    """
    half_worth = smooth_accuracy(halves).mean()
    nearest = int(np.abs(curve.accuracies.mean(0) - half_worth).argmin())
    real = _credit(curve.margins[:, nearest])
    cut = len(real) // 2
    first, second = _credit(halves) - np.stack([real[:cut].mean(0), real[cut:].mean(0)])
    return max(0.0, float(np.cov(first, second)[0, 1])) / int(halves.shape[1])


def _invert(sizes: Array, accuracies: Array, wanted: Array) -> Array:
    """accuracies: (D, num_sizes); wanted: (D,). Returns (D,): n at which the fitted curve
    a - b (n / n_max)^-c reaches what is wanted; _ENDLESS above its asymptote.

    A power law with an asymptote (Hestness et al. 2017, arXiv 1712.00409, section 3), least squares
    weighted by n, since the variance falls as 1 / n.
    """
    relative, root = sizes / sizes[-1], np.sqrt(sizes / sizes[-1])
    best = np.full(len(accuracies), np.inf)
    found = np.zeros((3, len(accuracies)))
    for exponent in _EXPONENTS:
        design = np.stack([np.ones_like(relative), -(relative**-exponent)], 1)
        coefficients = np.linalg.lstsq(design * root[:, None], (accuracies * root).T)[0]
        residual = np.square((design @ coefficients - accuracies.T) * root[:, None]).sum(0)
        better = (residual < best) & (coefficients[1] > 0)
        best = np.where(better, residual, best)
        fitted = np.vstack([coefficients, np.full(len(best), exponent)])
        found = np.where(better, fitted, found)
    top, fall, exponent_found = found
    gap = (top - wanted) / np.maximum(fall, 1e-12)
    with np.errstate(over="ignore"):
        n = sizes[-1] * np.maximum(gap, 1e-12) ** (-1 / np.maximum(exponent_found, 1e-3))
    return np.asarray(np.where((gap > 0) & (fall > 0), np.minimum(n, _ENDLESS), _ENDLESS))


def _bounded(curve: Curve, value: float, low: float, high: float) -> Measure:
    """Within what the curve can tell."""
    smallest, pool = float(curve.sizes[0]), float(curve.sizes[-1])
    most, n = EXTRAPOLATION * pool, int(pool)
    if value < smallest:
        reach = smallest if high < smallest else min(high, most)
        note = f"less than {smallest:,.0f} real labels, where the curve begins"
        return Measure(0.0 if high < smallest else value, n, low=0.0, high=reach, note=note)
    low = 0.0 if low < smallest else low
    if value > most or high > most:
        least = min(low, most)
        note = f"at least {least:,.0f}: the real data end at {pool:,.0f}"
        return Measure(min(value, most), n, low=least, high=None, note=note)
    note = f"beyond the {pool:,.0f} real images there are: extrapolated" if high > pool else ""
    return Measure(value, n, low=low, high=high, note=note)
