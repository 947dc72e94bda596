"""Pictures that are made from the images themselves, to train on pairs without any beside them.

Called by training/dataset.py. What a model is conditioned on later is to be made the same way.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.real_images.resizing import resized

Derivation = Literal["edges", "low_resolution"]

_EDGE_SIGMA_PX = 1.0
# Grey levels a pixel at which an edge is white: above it lie about a tenth of a photograph's edges.
_FULL_EDGE = 40.0


def derived(images: NDArray[np.uint8], derive: Derivation, *, factor: int) -> NDArray[np.uint8]:
    """images: (N, H, W, C). Returns (N, H, W, 1) edges, or (N, H, W, C) images made smaller by
    `factor` and enlarged again. factor: of low_resolution alone."""
    if derive == "edges":
        return np.stack([edges_of(image) for image in images])
    return np.stack([low_resolution(image, factor) for image in images])


def edges_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, C) => (H, W, 1): how steep the grey value is, by Gaussian derivatives."""
    from scipy.ndimage import gaussian_gradient_magnitude

    grey = image.astype(np.float64).mean(axis=2)
    steep = gaussian_gradient_magnitude(grey, _EDGE_SIGMA_PX, mode="nearest")
    levels: NDArray[np.uint8] = np.clip(np.rint(steep * (255 / _FULL_EDGE)), 0, 255).astype(
        np.uint8
    )
    return levels[..., None]


def low_resolution(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """(H, W, C) => the same shape. Sides that factor does not divide are rounded up."""
    height, width = image.shape[:2]
    small = resized(image, (-(-height // factor), -(-width // factor)))
    return resized(small, (height, width))
