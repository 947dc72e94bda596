"""The figures equal those of torchmetrics and prdc, and the intervals cover what they claim."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from prdc import compute_prdc
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from datagen.evaluation.feature_metrics import (
    frechet_distance,
    inception_score,
    kernel_distance_estimate,
    manifold_figures,
    manifold_of,
    share,
)
from datagen.features import kernel_distance

Array = NDArray[np.float64]
pytestmark = pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features")


class _Given(torch.nn.Module):
    """What torchmetrics takes for a network: the images are the features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images


def two_sets(n: int, dim: int, *, seed: int = 0, shift: float = 0.3) -> tuple[Array, Array]:
    """Correlated, rectified features, as those of a network."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) / np.sqrt(dim)
    a = np.maximum(rng.normal(size=(n, dim)) @ mixing + 0.4, 0)
    b = np.maximum(rng.normal(size=(n, dim)) @ mixing * 1.2 + 0.4 + shift, 0)
    return a, b


@pytest.mark.parametrize(("n", "dim", "shift"), [(300, 24, 0.3), (500, 64, 0.0), (400, 8, 3.0)])
def test_fid_equals_torchmetrics(n: int, dim: int, shift: float) -> None:
    a, b = two_sets(n, dim, shift=shift)
    metric = FrechetInceptionDistance(feature=_Given(dim)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    assert frechet_distance(a, b).value == pytest.approx(float(metric.compute()), rel=1e-6)


def test_fid_of_a_shift_is_its_square() -> None:
    """Equal covariances: only the means count."""
    a, _ = two_sets(400, 6)
    assert frechet_distance(a, a + 0.5).value == pytest.approx(6 * 0.25, rel=1e-9)
    assert frechet_distance(a, a).value == pytest.approx(0, abs=1e-9)


def test_fid_is_exact_with_features_that_never_fire() -> None:
    a, b = two_sets(300, 10)
    nothing = np.zeros((300, 5))
    dead = frechet_distance(np.hstack([a, nothing]), np.hstack([b, nothing]))
    assert dead.value == pytest.approx(frechet_distance(a, b).value, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kid_equals_torchmetrics_and_the_plain_formula(shift: float) -> None:
    a, b = two_sets(120, 16, shift=shift)
    metric = KernelInceptionDistance(feature=_Given(16), subsets=1, subset_size=120)
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    estimate = kernel_distance_estimate(a, b)
    assert estimate.value == pytest.approx(float(metric.compute()[0]), rel=1e-6)
    assert estimate.value == pytest.approx(kernel_distance(a, b), rel=1e-9)


def test_kid_interval_is_the_jackknife_done_by_hand() -> None:
    a, b = two_sets(12, 4, shift=2)
    variance = 0.0
    for side in (0, 1):
        left_out = []
        for i in range(12):
            pair = [a, b]
            pair[side] = np.delete(pair[side], i, axis=0)
            left_out.append(kernel_distance(*pair))
        variance += 11 / 12 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2)
    estimate = kernel_distance_estimate(a, b)
    assert estimate.high is not None
    assert estimate.high - estimate.value == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-6)


def test_intervals_of_fid_and_kid_cover_a_known_distance() -> None:
    """Normal features, where FID is known; its small bias of order dim / n is left in."""
    truth, covered = 3 * 0.4**2, 0
    kid_values, kid_covered = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = rng.normal(size=(400, 3)), rng.normal(size=(400, 3)) + 0.4
        fid = frechet_distance(a, b)
        assert fid.low is not None
        assert fid.high is not None
        covered += fid.low <= truth <= fid.high
        kid = kernel_distance_estimate(a, b)
        kid_values.append(kid.value)
        kid_covered.append((kid.low, kid.high))
    assert 51 <= covered <= 60
    mean = np.mean(kid_values)  # unbiased: the mean of sixty is close to the truth
    assert 51 <= sum(low <= mean <= high for low, high in kid_covered if low and high) <= 60


def test_kid_interval_covers_zero_where_both_sides_are_one_distribution() -> None:
    """One direction: the jackknife alone, near zero whenever the means are close, covers 89%."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        a, b = (rng.normal(size=(60, 1)) * 0.3 @ np.ones((1, 3)) for _ in range(2))
        estimate = kernel_distance_estimate(a, b)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 0 <= estimate.high
    assert covered >= 190


def test_kid_is_the_same_in_blocks_of_rows() -> None:
    a, b = two_sets(1100, 4)
    assert kernel_distance_estimate(a, b).value == pytest.approx(kernel_distance(a, b), rel=1e-9)


@pytest.mark.parametrize(("n", "dim", "shift"), [(300, 16, 0.3), (200, 64, 0.0), (1200, 4, 0.1)])
def test_precision_recall_density_coverage_equal_prdc(n: int, dim: int, shift: float) -> None:
    real, fake = two_sets(n, dim, shift=shift)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(real, fake, nearest_k=5)
    figures = manifold_figures(manifold_of(real), manifold_of(fake))
    for name, value in expected.items():
        estimate = getattr(figures, name)
        assert estimate.value == pytest.approx(value, abs=1e-12), name
        assert estimate.low <= estimate.value <= estimate.high


def test_a_set_that_lost_half_of_its_variety_has_low_recall_and_coverage() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 2)) + np.repeat([[0, 0], [20, 0]], 200, axis=0)
    fake = rng.normal(size=(400, 2))
    figures = manifold_figures(manifold_of(real), manifold_of(fake))
    assert figures.precision.value > 0.9
    assert figures.recall.value < 0.6
    assert figures.coverage.value < 0.6


@pytest.mark.filterwarnings("ignore:std")  # of one split
def test_inception_score_equals_torchmetrics() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 7)) * 3)
    metric = InceptionScore(feature=_Given(7), splits=1).set_dtype(torch.float64)
    metric.update(logits)
    estimate = inception_score(logits.softmax(1).numpy())
    assert estimate.value == pytest.approx(float(metric.compute()[0]), rel=1e-6)


def test_inception_score_spans_one_to_the_number_of_classes() -> None:
    assert inception_score(np.full((50, 5), 0.2)).value == pytest.approx(1)
    assert inception_score(np.tile(np.eye(5), (10, 1))).value == pytest.approx(5)


def test_wilson_interval_equals_scipys() -> None:
    from scipy.stats import binomtest

    for hits, n in ((0, 20), (7, 20), (20, 20), (980, 1000)):
        estimate = share(np.arange(n) < hits)
        low, high = binomtest(hits, n).proportion_ci(method="wilson")
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-9)
