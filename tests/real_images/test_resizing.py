from __future__ import annotations

import numpy as np
import pytest

from datagen.real_images.resizing import fitted

SIZE = (8, 8)


def striped(height: int, width: int) -> np.ndarray:
    """Bright in the middle half of the longer side, dark at its ends."""
    image = np.zeros((height, width, 1), np.uint8)
    if width > height:
        image[:, width // 4 : -(width // 4)] = 200
    else:
        image[height // 4 : -(height // 4)] = 200
    return image


@pytest.mark.parametrize("shape", [(16, 32), (32, 16)])
def test_other_proportions_are_cut_padded_or_stretched(shape: tuple[int, int]) -> None:
    image = striped(*shape)
    assert fitted(image, SIZE, "crop").min() > 180, "the middle alone"
    padded = fitted(np.full((*shape, 3), 200, np.uint8), SIZE, "pad")
    wide = padded if shape[1] > shape[0] else padded.transpose(1, 0, 2)
    assert wide[:2].max() == wide[6:].max() == 0
    assert wide[2:6].min() == 200
    stretched = fitted(image, SIZE, "stretch")
    assert stretched.min() == 0
    assert stretched.max() >= 200


@pytest.mark.parametrize("side", [49, 98, 103, 107])
def test_a_side_whose_quotient_is_rounded_up_is_cut_inside_the_image(side: int) -> None:
    assert 16 / (16 / side) > side
    assert fitted(np.zeros((side, side + 7, 1), np.uint8), (16, 16), "crop").shape == (16, 16, 1)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_a_thin_strip_is_no_bomb(fit: str) -> None:
    strip = np.full((1, 1 << 20, 1), 9, np.uint8)
    assert fitted(strip, (64, 64), fit).shape == (64, 64, 1)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_an_image_of_the_size_stays(fit: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    assert np.array_equal(fitted(image, SIZE, fit), image)


def test_crop_keeps_an_even_image_even_at_odd_sizes() -> None:
    assert np.unique(fitted(np.full((31, 57, 1), 77, np.uint8), (13, 9), "crop")).tolist() == [77]
