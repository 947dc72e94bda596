from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.filters.blank import BlankFilter, BlankOptions
from datagen.filters.interface import ClassJudge

RULE = BlankFilter()


def contrast(image: NDArray[np.uint8]) -> float:
    score = RULE.score(image[None], ["cat"], None)[0]
    assert isinstance(score, float)
    return score


def judge(min_contrast: float = 0.02) -> ClassJudge:
    return RULE.judge(BlankOptions(min_contrast=min_contrast), "cat", None)


def test_an_even_image_has_no_contrast() -> None:
    for level in (0, 7, 255):
        assert contrast(np.full((28, 28, 1), level, np.uint8)) == 0


def test_an_even_colour_has_no_contrast() -> None:
    image = np.zeros((28, 28, 3), np.uint8)
    image[:] = (200, 10, 90)
    assert contrast(image) == 0


def test_half_black_half_white_is_the_highest_contrast() -> None:
    image = np.zeros((28, 28, 1), np.uint8)
    image[:14] = 255
    assert contrast(image) == 0.5


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 17, 3), (1024, 1024, 1)])
def test_contrast_is_the_standard_deviation_within_the_channels(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    expected = np.sqrt((image / 255).var(axis=(0, 1)).mean())
    assert contrast(image) == pytest.approx(expected, rel=1e-12)


def test_the_default_takes_faint_noise_for_blank_and_a_faint_shape_for_an_image() -> None:
    noise = np.random.default_rng(2).integers(100, 117, (28, 28, 1), np.uint8)  # 108 +- 8
    shape = np.full((28, 28, 1), 100, np.uint8)
    shape[7:21, 7:21] += 16
    assert judge().reject(contrast(noise)) == "blank"
    assert judge().reject(contrast(shape)) is None


def test_the_threshold_itself_passes() -> None:
    assert judge(0.1).reject(0.1) is None
    assert judge(0.1).reject(0.0999) == "blank"
    assert judge(0.0).reject(0.0) is None
