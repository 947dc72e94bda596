"""Shapes: which pixels they cover and where their keypoints lie, in closed form.

A pixel belongs to a shape if its centre lies inside: there are no half pixels. Called by scene.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.generators.procedural.options import Shape

Points = NDArray[np.float64]  # (N, 2) x, y

_CORNERS = ("triangle", "rectangle", "polygon")


@dataclass(frozen=True)
class Figure:
    """A shape before it is placed, inside the circle of radius 1 around (0, 0).

    outline: (V, 2) corners of a polygon, which may be concave; None for a round shape, which has
    half axes 1 and minor, and a hole of radius hole. keypoints: name -> place.
    """

    shape: Shape
    outline: Points | None
    minor: float
    hole: float
    keypoints: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Cover:
    """The pixels that a placed figure covers: inside is (h, w) bool from row y0 and column x0."""

    y0: int
    x0: int
    inside: NDArray[np.bool_]

    @property
    def window(self) -> tuple[slice, slice]:
        height, width = self.inside.shape
        return slice(self.y0, self.y0 + height), slice(self.x0, self.x0 + width)


def make_figure(shape: Shape, variation: Sequence[float]) -> Figure:
    """variation: 12 numbers in [0, 1) that decide aspects and angles."""
    keypoints = {"centre": (0.0, 0.0)}
    if shape in ("circle", "ring"):
        return Figure(
            shape, None, 1.0, 0.4 + 0.25 * variation[0] if shape == "ring" else 0, keypoints
        )
    if shape == "ellipse":
        keypoints |= {"end-1": (-1.0, 0.0), "end-2": (1.0, 0.0)}
        return Figure(shape, None, 0.4 + 0.35 * variation[0], 0.0, keypoints)
    outline = _OUTLINES[shape](variation)
    if shape == "star":
        keypoints |= {f"tip-{k + 1}": tuple(outline[2 * k].tolist()) for k in range(5)}
    elif shape == "cross":
        ends = [(outline[3 * k] + outline[3 * k + 1]) / 2 for k in range(4)]
        keypoints |= {f"end-{k + 1}": tuple(end.tolist()) for k, end in enumerate(ends)}
    else:
        keypoints |= {f"corner-{k + 1}": tuple(p.tolist()) for k, p in enumerate(outline)}
    return Figure(shape, outline, 0.0, 0.0, keypoints)


def _on_circle(angles: Sequence[float], radii: Sequence[float]) -> Points:
    """Angles in turns, from the top, clockwise as seen in an image."""
    turns = 2 * math.pi * np.asarray(angles, np.float64)
    corners: Points = np.stack([np.sin(turns), -np.cos(turns)], axis=1)
    return corners * np.asarray(radii, np.float64)[:, None]


def _triangle(u: Sequence[float]) -> Points:
    spread = [0.28 + 0.1 * u[0], 0.28 + 0.1 * u[1]]
    return _on_circle([0.0, spread[0], 1 - spread[1]], [1.0, 1.0, 1.0])


def _rectangle(u: Sequence[float]) -> Points:
    half = math.atan(0.4 + 0.6 * u[0])
    x, y = math.cos(half), math.sin(half)
    return np.array([[-x, -y], [x, -y], [x, y], [-x, y]])


def _polygon(u: Sequence[float]) -> Points:
    return _on_circle(
        [(k + 0.4 * (u[k] - 0.5)) / 6 for k in range(6)], [1 - 0.3 * u[6 + k] for k in range(6)]
    )


def _star(u: Sequence[float]) -> Points:
    inner = 0.38 + 0.12 * u[0]
    return _on_circle([k / 10 for k in range(10)], [1.0, inner] * 5)


def _cross(u: Sequence[float]) -> Points:
    w = 0.2 + 0.15 * u[0]
    arm = math.sqrt(1 - w * w)
    quarter = np.array([[-w, -arm], [w, -arm], [w, -w]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])  # a quarter, clockwise as seen in an image
    parts = [quarter]
    for _ in range(3):
        parts.append(parts[-1] @ turn)
    return np.concatenate(parts)


_OUTLINES = {
    "triangle": _triangle,
    "rectangle": _rectangle,
    "polygon": _polygon,
    "star": _star,
    "cross": _cross,
}


@dataclass(frozen=True)
class Place:
    """Where a figure lies: centre and radius in pixels, angle in radians."""

    x: float
    y: float
    radius: float
    angle: float

    def move(self, points: Points) -> Points:
        cos, sin = math.cos(self.angle) * self.radius, math.sin(self.angle) * self.radius
        x, y = points[:, 0], points[:, 1]
        return np.stack([self.x + cos * x - sin * y, self.y + sin * x + cos * y], axis=1)


def cover(figure: Figure, place: Place, size: tuple[int, int]) -> Cover:
    """The pixels of an image of size (H, W) whose centres lie inside the figure."""
    height, width = size
    y0, y1 = _span(place.y, place.radius, height)
    x0, x1 = _span(place.x, place.radius, width)
    rows, columns = (np.arange(*span, dtype=np.float64) + 0.5 for span in ((y0, y1), (x0, x1)))
    if figure.outline is None:
        return Cover(y0, x0, _in_ellipse(figure, place, rows, columns))
    return Cover(y0, x0, _in_polygon(place.move(figure.outline), rows, columns))


def _span(centre: float, radius: float, side: int) -> tuple[int, int]:
    low = min(max(0, math.floor(centre - radius)), side)
    return low, max(low, min(side, math.ceil(centre + radius)))


def _in_ellipse(figure: Figure, place: Place, rows: Points, columns: Points) -> NDArray[np.bool_]:
    x, y = (columns - place.x)[None, :], (rows - place.y)[:, None]
    if figure.minor == 1:
        squared = x * x + y * y
        return (squared < place.radius**2) & (squared >= (figure.hole * place.radius) ** 2)
    cos, sin = math.cos(place.angle), math.sin(place.angle)
    along, across = (cos * x + sin * y), (cos * y - sin * x) / figure.minor
    return along * along + across * across < place.radius**2


def _in_polygon(corners: Points, rows: Points, columns: Points) -> NDArray[np.bool_]:
    """Even-odd: a pixel is inside if an odd number of edges cross its row to its right.

    Source: the crossings test (Shimrat 1962, Algorithm 112, CACM 5).
    """
    following = np.roll(corners, -1, axis=0)
    (ax, ay), (bx, by) = corners.T[:, :, None], following.T[:, :, None]
    crosses = (ay <= rows) != (by <= rows)  # (edges, rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(crosses, ax + (rows - ay) * (bx - ax) / (by - ay), -np.inf)
    inside: NDArray[np.bool_] = np.logical_xor.reduce(columns < at[:, :, None], axis=0)
    return inside
