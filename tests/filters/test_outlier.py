from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.filters.outlier import OutlierFilter, OutlierOptions
from tests.tiny_reference import CLASS_NAMES, SIDE_PX, drawn, tiny_reference

RULE = OutlierFilter()
FRESH = drawn(60, seed=12)
NAMES = [CLASS_NAMES[c] for c in FRESH.class_ids]


def share_rejected(images: NDArray[np.uint8], class_names: list[str]) -> float:
    judge = RULE.judge(RULE.options(), "disc", tiny_reference())
    scores = RULE.score(images, class_names, tiny_reference())
    return float(np.mean([judge.reject(score) == "outlier" for score in scores]))


def test_real_images_pass() -> None:
    """The limit is the farthest of only 90 images here."""
    assert share_rejected(FRESH.images, NAMES) <= 0.06


@pytest.mark.parametrize("kind", ["noise", "inverted"])
def test_what_no_real_image_looks_like_is_rejected(kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (180, SIDE_PX, SIDE_PX, 1), np.uint8)
    images = {"noise": noise, "inverted": 255 - FRESH.images}[kind]
    assert share_rejected(images, NAMES) >= 0.9


def test_another_class_is_far_from_this_one() -> None:
    """Distances are of the class that the image is to show."""
    discs = FRESH.images[:60]
    own = RULE.score(discs, ["disc"] * 60, tiny_reference())
    other = RULE.score(discs, ["bar"] * 60, tiny_reference())
    assert np.median(np.array(other, float)) > 1.5 * np.median(np.array(own, float))


def test_a_given_distance_goes_before_the_calibrated_one() -> None:
    judge = RULE.judge(OutlierOptions(max_distance=0.5), "disc", tiny_reference())
    assert (judge.reject(0.5), judge.reject(0.5001)) == (None, "outlier")
    calibrated = tiny_reference().facts.outliers.threshold
    default = RULE.judge(RULE.options(), "disc", tiny_reference())
    assert (default.reject(calibrated), default.reject(calibrated + 1e-4)) == (None, "outlier")
