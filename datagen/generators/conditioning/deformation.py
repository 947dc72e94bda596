"""Affine and elastic deformations of label maps and of the pictures that belong to them.

One field of positions moves both: labels by nearest neighbour, so that no new value can appear,
pictures by linear interpolation. What comes from outside the frame is background, or black.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datagen.generators.conditioning.options import Affine, Deform, Elastic

LEAST_LEFT = 0.1  # of the pixels of a class, or it is not shown any more

Field = NDArray[np.float32]  # (H, W) of one coordinate, in pixels
_Integer = TypeVar("_Integer", np.uint8, np.uint16)


@dataclass(frozen=True)
class Warp:
    """columns, rows: (H, W), from where each pixel takes its value, centres at whole numbers."""

    columns: Field
    rows: Field

    def labels(self, values: NDArray[_Integer]) -> NDArray[_Integer]:
        """(H, W), by nearest neighbour."""
        import cv2

        moved = cv2.remap(
            values, self.columns, self.rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT
        )
        return moved.astype(values.dtype, copy=False)

    def share_left(self, region: NDArray[np.bool_]) -> float:
        """Of a region's pixels, those still shown: a pixel afterwards stands for as many before as
        its area covers there. region: (H, W), not empty."""
        (x_down, x_across), (y_down, y_across) = np.gradient(self.columns), np.gradient(self.rows)
        areas = np.abs(x_across * y_down - x_down * y_across)
        left = self.labels(region.astype(np.uint8)) > 0
        return float(areas[left].sum() / np.count_nonzero(region))

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, C), linearly."""
        import cv2

        moved = cv2.remap(
            image, self.columns, self.rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )
        return moved.reshape(image.shape).astype(np.uint8, copy=False)


def draw_warp(
    rng: np.random.Generator,
    deform: Deform,
    size: tuple[int, ...],
    *,
    spacing_mm: tuple[float, float] | None,
) -> Warp | None:
    """size: (H, W). spacing_mm: a rotation is one of the body, also where pixels are not square.
    None if nothing is to be moved."""
    if deform.affine is None and deform.elastic is None:
        return None
    height, width = size
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    if deform.affine is not None:
        columns, rows = _affine(rng, deform.affine, columns, rows, spacing_mm or (1.0, 1.0))
    if deform.elastic is not None:
        columns = columns + _smooth_field(rng, deform.elastic, (height, width))
        rows = rows + _smooth_field(rng, deform.elastic, (height, width))
    return Warp(columns, rows)


def _affine(
    rng: np.random.Generator,
    affine: Affine,
    columns: Field,
    rows: Field,
    spacing_mm: tuple[float, float],
) -> tuple[Field, Field]:
    """About the middle of the image. Five draws, whichever of them count."""
    turn, shear, scale, shift_x, shift_y = rng.random(5).tolist()
    angle = math.radians(affine.rotate_deg * (2 * turn - 1))
    slope = math.tan(math.radians(affine.shear_deg * (2 * shear - 1)))
    # Factors below and above 1 are drawn evenly on the scale of logarithms.
    least, most = (math.log(factor) for factor in affine.scale)
    factor = math.exp(least + (most - least) * scale)
    height, width = rows.shape
    cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
    pixel = np.diag([spacing_mm[1], spacing_mm[0]])
    turned = np.array([[cos, sin], [-sin, cos]]) @ np.array([[1.0, slope], [0.0, 1.0]])
    matrix = (np.linalg.inv(pixel) @ turned @ pixel).astype(np.float32)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    x = columns - np.float32(middle_x + affine.translate * width * (2 * shift_x - 1))
    y = rows - np.float32(middle_y + affine.translate * height * (2 * shift_y - 1))
    moved_x = matrix[0, 0] * x + matrix[0, 1] * y + np.float32(middle_x)
    moved_y = matrix[1, 0] * x + matrix[1, 1] * y + np.float32(middle_y)
    return moved_x, moved_y


def _smooth_field(rng: np.random.Generator, elastic: Elastic, size: tuple[int, int]) -> Field:
    """(H, W) displacements along one axis; see Elastic.

    Smoothed white noise has a standard deviation of 1 / (2 sigma sqrt(pi)) (the sum of the squares
    of a Gaussian kernel in the plane): the field is scaled by what is expected, not by what this
    draw happens to have, so that some maps move more than others.
    """
    import cv2

    sigma = elastic.sigma_px
    pad = math.ceil(3 * sigma)
    white = rng.standard_normal((size[0] + 2 * pad, size[1] + 2 * pad), np.float32)
    smooth = cv2.GaussianBlur(white, (0, 0), sigma)
    inside = smooth[pad : pad + size[0], pad : pad + size[1]]
    scaled: Field = inside * np.float32(elastic.alpha_px * 2 * sigma * math.sqrt(math.pi))
    return scaled
