"""Sharpness, noise, brightness and clipping of an image, from whole numbers alone.

Called by fit.py (what real images show) and filters/quality.py (what an attempt shows).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

MEASURES = ("sharpness", "noise", "brightness", "clipped")
# Of each tail of each measure among real images; eight tails, so at most 0.4% of them lie outside.
_TAIL = 0.0005
_MARGIN = 0.1  # of the range, added to either end
_CHUNK_VALUES = 1 << 20


def measure_quality(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(N, H, W, C) => (N, 4), in the order of MEASURES, rounded to 4 decimals; sides of 3 or more.

    sharpness: standard deviation of the Laplacian over 255 (Pech-Pacheco et al. 2000,
    "Diatom autofocusing in brightfield microscopy", LAPV). noise: Immerkaer 1996, "Fast noise
    variance estimation", equation 4, over 255. brightness: mean over 255. clipped: share of pixels
    at 0 or 255. Of colours, the mean of the channels.
    """
    step = max(1, _CHUNK_VALUES // max(1, math.prod(images.shape[1:])))
    parts = [_measure(images[i : i + step]) for i in range(0, len(images), step)]
    return np.concatenate(parts) if parts else np.zeros((0, len(MEASURES)))


def quality_bounds(measured: NDArray[np.float64]) -> dict[str, tuple[float, float]]:
    """measured: (N, 4) of real images of one class. Returns measure -> lowest and highest."""
    low = np.quantile(measured, _TAIL, axis=0, method="lower")
    high = np.quantile(measured, 1 - _TAIL, axis=0, method="higher")
    margin = _MARGIN * (high - low)
    return {
        name: (max(0.0, round(float(low[i] - margin[i]), 4)), round(float(high[i] + margin[i]), 4))
        for i, name in enumerate(MEASURES)
    }


def outside(measured: NDArray[np.float64], bounds: Mapping[str, tuple[float, float]]) -> str | None:
    """measured: (4,). The first measure that is out of its bounds."""
    for name, value in zip(MEASURES, measured.tolist(), strict=True):
        low, high = bounds.get(name, (-math.inf, math.inf))
        if not low <= value <= high:
            return name
    return None


def _measure(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Every sum is of whole numbers, so exact in any order."""
    x = images.astype(np.int64)
    up, down = x[:, :-2], x[:, 2:]
    middle = x[:, 1:-1]
    inner = middle[:, :, 1:-1]
    cross = up[:, :, 1:-1] + down[:, :, 1:-1] + middle[:, :, :-2] + middle[:, :, 2:]
    corners = up[:, :, :-2] + up[:, :, 2:] + down[:, :, :-2] + down[:, :, 2:]
    laplacian = cross - 4 * inner
    count = inner.shape[1] * inner.shape[2]
    sums = laplacian.sum(axis=(1, 2))
    squares = (laplacian * laplacian).sum(axis=(1, 2))
    variances = (squares * count - sums * sums) / count**2  # (N, C)
    residual = np.abs(corners - 2 * cross + 4 * inner).sum(axis=(1, 2))
    noise = math.sqrt(math.pi / 2) * residual / (6 * count)
    columns = (
        np.sqrt(variances.mean(axis=1)) / 255,
        noise.mean(axis=1) / 255,
        x.mean(axis=(1, 2, 3)) / 255,
        ((x == 0) | (x == 255)).mean(axis=(1, 2, 3)),
    )
    return np.round(np.stack(columns, axis=1), 4)
