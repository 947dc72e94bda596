"""Label maps as signed distances to the edges of their classes, and back. Called by fit.py and
model.py.

Source: Leventon et al. 2000 (CVPR), section 2.1: shapes whose distance maps are added and weighted
stay shapes, where added masks would not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datagen.labels import Mask

Distances = NDArray[np.float32]  # (K, h, w), pixels of the full size, positive inside

_SWEEPS = 3
_MAX_SHIFT = 0.5  # of the largest distance


def truncation_px(size: tuple[int, int]) -> float:
    """Farther from an edge than this nothing more is told: it is where shapes would not meet."""
    return max(8.0, 0.1 * max(size))


def signed_distances(mask: Mask, values: Sequence[int], stride: int) -> Distances:
    """(len(values), ceil(H / stride), ceil(W / stride)); the means of squares of `stride` pixels.

    A pixel beside an edge has 0.5 or -0.5.
    """
    import cv2

    limit = truncation_px(mask.shape)
    planes = []
    for value in values:
        inside = (mask == value).astype(np.uint8)
        outside = 1 - inside
        if not inside.any() or not outside.any():
            plane = np.full(mask.shape, limit if inside.any() else -limit, np.float32)
        else:
            within = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            beyond = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            plane = np.where(inside == 1, within - 0.5, 0.5 - beyond)
        planes.append(_shrunk(np.clip(plane, -limit, limit), stride))
    return np.stack(planes).astype(np.float32)


def _shrunk(plane: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    if stride == 1:
        return plane
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % stride), (0, -width % stride)), mode="edge")
    rows, columns = padded.shape[0] // stride, padded.shape[1] // stride
    mean: NDArray[np.float32] = padded.reshape(rows, stride, columns, stride).mean(axis=(1, 3))
    return mean


def balanced(distances: Distances, areas: NDArray[np.float64]) -> Distances:
    """With a constant added to the distances of each class but the first, so that about as many
    pixels as `areas` says have it as the largest. areas: (K,), shares of the frame.

    Averaged distances lose what is thin and lies elsewhere in each map, such as a skull: nowhere is
    it the largest, but it comes nearest to that in a thin ring. A class of no area stays as it is.
    """
    flat = distances.reshape(len(distances), -1)
    wanted = np.rint(areas * flat.shape[1]).astype(np.int64)
    limit = np.float32(_MAX_SHIFT * max(float(distances.max()), 1.0))
    shifts = np.zeros(len(flat), np.float32)
    for _ in range(_SWEEPS):
        for index in range(1, len(flat)):
            if not 0 < wanted[index] < flat.shape[1]:
                continue
            rest = np.full(flat.shape[1], -np.inf, np.float32)
            for other in range(len(flat)):
                if other != index:
                    np.maximum(rest, flat[other] + shifts[other], out=rest)
            lead = rest - flat[index]
            shifts[index] = np.partition(lead, wanted[index])[wanted[index]]
        shifts = np.clip(shifts, -limit, limit)
    return distances + shifts[:, None, None]


def label_map(distances: Distances, values: Sequence[int], size: tuple[int, int]) -> Mask:
    """(H, W): of each pixel the class whose distance is largest, the lowest value of equal ones."""
    stride = -(-size[0] // distances.shape[1])
    best = _enlarged(distances[0], stride, size).copy()
    mask = np.full(size, values[0], np.uint8)
    for value, plane in zip(values[1:], distances[1:], strict=True):
        enlarged = _enlarged(plane, stride, size)
        above = enlarged > best
        mask[above] = value
        best[above] = enlarged[above]
    return mask


def _enlarged(
    plane: NDArray[np.float32], stride: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """Linearly between centres of squares. Plain sums: the same bits on every machine."""
    if stride == 1:
        return plane
    for axis, side in enumerate(size):
        num = plane.shape[axis]
        place = np.clip((np.arange(side) + 0.5) / stride - 0.5, 0, num - 1)
        low = np.minimum(place.astype(np.int64), max(num - 2, 0))
        weight = (place - low).astype(np.float32)
        weight = weight[:, None] if axis == 0 else weight[None, :]
        first = plane.take(low, axis)
        second = plane.take(np.minimum(low + 1, num - 1), axis)
        plane = first + (second - first) * weight
    return plane
