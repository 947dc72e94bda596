from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datagen.evaluation.label_agreement import measure_label_agreement, skill
from datagen.features import Classifier, fit_classifier
from datagen.image_set import ImageSet
from tests.training.tiny_data import CLASS_NAMES, tiny_images


def tiny_set(num: int, *, seed: int) -> ImageSet:
    images, labels = tiny_images(num, seed=seed)
    names = tuple(f"{seed}-{i}.png" for i in range(num))
    return ImageSet(images[..., None], labels.astype(np.int64), CLASS_NAMES, names)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.set_num_threads(1)
    return fit_classifier(tiny_set(300, seed=0), seed=0, num_epochs=6)


HELD_OUT = tiny_set(150, seed=1)


def test_right_labels_are_confirmed(classifier: Classifier) -> None:
    found = measure_label_agreement(tiny_set(90, seed=2), classifier, HELD_OUT, seed=0)
    assert found.agreement.value == pytest.approx(1, abs=0.03)
    assert found.classifier_accuracy.value == pytest.approx(1, abs=0.03)
    assert found.agreement.floor == pytest.approx(found.classifier_accuracy.value, abs=1e-9)
    assert set(found.agreement.per_class) == set(CLASS_NAMES)
    assert found.to_json()["n"] == 90


def test_shuffled_labels_agree_as_often_as_chance(classifier: Classifier) -> None:
    images = tiny_set(600, seed=3)
    shuffled = np.random.default_rng(0).permutation(images.class_ids)
    found = measure_label_agreement(
        replace(images, class_ids=shuffled), classifier, HELD_OUT, seed=0
    )
    assert found.agreement.low is not None
    assert found.agreement.high is not None
    assert found.agreement.low < 1 / 3 < found.agreement.high
    assert len(found.suspects) == 200


def test_planted_wrong_labels_are_the_suspects(classifier: Classifier) -> None:
    images = tiny_set(120, seed=4)
    class_ids = images.class_ids.copy()
    planted = [5, 40, 77]
    class_ids[planted] = (class_ids[planted] + 1) % 3
    found = measure_label_agreement(
        replace(images, class_ids=class_ids), classifier, HELD_OUT, seed=0
    )
    assert {s.name for s in found.suspects[:3]} == {images.names[i] for i in planted}
    for suspect in found.suspects[:3]:
        row = images.names.index(suspect.name)
        assert suspect.class_name == CLASS_NAMES[class_ids[row]]
        assert suspect.predicted == CLASS_NAMES[images.class_ids[row]]
    assert found.agreement.value == pytest.approx(117 / 120, abs=0.02)


def test_the_least_probable_labels_come_first(classifier: Classifier) -> None:
    """Images between two classes, labelled as the one that they are less like."""
    left, right = (HELD_OUT.take(HELD_OUT.rows_of(class_id)[:30]) for class_id in (0, 1))
    weights = np.linspace(0.3, 0.7, 30)[:, None, None, None]
    between = (left.images * (1 - weights) + right.images * weights).astype(np.uint8)
    unsure = Classifier(classifier.network, temperature=3)
    found = measure_label_agreement(replace(left, images=between), unsure, HELD_OUT, seed=0)
    chances = [suspect.probability for suspect in found.suspects]
    assert chances == sorted(chances)
    assert chances[-1] > 1.2 * chances[0]


def test_a_classifier_that_never_learned_judges_nothing() -> None:
    images = tiny_set(300, seed=0)
    noise = np.random.default_rng(0).integers(0, 256, images.images.shape, dtype=np.uint8)
    ignorant = fit_classifier(replace(images, images=noise), seed=0, num_epochs=2)
    found = measure_label_agreement(tiny_set(90, seed=2), ignorant, HELD_OUT, seed=0)
    assert found.agreement.value is None
    assert "never learned" in str(found.agreement.withheld)
    assert found.classifier_accuracy.value is not None
    assert found.suspects == ()


def test_skill_counts_classes_equally(classifier: Classifier) -> None:
    """A rare class that is always wrong costs as much as a common one."""
    rows = np.concatenate([HELD_OUT.rows_of(0), HELD_OUT.rows_of(1), HELD_OUT.rows_of(2)[:2]])
    common = HELD_OUT.take(rows)
    class_ids = common.class_ids.copy()
    class_ids[-2:] = 0
    wrong = replace(common, class_ids=np.where(common.class_ids == 2, 0, common.class_ids))
    assert skill(classifier, common) == pytest.approx(1, abs=0.05)
    assert skill(classifier, wrong) == pytest.approx(1, abs=0.1)
    mislabelled = replace(common, images=common.images.copy())
    mislabelled.images[-2:] = common.images[:2]
    assert skill(classifier, mislabelled) == pytest.approx(0.5, abs=0.05)


def test_too_few_held_out_images_withhold_it(classifier: Classifier) -> None:
    found = measure_label_agreement(
        tiny_set(90, seed=2), classifier, HELD_OUT.take(range(20)), seed=0
    )
    assert "give at least 30" in str(found.agreement.withheld)


def test_an_interval_over_patients_is_wider_than_over_images(classifier: Classifier) -> None:
    """Twelve patients with ten images each: all of a patient's labels are right, or all wrong."""
    images = tiny_set(120, seed=5)
    patients = np.repeat(np.arange(12), 10)
    class_ids = np.where(np.isin(patients, [1, 5, 8]), (images.class_ids + 1) % 3, images.class_ids)
    labelled = replace(images, class_ids=class_ids)
    grouped = replace(labelled, groups=tuple(f"p{p}" for p in patients))
    widths = []
    for each in (labelled, grouped):
        agreement = measure_label_agreement(each, classifier, HELD_OUT, seed=0).agreement
        assert agreement.low is not None
        assert agreement.high is not None
        assert agreement.value == pytest.approx(0.75, abs=0.03)
        widths.append(agreement.high - agreement.low)
    assert widths[1] == pytest.approx(widths[0] * np.sqrt(10), rel=0.25)


def test_a_class_without_images_is_withheld(classifier: Classifier) -> None:
    images = tiny_set(90, seed=2)
    found = measure_label_agreement(
        images.take(np.flatnonzero(images.class_ids != 1)), classifier, HELD_OUT, seed=0
    )
    assert found.agreement.per_class["right"].withheld == "there are no images of this class"
    assert found.agreement.value is not None
