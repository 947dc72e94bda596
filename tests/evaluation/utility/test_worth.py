from __future__ import annotations

import threading

import numpy as np

from datagen.evaluation.utility.learning import Material, dealt, measure_worth, stratified_order
from datagen.evaluation.utility.training import Examples
from datagen.evaluation.utility.worth import Curve, smooth_accuracy, worth
from tests.evaluation.utility.toys import toy_examples

SIZES = np.array([100, 200, 400, 800, 1600, 3200], dtype=np.float64)
NUM_TEST, NUM_REPEATS = 1500, 5


def margins_at(rng: np.random.Generator, num: float, hardness: np.ndarray) -> np.ndarray:
    """Of a classifier trained on num images: power law in the mean, less luck with more images."""
    skill = 2.0 - 6.0 * num**-0.35 + rng.normal(0, 1.2) / num**0.5
    return skill - hardness + rng.normal(0, 3.0, len(hardness)) / num**0.5


def simulated(seed: int, num: float) -> tuple[Curve, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    hardness = rng.normal(0, 1, NUM_TEST)
    repeats = [[margins_at(rng, n, hardness) for n in SIZES] for _ in range(NUM_REPEATS)]
    whole = margins_at(rng, num, hardness)[None]
    halves = np.stack([margins_at(rng, num / 2, hardness) for _ in range(2)])
    return Curve(SIZES, np.array(repeats)), whole, halves


def test_the_interval_covers_the_size_of_real_images_that_pose_as_synthetic() -> None:
    covered, errors = 0, []
    for seed in range(40):
        num = 150 * 16 ** (seed / 40)
        found = worth(*simulated(seed, num), own_variance=0.0, seed=seed)
        assert found.value is not None
        assert found.low is not None
        covered += found.low <= num and (found.high is None or num <= found.high)
        errors.append(abs(np.log(found.value / num)))
    assert covered >= 34
    assert np.median(errors) < 0.2


def test_what_is_better_than_all_real_images_is_worth_at_least_so_many() -> None:
    curve, whole, halves = simulated(0, 1e6)
    found = worth(curve, whole + 1.0, halves + 1.0, seed=0)
    assert found.high is None
    assert found.low is not None
    assert found.low >= 3200
    assert "at least" in found.note


def test_what_is_worse_than_the_fewest_real_images_is_worth_less_than_those() -> None:
    curve, whole, halves = simulated(0, 100)
    found = worth(curve, whole - 3.0, halves - 3.0, seed=0)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 100.0)
    assert "less than 100" in found.note


def test_smooth_accuracy_follows_accuracy_with_less_noise() -> None:
    rng = np.random.default_rng(0)
    better, worse = (
        np.array([rng.normal(mean, 1, 300) for _ in range(200)]) for mean in (0.9, 0.8)
    )
    for margins in (better, worse):
        assert smooth_accuracy(margins).std() < (margins > 0).mean(-1).std()
    assert smooth_accuracy(better).mean() > smooth_accuracy(worse).mean()


def test_intervals_of_the_curve_stay_within_what_an_accuracy_can_be() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(2.2, 1, (3, 3, 40)) + rng.normal(0, 1, (3, 3, 1))
    points = Curve(np.array([10.0, 20.0, 40.0]), margins).points([10, 20, 40])
    assert [point.accuracy.n for point in points] == [10, 20, 40]
    assert max(point.accuracy.high or 0.0 for point in points) == 1.0
    low = Curve(np.array([10.0, 20.0, 40.0]), -margins).points([10, 20, 40])
    assert min(point.accuracy.low or 0.0 for point in low) == 0.0


def test_leading_parts_keep_the_shares_of_the_classes() -> None:
    class_ids = np.repeat([0, 1, 2], [60, 30, 10])
    order = stratified_order(class_ids, np.random.default_rng(0))
    assert sorted(order) == list(range(100))
    assert np.abs(np.bincount(class_ids[order[:20]], minlength=3) - [12, 6, 2]).max() <= 1


def test_parts_hold_every_class_in_equal_shares() -> None:
    class_ids = np.arange(93) % 3
    parts = dealt(stratified_order(class_ids, np.random.default_rng(0)), class_ids, 9)
    assert sorted(np.concatenate(parts).tolist()) == list(range(93))
    counts = np.stack([np.bincount(class_ids[part], minlength=3) for part in parts])
    assert counts.min() >= 3
    assert np.ptp(counts) <= 1
    assert np.ptp(counts.sum(1)) <= 1


def test_a_pool_too_small_for_a_curve_withholds_the_worth() -> None:
    few = toy_examples(30, seed=0)
    material = Material(few, 20, 3)
    found = measure_worth(
        material,
        lambda rows, sizes, stop: np.zeros((len(sizes), 5)),
        lambda work: [each(threading.Event()) for each in work],
        num_sizes=4,
        num_repeats=3,
        seed=0,
    )
    assert found.alone.value is None
    assert "expected at least 80" in str(found.alone.withheld)
    assert isinstance(few, Examples)
