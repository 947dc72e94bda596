"""Masks as polygons and polygons as masks, exactly. Called by formats/, generators/ and
real_images/.

The corners of a mask's polygons lie between pixels, so that a polygon covers just the pixels whose
centres it holds, and painting it gives the mask back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.errors import LabelError

Points = NDArray[np.float64]  # (N, 2): x, y in pixels; the last point is joined to the first
MAX_POINTS = 4096

_Corner = tuple[int, int]
_Ring = list[_Corner]


@dataclass(frozen=True)
class Polygon:
    """One connected part of a mask. outer: seen on a screen, clockwise. holes: the other way."""

    outer: Points
    holes: tuple[Points, ...] = ()


def mask_polygons(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> list[Polygon]:
    """Of a binary (H, W) mask, by where each part begins from the top left. Pixels that touch at a
    corner alone are of two parts."""
    import cv2

    binary = (np.asarray(mask) != 0).astype(np.uint8)
    _, parts = cv2.connectedComponents(binary, connectivity=4)
    outers: dict[int, Points] = {}
    holes: dict[int, list[Points]] = {}
    for ring in _rings(binary):
        x, y = ring[0]  # the ring begins along the top of this pixel
        part = int(parts[y, x])
        corners = np.asarray(_corners(ring), np.float64)
        if _signed_area(corners) > 0:
            outers[part] = corners
        else:
            holes.setdefault(part, []).append(corners)
    return [Polygon(outer, tuple(holes.get(part, ()))) for part, outer in outers.items()]


def polygon_mask(rings: Sequence[Points], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W): the pixels whose centres lie inside an odd number of the rings."""
    height, width = shape
    crossings = np.zeros((height, width + 1), np.int64)
    for ring in rings:
        points = np.asarray(ring, np.float64)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            low, high = min(y0, y1), max(y0, y1)
            first, last = max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5)))
            rows = np.arange(first, last)
            at = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            columns = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)
            crossings[rows, columns] += 1
    return np.asarray(np.cumsum(crossings[:, :-1], axis=1) % 2 == 1)


def check_polygon(ring: Sequence[Sequence[float]], shape: tuple[int, int], *, field: str) -> Points:
    """The ring as (N, 2). Raises LabelError, naming field, unless it has 3 to 4096 points, all
    finite and inside the image, and covers something without crossing itself."""
    try:
        points = np.asarray(ring, np.float64)
    except (ValueError, TypeError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2:
        raise LabelError(f"{field}: expected a list of points [x, y], all of two numbers")
    if not 3 <= len(points) <= MAX_POINTS:
        raise LabelError(f"{field}: {len(points)} points; expected 3 to {MAX_POINTS}")
    if not np.isfinite(points).all():
        number = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise LabelError(f"{field}[{number}]: {points[number].tolist()}; expected finite numbers")
    height, width = shape
    outside = (points < 0).any(axis=1) | (points[:, 0] > width) | (points[:, 1] > height)
    if outside.any():
        number = int(np.flatnonzero(outside)[0])
        raise LabelError(
            f"{field}[{number}]: {points[number].tolist()} lies outside the image of {width} x "
            f"{height} pixels; clip the polygon to it"
        )
    crossing = _crossing(points)
    if crossing is not None:
        raise LabelError(
            f"{field}: it crosses itself, sides {crossing[0]} and {crossing[1]}; split it into "
            "polygons that do not"
        )
    if abs(_signed_area(points)) < 1e-9:
        raise LabelError(f"{field}: it covers no area; leave it out")
    return points


def _rings(binary: NDArray[np.uint8]) -> list[_Ring]:
    """The borders of a mask, along the pixels' edges, the mask to the right."""
    padded = np.pad(binary, 1).astype(np.int8)
    down, right = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    leaving: dict[_Corner, list[_Corner]] = {}
    for edges, sign, tail, head in (
        (down, 1, (0, 0), (1, 0)),  # a mask begins below: to the right, along its top
        (down, -1, (1, 0), (0, 0)),
        (right, -1, (0, 0), (0, 1)),  # a mask ends to the left: down its right side
        (right, 1, (0, 1), (0, 0)),
    ):
        for y, x in np.argwhere(edges == sign).tolist():
            corner = (x + tail[0], y + tail[1])
            leaving.setdefault(corner, []).append((x + head[0], y + head[1]))
    rings = []
    for y, x in np.argwhere(down == 1).tolist():
        if (x + 1, y) in leaving.get((x, y), ()):
            rings.append(_follow(leaving, (x, y), (x + 1, y)))
    # A ring made of tops alone does not exist: every ring has one, so none is left.
    assert not any(leaving.values())
    return rings


def _follow(leaving: dict[_Corner, list[_Corner]], start: _Corner, second: _Corner) -> _Ring:
    """Takes the edges of one ring out of leaving. Where two parts touch, it turns right: it stays
    with its own."""
    ring, at, to = [start], start, second
    while True:
        leaving[at].remove(to)
        if to == start and not _turns(leaving, at, to, second):
            return ring
        ring.append(to)
        dx, dy = to[0] - at[0], to[1] - at[1]
        turn = (to[0] - dy, to[1] + dx)  # to the right on a screen, where y grows downwards
        nexts = leaving[to]
        at, to = to, turn if turn in nexts else nexts[0]


def _turns(
    leaving: dict[_Corner, list[_Corner]], at: _Corner, to: _Corner, second: _Corner
) -> bool:
    """Whether the ring passes its first corner and goes on: it came for another edge."""
    dx, dy = to[0] - at[0], to[1] - at[1]
    turn = (to[0] - dy, to[1] + dx)
    return turn != second and turn in leaving[to]


def _corners(ring: _Ring) -> _Ring:
    """Without the points in the middle of straight sides."""
    kept = []
    for before, here, after in zip(ring[-1:] + ring[:-1], ring, ring[1:] + ring[:1], strict=True):
        straight = (here[0] - before[0]) * (after[1] - here[1]) == (here[1] - before[1]) * (
            after[0] - here[0]
        )
        if not straight:
            kept.append(here)
    return kept


def _signed_area(points: Points) -> float:
    """Above 0 where the points run clockwise on a screen. Source: the shoelace formula."""
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _crossing(points: Points) -> tuple[int, int] | None:
    """Two sides that cross, not merely touch."""
    ends = np.roll(points, -1, axis=0)
    for first in range(len(points) - 2):
        others = slice(first + 2, len(points))
        a, b, c, d = points[first], ends[first], points[others], ends[others]
        apart = _side(a, b, c) * _side(a, b, d) < 0
        across = _side(c, d, a) * _side(c, d, b) < 0
        if (hits := np.flatnonzero(apart & across)).size:
            return first, first + 2 + int(hits[0])
    return None


def _side(a: Points, b: Points, c: Points) -> NDArray[np.float64]:
    """Above 0 where c is on one side of the line through a and b, below 0 on the other."""
    cross = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        c[..., 0] - a[..., 0]
    )
    return np.asarray(np.sign(cross))
