"""The disguises under which planted copies must be found. Called by controls.py and benchmarks.

Kinds as in the image similarity challenge (Douze et al. 2021, DISC21, arXiv 2106.09672, section
3.3) and SSCD (Pizzi et al. 2022, arXiv 2202.10261, section 4.4), with strengths that keep the
subject recognisable. Made with OpenCV: the detector learns from other code (copy_views.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # HWC
Disguise = Callable[[Image, Image, np.random.Generator], Image]  # image, another one

CROP_KEEPS = (0.8, 0.9)
MAX_SHIFT = 4 / 28  # of the width
ROTATION = (10.0, 15.0)  # degrees
NOISE = (10.0, 20.0)  # sigma, grey levels
BLEND = (0.2, 0.3)  # share of the other image
CONTRAST, BRIGHTNESS = (0.7, 1.3), (-20.0, 20.0)


def unchanged(image: Image, other: Image, rng: np.random.Generator) -> Image:
    return image


def flip(image: Image, other: Image, rng: np.random.Generator) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


def crop(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A part of 80 to 90% of each side, resized back."""
    import cv2

    height, width = image.shape[:2]
    keep = rng.uniform(*CROP_KEEPS)
    part_height, part_width = round(height * keep), round(width * keep)
    top = rng.integers(height - part_height + 1)
    left = rng.integers(width - part_width + 1)
    part = image[top : top + part_height, left : left + part_width]
    return np.asarray(cv2.resize(part, (width, height)), np.uint8).reshape(image.shape)


def brightness(image: Image, other: Image, rng: np.random.Generator) -> Image:
    return _to_uint8(image.astype(np.float64) * rng.uniform(*CONTRAST) + rng.uniform(*BRIGHTNESS))


def shift(image: Image, other: Image, rng: np.random.Generator) -> Image:
    reach = max(1, round(MAX_SHIFT * image.shape[1]))
    dx, dy = rng.integers(-reach, reach + 1, 2)
    return _move(image, angle=0.0, scale=1.0, dx=float(dx), dy=float(dy))


def rotation(image: Image, other: Image, rng: np.random.Generator) -> Image:
    angle = float(rng.choice([-1, 1]) * rng.uniform(*ROTATION))
    return _move(image, angle=angle, scale=1.0, dx=0.0, dy=0.0)


def noise(image: Image, other: Image, rng: np.random.Generator) -> Image:
    return _to_uint8(image + rng.normal(0, rng.uniform(*NOISE), image.shape))


def blend(image: Image, other: Image, rng: np.random.Generator) -> Image:
    share = rng.uniform(*BLEND)
    return _to_uint8((1 - share) * image.astype(np.float64) + share * other.astype(np.float64))


def several(image: Image, other: Image, rng: np.random.Generator) -> Image:
    """A flip or not, a small move, a change of brightness and light noise."""
    seen = flip(image, other, rng) if rng.random() < 0.5 else image
    dx, dy = rng.uniform(-2 / 28, 2 / 28, 2) * image.shape[1]
    scale = rng.uniform(1, 1.15)
    seen = _move(seen, angle=float(rng.uniform(-10, 10)), scale=float(scale), dx=dx, dy=dy)
    return _to_uint8(seen * rng.uniform(0.8, 1.2) + rng.normal(0, 10, image.shape))


DISGUISES: Mapping[str, Disguise] = {
    "unchanged": unchanged,
    "flip": flip,
    "crop": crop,
    "brightness": brightness,
    "shift": shift,
    "rotation": rotation,
    "noise": noise,
    "blend": blend,
    "several": several,
}


def _move(image: Image, *, angle: float, scale: float, dx: float, dy: float) -> Image:
    """What comes in from outside is black."""
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    matrix[:, 2] += np.array([dx, dy])
    moved = cv2.warpAffine(image, matrix, (width, height))
    return np.asarray(moved, np.uint8).reshape(image.shape)


def _to_uint8(values: NDArray[np.floating[Any]]) -> Image:
    clipped: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped
