"""Distances between two sets of features, with 95% intervals. Arrays in, figures out.

Called by fidelity.py. The estimates equal torchmetrics' (FID, KID, Inception score) and prdc's
(precision, recall, density, coverage) on the same features; the intervals are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Features = NDArray[np.float64]  # (N, d)
Z_95 = 1.959963984540054  # of the normal distribution
NEAREST_K = 5
_NUM_BLOCKS = 20
_MAX_JACKKNIFE_DIM = 256  # twenty Frechet distances at 1280 would take a minute
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Estimate:
    """low, high: 95% interval, None if not computed."""

    value: float
    low: float | None = None
    high: float | None = None


def frechet_distance(a: Features, b: Features) -> Estimate:
    """Between normal distributions of the same means and covariances; delete-a-block jackknife.

    The trace of the covariances' product root is the sum of singular values of L_a' L_b, where
    L L' is a covariance: exact for singular covariances too, unlike the product's own root.
    Source: Heusel et al. 2017 (FID, arXiv 1706.08500), equation 6.
    """
    centre = a.mean(axis=0)
    sides = [_block_moments(side - centre) for side in (a, b)]
    whole = [_total(blocks) for blocks in sides]
    value = _frechet(*whole)
    if a.shape[1] > _MAX_JACKKNIFE_DIM:
        return Estimate(value)
    left_out = np.array(
        [
            _frechet(
                *(total.without(blocks[i]) for total, blocks in zip(whole, sides, strict=True))
            )
            for i in range(_NUM_BLOCKS)
        ]
    )
    variance = (_NUM_BLOCKS - 1) / _NUM_BLOCKS * ((left_out - left_out.mean()) ** 2).sum()
    half = float(stats.t.ppf(0.975, _NUM_BLOCKS - 1)) * math.sqrt(variance)
    return Estimate(value, max(0.0, value - half), value + half)


@dataclass(frozen=True)
class _Moments:
    """n: rows. total: (d,) their sum. products: (d, d) sum of their outer products."""

    n: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    def without(self, part: _Moments) -> _Moments:
        return _Moments(self.n - part.n, self.total - part.total, self.products - part.products)

    def mean_and_root(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The mean, and L (d, d) with L L' the unbiased covariance."""
        mean = self.total / self.n
        covariance = (self.products - self.n * np.outer(mean, mean)) / (self.n - 1)
        values, vectors = np.linalg.eigh(covariance)
        return mean, vectors * np.sqrt(values.clip(0))


def _block_moments(rows: Features) -> list[_Moments]:
    return [
        _Moments(len(part), part.sum(axis=0), part.T @ part)
        for part in np.array_split(rows, _NUM_BLOCKS)
    ]


def _total(blocks: list[_Moments]) -> _Moments:
    return _Moments(
        sum(block.n for block in blocks),
        np.sum([block.total for block in blocks], axis=0),
        np.sum([block.products for block in blocks], axis=0),
    )


def _frechet(a: _Moments, b: _Moments) -> float:
    (mean_a, root_a), (mean_b, root_b) = a.mean_and_root(), b.mean_and_root()
    shared = np.linalg.svd(root_a.T @ root_b, compute_uv=False).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * shared
    return max(0.0, float(distance))


def kernel_distance_estimate(a: Features, b: Features) -> Estimate:
    """Unbiased squared MMD with the kernel (x.y / d + 1)^3 between equally many rows.

    The interval's variance is the larger of two: delete-one jackknife on both sides, and that of
    the degenerate case, which the jackknife misses where both sides come from one distribution.
    Source: Binkowski et al. 2018 (KID, arXiv 1801.01401), equation 4; Efron and Stein 1981 for
    the jackknife of two samples; Gretton et al. 2012 (JMLR 13), appendix B.1, for the other.
    """
    n = len(a)
    sums = _kernel_sums(a, b)
    within_a, within_b, across = sums.within_a.sum(), sums.within_b.sum(), sums.across_a.sum()
    pairs, pairs_left = n * (n - 1), (n - 1) * (n - 2)
    value = (within_a + within_b) / pairs - 2 * across / n**2
    without_a = (within_a - 2 * sums.within_a) / pairs_left + within_b / pairs
    without_a -= 2 * (across - sums.across_a) / pairs
    without_b = (within_b - 2 * sums.within_b) / pairs_left + within_a / pairs
    without_b -= 2 * (across - sums.across_b) / pairs
    jackknife = _jackknife_variance(without_a) + _jackknife_variance(without_b)
    half = Z_95 * math.sqrt(max(jackknife, sums.degenerate_variance()))
    return Estimate(float(value), float(value - half), float(value + half))


@dataclass(frozen=True)
class _KernelSums:
    """Of each row, (n,): its kernel summed over the other rows of its side, over the other side,
    and h(i, j) = k(a_i, a_j) + k(b_i, b_j) - k(a_i, b_j) - k(b_i, a_j) over j other than i.
    squares: of all h."""

    within_a: NDArray[np.float64]
    within_b: NDArray[np.float64]
    across_a: NDArray[np.float64]
    across_b: NDArray[np.float64]
    h: NDArray[np.float64]
    squares: float

    def degenerate_variance(self) -> float:
        """2 / (n (n - 1)) times the mean square of h less its row and column means."""
        n = len(self.h)
        means = self.h / (n - 1)
        rest = self.squares - 2 * n * (means**2).sum() + (n * n + n) * means.mean() ** 2
        return 2 * max(0.0, float(rest)) / (n * (n - 1)) ** 2


