"""Privacy of invented data sets: the held-out data themselves, copies, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.evaluation.privacy import measure_privacy
from datagen.image_set import ImageSet
from datagen.references.copy_detector import CopyDetector

NUM_TRAIN, NUM_HELD_OUT = 96, 256


def image_set(
    images: NDArray[np.uint8], prefix: str, groups: tuple[str, ...] | None = None
) -> ImageSet:
    names = tuple(f"{prefix}{row}" for row in range(len(images)))
    return ImageSet(images, np.zeros(len(images), np.int64), ("only",), names, groups)


def pictures(num: int, seed: int) -> NDArray[np.uint8]:
    import cv2

    rng = np.random.default_rng(seed)
    grids = rng.uniform(0, 255, (num, 7, 7)).astype(np.float32)
    grown = [cv2.resize(grid, (28, 28), interpolation=cv2.INTER_CUBIC) for grid in grids]
    return np.clip(np.stack(grown), 0, 255).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return image_set(pictures(NUM_TRAIN, 1), "train")


@pytest.fixture(scope="module")
def held_out() -> ImageSet:
    return image_set(pictures(NUM_HELD_OUT, 2), "held")


@pytest.fixture(scope="module")
def detector(train: ImageSet) -> CopyDetector:
    return CopyDetector.fit(train.images, seed=1, num_lessons=96)


@pytest.mark.slow
def test_new_images_are_clean_and_controls_are_found(
    train: ImageSet, held_out: ImageSet, detector: CopyDetector
) -> None:
    found = measure_privacy(
        image_set(pictures(64, 3), "new"), train, held_out, quick=True, seed=1, detector=detector
    )
    assert not found.is_blind
    assert found.excess.low is not None
    assert found.excess.low <= 0
    assert len(found.closest_pairs) == 12 or found.near_copies
    assert "extrapolated" in " ".join(found.notes)


@pytest.mark.slow
def test_a_copied_training_set_is_flagged(
    train: ImageSet, held_out: ImageSet, detector: CopyDetector
) -> None:
    copies = image_set(np.concatenate([train.images[:8], train.images[8:64, :, ::-1]]), "copy")
    found = measure_privacy(copies, train, held_out, quick=True, seed=1, detector=detector)
    assert found.rate.value is not None
    assert found.rate.value >= 0.95
    assert found.excess.low is not None
    assert found.excess.low > 0.5
    named = {copy.name: copy for copy in found.near_copies}
    assert named["copy3"].original == "train3"
    assert named["copy3"].disguise == "identical pixels"
    assert named["copy20"].original == "train20"
    assert named["copy20"].nearest_held_out.startswith("held")


def test_too_few_held_out_images_withhold_the_figures(train: ImageSet, held_out: ImageSet) -> None:
    found = measure_privacy(held_out, train, held_out.take(np.arange(50)), quick=True, seed=1)
    assert found.excess.withheld is not None
    assert "50 usable held-out" in found.excess.withheld
    assert found.is_blind


def test_equal_pixels_are_told_even_where_the_check_is_blind(
    train: ImageSet, held_out: ImageSet
) -> None:
    few = held_out.take(np.arange(50))
    found = measure_privacy(train.take(np.arange(3)), train, few, quick=True, seed=1)
    assert found.is_blind
    assert found.num_identical == 3
    assert found.sentence.startswith("3 images are a training image, pixel by pixel. ")


def test_held_out_images_that_were_trained_on_are_named_and_left_out(train: ImageSet) -> None:
    found = measure_privacy(train, train, train, quick=True, seed=1)
    assert "96 held-out images equal a training image" in found.notes[0]
    assert "train0" in found.notes[0]


def test_held_out_images_of_a_trained_patient_are_left_out(
    train: ImageSet, held_out: ImageSet
) -> None:
    ours = image_set(train.images, "train", tuple(f"patient{row}" for row in range(NUM_TRAIN)))
    theirs = image_set(held_out.images[:120], "held", tuple(f"patient{r}" for r in range(120)))
    found = measure_privacy(train, ours, theirs, quick=True, seed=1)
    assert "96 held-out images belong to a group" in found.notes[0]
    assert found.rate.n == 24
