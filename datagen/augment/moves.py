"""Where each pixel came from and where each point went: the geometry of a transform as drawn, by
the matrix or the maps that albumentations hands on. Called by labelled.py.

Coordinates here are those of OpenCV: the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (..., 2): x, y
Size = tuple[int, int]  # (H, W)

NEAREST, LINEAR = 0, 1  # cv2.INTER_*
CONSTANT = 0  # cv2.BORDER_CONSTANT
_NEWTON_STEPS = 8


@dataclass(frozen=True)
class Straight:
    """A homography. matrix: (3, 3), takes points before to points after."""

    matrix: NDArray[np.float64]

    def back(self, points: Points) -> Points:
        return _project(np.asarray(np.linalg.inv(self.matrix), np.float64), points)

    def forward(self, points: Points) -> Points:
        return _project(self.matrix, points)

    def origins(self, size: Size) -> Points:
        """(H, W, 2): the point before of each pixel after."""
        return self.back(_grid(size))

    @property
    def is_affine(self) -> bool:
        return bool(np.allclose(self.matrix[2], [0, 0, 1], atol=1e-9))


@dataclass(frozen=True)
class Bent:
    """maps: (H, W, 2), the point before of each pixel after."""

    maps: NDArray[np.float64]

    def back(self, points: Points) -> Points:
        """Linear between the pixels, and beyond the outermost."""
        height, width = self.maps.shape[:2]
        x, y = points[..., 0], points[..., 1]
        column = np.clip(np.floor(x), 0, max(0, width - 2)).astype(np.int64)
        row = np.clip(np.floor(y), 0, max(0, height - 2)).astype(np.int64)
        right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
        u, v = (x - column)[..., None], (y - row)[..., None]
        above = self.maps[row, column] * (1 - u) + self.maps[row, right] * u
        return np.asarray(
            above * (1 - v) + (self.maps[below, column] * (1 - u) + self.maps[below, right] * u) * v
        )

    def origins(self, size: Size) -> Points:
        return self.maps

    def forward(self, points: Points) -> Points:
        """(N, 2) by Newton's method, from the pixel that came from nearest by; NaN where nothing
        did."""
        found = np.empty_like(points)
        for index, target in enumerate(points):
            distances = ((self.maps - target) ** 2).sum(axis=-1)
            row, column = np.unravel_index(int(np.argmin(distances)), distances.shape)
            found[index] = self._refine(target, np.array([column, row], np.float64))
        return found

    def _refine(self, target: Points, start: Points) -> Points:
        at, best = start, start
        least = np.inf
        for _ in range(_NEWTON_STEPS):
            off = target - self.back(at)
            if (distance := float(np.hypot(*off))) < least:
                least, best = distance, at
            steps = np.array([[0.25, 0.0], [-0.25, 0.0], [0.0, 0.25], [0.0, -0.25]])
            ends = self.back(at + steps)
            slopes = np.stack([(ends[0] - ends[1]) * 2, (ends[2] - ends[3]) * 2], axis=1)
            if abs(np.linalg.det(slopes)) < 1e-6:
                break
            at = at + np.clip(np.linalg.solve(slopes, off), -2, 2)
        return best if least < 0.5 else np.full(2, np.nan)


@dataclass(frozen=True)
class Move:
    """What one transform did. interpolation, border: of OpenCV, as its image had them. crop: the
    part that it enlarged, xyxy; None if it did something else."""

    shape: Straight | Bent
    interpolation: int = LINEAR
    border: int = CONSTANT
    crop: tuple[int, int, int, int] | None = None

    def resampler(self, size: Size) -> Callable[[NDArray[Any]], NDArray[Any]]:
        """Shows (H, W) pixels, uint8 or uint16, as the transform showed its image, but for a fill
        of 0."""
        import cv2

        height, width = size
        if self.crop is not None:
            x0, y0, x1, y1 = self.crop
            return lambda pixels: np.asarray(
                cv2.resize(pixels[y0:y1, x0:x1], (width, height), interpolation=self.interpolation)
            )
        points = self.shape.origins(size)
        if self.interpolation == NEAREST and isinstance(self.shape, Bent):
            # Halves are rounded as for the image: by the same call, on the same two-channel map.
            both: Any = np.ascontiguousarray(points, np.float32)
            none: Any = None
            return lambda pixels: np.asarray(
                cv2.remap(pixels, both, none, NEAREST, borderMode=self.border, borderValue=0)
            )
        if self.interpolation == NEAREST:
            points = np.floor(points + 0.5)
        x, y = np.ascontiguousarray(np.moveaxis(points, -1, 0), np.float32)
        # One channel at a time: OpenCV 5.0 rounds two to 1/32 of a pixel, one and three not.
        return lambda pixels: np.asarray(
            cv2.remap(pixels, x, y, self.interpolation, borderMode=self.border, borderValue=0)
        )


def inside(points: Points, size: Size) -> NDArray[np.bool_]:
    x, y = points[..., 0], points[..., 1]
    return (x >= -0.5) & (y >= -0.5) & (x <= size[1] - 0.5) & (y <= size[0] - 0.5)


def source_areas(moves: Sequence[Move], size: Size) -> NDArray[np.float64]:
    """(H, W): how many pixels of the first image the area of each pixel of the last covers."""
    shapes = [move.shape for move in moves]
    affine = [s.matrix for s in shapes if isinstance(s, Straight) and s.is_affine]
    if len(affine) == len(shapes):
        return np.full(size, 1 / abs(math.prod(float(np.linalg.det(matrix)) for matrix in affine)))
    points = shapes[-1].origins(size)
    for shape in reversed(shapes[:-1]):
        points = shape.back(points)
    down, across = (np.asarray(slope) for slope in np.gradient(points, axis=(0, 1)))
    areas = np.abs(across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0])
    return np.asarray(np.nan_to_num(areas, nan=0.0))


def _grid(size: Size) -> Points:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([columns, rows], axis=-1).astype(np.float64)


def read_move(name: str, transform: Any, params: Mapping[str, Any], size: Size) -> Move | None:
    """What a transform of albumentations has just done, by what it says of itself; None if it left
    every pixel in its place."""
    read = _READERS.get(name)
    if read is None:
        return None
    return Move(
        read(params, size),
        interpolation=getattr(transform, "interpolation", NEAREST),  # a flip blends nothing
        border=getattr(transform, "border_mode", CONSTANT),
        crop=params.get("crop_coords"),
    )


def _project(matrix: NDArray[np.float64], points: Points) -> Points:
    across = points @ matrix[:2, :2].T + matrix[:2, 2]
    if np.array_equal(matrix[2], [0.0, 0.0, 1.0]):
        return np.asarray(across)
    depth = points @ matrix[2, :2] + matrix[2, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(across / np.where(depth > 1e-9, depth, np.nan)[..., None])


def _flip(size: Size, *, across: bool, down: bool) -> NDArray[np.float64]:
    matrix = np.eye(3)
    if across:
        matrix[0] = [-1, 0, size[1] - 1]
    if down:
        matrix[1] = [0, -1, size[0] - 1]
    return matrix


def _transposed() -> NDArray[np.float64]:
    return np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]], np.float64)


def _quarters(size: Size, number: int) -> NDArray[np.float64]:
    """Against the clock, as numpy.rot90: a transposition, then upside down. Sides are equal."""
    quarter = _flip(size, across=False, down=True) @ _transposed()
    return np.linalg.matrix_power(quarter, number)


def _symmetry(params: Mapping[str, Any], size: Size) -> Straight:
    half = _flip(size, across=True, down=True)
    elements = {
        "e": np.eye(3),
        "r90": _quarters(size, 1),
        "r180": half,
        "r270": _quarters(size, 3),
        "v": _flip(size, across=False, down=True),
        "hvt": _transposed() @ half,
        "h": _flip(size, across=True, down=False),
        "t": _transposed(),
    }
    return Straight(elements[params["group_element"]])


def _affine(params: Mapping[str, Any], size: Size) -> Straight:
    return Straight(np.vstack([params["matrix"][:2], [0.0, 0.0, 1.0]]))


def _perspective(params: Mapping[str, Any], size: Size) -> Straight:
    sides = np.array([size[1] / params["max_width"], size[0] / params["max_height"], 1.0])
    return Straight(np.diag(sides) @ params["matrix"])


def _bent(params: Mapping[str, Any], size: Size) -> Bent:
    return Bent(np.stack([params["map_x"], params["map_y"]], axis=-1).astype(np.float64))


def _crop(params: Mapping[str, Any], size: Size) -> Straight:
    """Pixels are areas: their edges, not their centres, fall on one another."""
    x0, y0, x1, y1 = params["crop_coords"]
    across, down = size[1] / (x1 - x0), size[0] / (y1 - y0)
    left, top = (0.5 - x0) * across - 0.5, (0.5 - y0) * down - 0.5
    return Straight(np.array([[across, 0, left], [0, down, top], [0, 0, 1]]))


_READERS: dict[str, Callable[[Mapping[str, Any], Size], Straight | Bent]] = {
    "HorizontalFlip": lambda params, size: Straight(_flip(size, across=True, down=False)),
    "VerticalFlip": lambda params, size: Straight(_flip(size, across=False, down=True)),
    "Transpose": lambda params, size: Straight(_transposed()),
    "RandomRotate90": lambda params, size: Straight(_quarters(size, params["factor"])),
    "D4": _symmetry,
    "Rotate": _affine,
    "Affine": _affine,
    "Perspective": _perspective,
    "ElasticTransform": _bent,
    "GridDistortion": _bent,
    "OpticalDistortion": _bent,
    "RandomResizedCrop": _crop,
}

# The transforms that move anything.
MOVING = frozenset(_READERS)
