from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from prdc import compute_prdc
from scipy.stats import binomtest

from datagen.evaluation.fairness import (
    FairnessInputs,
    Share,
    coverage,
    difference,
    measure_fairness,
)
from datagen.image_set import ImageSet

RNG = np.random.default_rng


def image_set(
    attributes: Mapping[str, list[str]], *, groups: list[str] | None = None, prefix: str = "s"
) -> ImageSet:
    num = len(next(iter(attributes.values())))
    return ImageSet(
        images=np.zeros((num, 8, 8, 1), np.uint8),
        class_ids=np.zeros(num, np.int64),
        class_names=("only",),
        names=tuple(f"{prefix}{i}" for i in range(num)),
        groups=None if groups is None else tuple(groups),
        attributes={name: tuple(values) for name, values in attributes.items()},
    )


SEX = ["f"] * 100 + ["m"] * 300
AGREED = np.array([True] * 60 + [False] * 40 + [True] * 270 + [False] * 30)


def test_counts_and_label_agreement_by_value() -> None:
    (result,) = measure_fairness(FairnessInputs(image_set({"sex": SEX}), AGREED), seed=0)
    assert result.attribute == "sex"
    assert [m["count"].value for m in result.values.values()] == [100, 300]
    women = result.values["f"]["label_agreement"]
    expected = binomtest(60, 100).proportion_ci(method="wilson")
    assert (women.value, women.n) == (0.6, 100)
    assert women.low == pytest.approx(expected.low)
    assert women.high == pytest.approx(expected.high)


def test_the_largest_gap_is_named_in_words() -> None:
    (result,) = measure_fairness(FairnessInputs(image_set({"sex": SEX}), AGREED), seed=0)
    assert result.largest_gap.value == pytest.approx(0.3)
    assert result.largest_gap.low is not None
    assert result.largest_gap.low > 0
    assert result.sentence.startswith("label_agreement: f 0.600, m 0.900: a gap of 30.0 points [")
    assert "chance" not in result.sentence


def test_a_gap_that_may_be_chance_is_said_to_be() -> None:
    agreed = np.tile([True, True, True, False], 100)
    agreed[:8] = True
    (result,) = measure_fairness(FairnessInputs(image_set({"sex": SEX}), agreed), seed=0)
    assert result.sentence.endswith("that may be chance")


def test_few_images_withhold_the_figure_and_unknown_values_make_no_gap() -> None:
    scanner = ["a"] * 390 + ["b"] * 5 + ["not given"] * 5
    agreed = np.arange(400) < 380
    (result,) = measure_fairness(FairnessInputs(image_set({"scanner": scanner}), agreed), seed=0)
    assert result.values["b"]["label_agreement"].withheld == "5 images; 20 or more are needed"
    assert list(result.values) == ["a", "b", "not given"]
    assert result.largest_gap.withheld is not None
    assert result.values["a"]["coverage"].withheld == "it was not measured"


def test_a_number_is_no_attribute_to_compare_by() -> None:
    ages = [str(i % 90) for i in range(400)]
    (result,) = measure_fairness(FairnessInputs(image_set({"age": ages}), AGREED), seed=0)
    assert result.values == {}
    assert "put numbers into ranges" in result.sentence


def test_without_attributes_there_is_nothing_to_say() -> None:
    images = image_set({"sex": SEX})
    bare = ImageSet(images.images, images.class_ids, images.class_names, images.names)
    assert measure_fairness(FairnessInputs(bare, AGREED), seed=0) == ()


def test_coverage_is_that_of_prdc() -> None:
    real, fake = RNG(0).normal(size=(80, 6)), RNG(1).normal(size=(80, 6)) + 0.7
    expected = compute_prdc(real.copy(), fake.copy(), nearest_k=5)["coverage"]
    found = coverage(real.astype(np.float32), fake.astype(np.float32))
    assert found == pytest.approx(float(expected))
    assert 0 < found < 1


def test_a_value_whose_images_are_not_imitated_is_found_by_coverage() -> None:
    """Scanner b looks like a in the synthetic images: its real ones are not covered."""
    scanners = ["a"] * 200 + ["b"] * 60
    bright = np.array([0] * 200 + [100] * 60, np.uint8)[:, None, None, None]
    dark = image_set({"scanner": scanners})
    real = replace(dark, images=RNG(0).integers(0, 99, (260, 2, 2, 1), dtype=np.uint8) + bright)
    synthetic = replace(dark, images=RNG(1).integers(0, 99, (260, 2, 2, 1), dtype=np.uint8))
    inputs = FairnessInputs(
        synthetic, real=real, extract=lambda images: images.reshape(-1, 4).astype(np.float32)
    )
    (result,) = measure_fairness(inputs, seed=0)
    a, b = (result.values[v]["coverage"] for v in ("a", "b"))
    assert (a.n, b.n) == (60, 60), "the same n for all, or coverage would differ by n alone"
    assert a.value is not None
    assert a.value > 0.8
    assert b.value is not None
    assert b.value < 0.2
    assert result.sentence.startswith("coverage: b ")
    assert measure_fairness(inputs, seed=0)[0].values["a"]["coverage"] == a


def test_utility_counts_patients_not_images() -> None:
    """40 patients of 10 images, all of a patient right or wrong: as sure as 40 images would be."""
    groups = [f"p{i // 10}" for i in range(400)]
    correct = np.array([(i // 10) % 4 != 0 for i in range(400)])
    held_out = image_set({"site": ["x"] * 400}, groups=groups)
    inputs = FairnessInputs(
        image_set({"site": ["x"] * 30}), held_out=held_out, held_out_correct=correct
    )
    (result,) = measure_fairness(inputs, seed=0)
    utility = result.values["x"]["utility"]
    assert utility.value == 0.75
    assert utility.n == pytest.approx(40, abs=2)
    few = image_set({"site": ["x"] * 400}, groups=[f"p{i // 40}" for i in range(400)])
    inputs = FairnessInputs(image_set({"site": ["x"] * 30}), held_out=few, held_out_correct=correct)
    assert measure_fairness(inputs, seed=0)[0].values["x"]["utility"].withheld == (
        "10 groups; 20 or more are needed"
    )


def test_the_interval_of_a_gap_covers_it() -> None:
    """1,000 pairs of samples with known rates: about 95% of the intervals hold the difference."""
    rng = RNG(0)
    hits = 0
    for _ in range(1000):
        a, b = rng.binomial(60, 0.9) / 60, rng.binomial(150, 0.7) / 150
        _, low, high = difference(Share(a, 60), Share(b, 150), alpha=0.05)
        hits += low <= 0.2 <= high
    assert hits >= 930