def _kernel_sums(a: Features, b: Features) -> _KernelSums:
    """In blocks of rows: the kernel matrices are never whole."""
    found: list[tuple[NDArray[np.float64], ...]] = []
    squares = 0.0
    for first in range(0, len(a), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        k_aa, k_bb, k_ab, k_ba = (
            _kernel(x, y) for x, y in ((a[rows], a), (b[rows], b), (a[rows], b), (b[rows], a))
        )
        across = k_ab.sum(axis=1), k_ba.sum(axis=1)
        own = np.arange(len(k_aa))
        for kernel in (k_aa, k_bb, k_ab, k_ba):
            kernel[own, first + own] = 0
        within = k_aa.sum(axis=1), k_bb.sum(axis=1)
        k_aa += k_bb - k_ab - k_ba
        squares += float(np.vdot(k_aa, k_aa))
        found.append((*within, *across, k_aa.sum(axis=1)))
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return _KernelSums(columns[0], columns[1], columns[2], columns[3], columns[4], squares)


def _kernel(a: Features, b: Features) -> Features:
    plain: Features = a @ b.T / a.shape[1] + 1
    return plain * plain * plain


def _jackknife_variance(left_out: NDArray[np.float64]) -> float:
    n = len(left_out)
    return float((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())


@dataclass(frozen=True)
class Manifold:
    """radii: of each row, the distance to its k-th nearest other row."""

    features: Features
    radii: NDArray[np.float64]


@dataclass(frozen=True)
class ManifoldFigures:
    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def manifold_of(features: Features) -> Manifold:
    """features: more than NEAREST_K rows."""
    radii = []
    for first in range(0, len(features), _ROWS_AT_ONCE):
        block = _distances(features[first : first + _ROWS_AT_ONCE], features)
        rows = np.arange(len(block))
        block[rows, first + rows] = 0  # rounding apart, as in prdc
        radii.append(np.partition(block, NEAREST_K, axis=1)[:, NEAREST_K])
    return Manifold(features, np.concatenate(radii))


def manifold_figures(real: Manifold, fake: Manifold) -> ManifoldFigures:
    """Intervals count the images of one side as draws and take the other side's radii as given.

    Source: Kynkaanniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2, for precision and
    recall; Naeem et al. 2020 (arXiv 2002.09797), equations 3 and 4, for density and coverage.
    """
    num_around = np.zeros(len(fake.features))
    is_recalled, is_covered = [], []
    for first in range(0, len(real.features), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        block = _distances(real.features[rows], fake.features)
        num_around += (block < real.radii[rows, None]).sum(axis=0)
        is_recalled.append((block < fake.radii).any(axis=1))
        is_covered.append(block.min(axis=1) < real.radii[rows])
    density = num_around / NEAREST_K
    half = Z_95 * float(density.std(ddof=1)) / math.sqrt(len(density))
    mean = float(density.mean())
    return ManifoldFigures(
        precision=share(num_around > 0),
        recall=share(np.concatenate(is_recalled)),
        density=Estimate(mean, max(0.0, mean - half), mean + half),
        coverage=share(np.concatenate(is_covered)),
    )


def _distances(a: Features, b: Features) -> Features:
    """(N, M) Euclidean."""
    squares: Features = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
    np.maximum(squares, 0, out=squares)
    return np.sqrt(squares, out=squares)


def share(is_true: NDArray[np.bool_], *, num_effective: float | None = None) -> Estimate:
    """Of (N,) booleans, with Wilson's interval. num_effective: independent ones among them.

    Source: Wilson 1927, in the form of Agresti and Coull 1998, equation 2.
    """
    value = float(is_true.mean())
    n = num_effective or len(is_true)
    squared = Z_95**2
    middle = (value + squared / (2 * n)) / (1 + squared / n)
    half = Z_95 / (1 + squared / n) * math.sqrt(value * (1 - value) / n + squared / (4 * n * n))
    return Estimate(value, min(value, max(0.0, middle - half)), max(value, min(1.0, middle + half)))


def inception_score(probabilities: NDArray[np.floating]) -> Estimate:
    """exp of the mean divergence of (N, K) rows from their mean; delete-one jackknife.

    One split over all rows. Source: Salimans et al. 2016 (arXiv 1606.03498), section 4.
    """
    rows = probabilities.astype(np.float64)
    n, total = len(rows), rows.sum(axis=0)
    own = _entropy(rows)
    value = math.exp(float(_entropy(total / n)) - own.mean())
    without = np.exp(_entropy((total - rows) / (n - 1)) - (own.sum() - own) / (n - 1))
    half = Z_95 * math.sqrt(_jackknife_variance(without))
    return Estimate(value, max(1.0, value - half), value + half)


def _entropy(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """(..., K) => (...), in nats."""
    logs = np.log(np.where(shares > 0, shares, 1))
    entropy: NDArray[np.float64] = -(shares * logs).sum(axis=-1)
    return entropy
