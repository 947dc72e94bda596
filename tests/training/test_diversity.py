from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.training.diversity import (
    ClassDiversity,
    Diversity,
    coverage,
    mean_distance,
    watch,
)

NAMES = ("left", "right")


def features(num: int, *, seed: int, scale: float = 1.0) -> NDArray[np.float64]:
    """Three kinds of images within the class, as a classifier's features might show them."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(99).normal(size=(3, 16)) * 2
    rows: NDArray[np.float64] = kinds[rng.integers(3, size=num)] + rng.normal(size=(num, 16))
    return scale * rows


def watched(samples: NDArray[np.float64], num: int = 200) -> Diversity:
    return watch({1: samples}, {1: features(num, seed=1)})


def test_mean_distance_is_that_of_all_pairs() -> None:
    assert mean_distance(np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])) == pytest.approx(10 / 3)


def test_coverage_counts_real_rows_with_a_sample_within_the_fifth_neighbour() -> None:
    real = np.arange(12.0)[:, None]  # the fifth neighbour of the ends lies 5 away, inside 3
    assert coverage(np.array([[0.0]]), real) == pytest.approx(3 / 12)
    assert coverage(np.array([[-100.0]]), real) == 0
    assert coverage(real, real) == 1


@pytest.mark.parametrize("num", [10, 30, 200])
def test_samples_like_real_images_give_no_warning(num: int) -> None:
    for seed in range(2, 12):
        found = watched(features(200, seed=seed), num)
        assert found.classes[1].num == num
        assert found.warnings(NAMES) == []


def test_samples_like_real_images_have_the_figures_of_real_ones() -> None:
    figures = watched(features(200, seed=2)).figures()
    assert figures["spread_mean"] == pytest.approx(1, abs=0.05)
    assert figures["coverage_mean"] == pytest.approx(0.97, abs=0.04)


def test_one_image_a_class_is_a_collapse() -> None:
    collapsed = np.repeat(features(1, seed=2), 200, axis=0)
    found = watched(collapsed)
    assert found.classes[1].spread < 1e-6
    assert found.classes[1].coverage < 0.1
    (line,) = found.warnings(NAMES, generator="cgan")
    assert line.startswith("class right: samples are 0% as diverse as real images")
    assert "augment_target" in line


def test_copies_of_a_few_images_are_diverse_but_cover_little() -> None:
    few = features(10, seed=2)
    found = watched(few[np.arange(200) % 10])
    assert found.classes[1].spread > 0.8
    assert found.classes[1].coverage < 0.8
    assert len(found.warnings(NAMES)) == 1


def test_copies_of_many_images_are_no_collapse() -> None:
    """They are another fault, which the copy search sees."""
    assert watched(features(150, seed=2)[np.arange(200) % 150]).warnings(NAMES) == []


def test_a_lost_kind_of_images_is_seen_by_coverage() -> None:
    samples = features(1000, seed=2)
    one_kind = samples[np.linalg.norm(samples - samples[0], axis=1) < 6.5][:200]
    assert len(one_kind) == 200
    assert watched(one_kind).classes[1].coverage < 0.6


def test_samples_of_half_the_variety_are_named() -> None:
    found = watched(features(200, seed=2, scale=0.5))
    assert found.classes[1].spread == pytest.approx(0.5, abs=0.03)
    assert f"{found.classes[1].spread:.0%} as diverse" in found.warnings(NAMES)[0]


def test_classes_that_cannot_be_judged_are_left_out() -> None:
    many, few, alike = features(50, seed=2), features(9, seed=3), np.ones((50, 16))
    found = watch({0: many, 1: many, 2: many, 3: many}, {0: few, 1: alike, 2: many})
    assert list(found.classes) == [2]
    nothing = watch({}, {})
    assert (nothing.figures(), nothing.warnings(NAMES)) == ({}, [])


def test_minima_and_means_are_over_classes() -> None:
    found = Diversity({0: ClassDiversity(200, 1.0, 0.9), 1: ClassDiversity(200, 0.5, 0.7)})
    assert found.figures() == pytest.approx(
        {"spread_mean": 0.75, "spread_min": 0.5, "coverage_mean": 0.8, "coverage_min": 0.7}
    )
    assert [line.split(":")[0] for line in found.warnings(NAMES)] == ["class right"]


def test_the_worst_classes_are_named_first_and_the_rest_counted() -> None:
    """By the lower of their two figures."""
    found = Diversity({c: ClassDiversity(200, 0.7 - c / 100, 0.7) for c in range(8)})
    found.classes[2] = ClassDiversity(200, 0.9, 0.3)
    lines = found.warnings([f"c{c}" for c in range(8)])
    assert [line.split(":")[0] for line in lines[:5]] == [f"class c{c}" for c in (2, 7, 6, 5, 4)]
    assert lines[5:] == ["3 more classes likewise"]
