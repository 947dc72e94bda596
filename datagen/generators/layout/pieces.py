"""Scattered objects: how many, of what size and shape, and where. Called by fit.py and model.py.

A piece is a connected part of the pixels of all scattered classes together, so that a core inside
its shell stays there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.labels import Mask

Body = tuple[float, float, float, float]  # top, left, height, width, pixels

_TRIES = 24
_LEAST_INSIDE = 0.95  # of a piece's pixels, where those of the data lie in the body
_JITTER = 0.04  # of the sides of the body, beside a place of the data
_SCALE = 0.18  # standard deviation of the logarithm of a piece's size
_TURN = math.radians(20)
_BEND = 0.08  # of a piece's sides, the displacement of its pixels


@dataclass(frozen=True)
class Piece:
    """pixels: (h, w), 0 where it is not. row: of its label map. top, left: there. kind: the value
    that most of its pixels have. y, x: its centre, in sides of the body. host: what would be there
    without it. touches: the body, where the host is the background.
    """

    pixels: Mask
    row: int
    top: int
    left: int
    kind: int
    y: float
    x: float
    host: int
    touches: bool


def body_of(base: Mask) -> Body:
    """The box around all that is no background, or the frame if there is nothing else."""
    rows, columns = np.flatnonzero(base.any(axis=1)), np.flatnonzero(base.any(axis=0))
    if rows.size == 0:
        return 0.0, 0.0, float(base.shape[0]), float(base.shape[1])
    top, left = float(rows[0]), float(columns[0])
    return top, left, float(rows[-1] + 1) - top, float(columns[-1] + 1) - left


def without(mask: Mask, scattered: Collection[int]) -> Mask:
    """Pixels of scattered classes take the class of the nearest other pixel."""
    from scipy.ndimage import distance_transform_edt

    hole = np.isin(mask, list(scattered))
    if not hole.any():
        return mask
    if hole.all():
        return np.zeros_like(mask)
    rows, columns = distance_transform_edt(hole, return_distances=False, return_indices=True)
    filled: Mask = mask[rows, columns]
    return filled


def pieces_of(mask: Mask, base: Mask, scattered: Collection[int], *, row: int) -> list[Piece]:
    """base: the mask without them."""
    import cv2

    hole = np.isin(mask, list(scattered)).astype(np.uint8)
    num, parts, stats, _ = cv2.connectedComponentsWithStats(hole, connectivity=8)
    top, left, height, width = body_of(base)
    found = []
    for number in range(1, num):
        x0, y0, w, h = (int(value) for value in stats[number, :4])
        window = slice(y0, y0 + h), slice(x0, x0 + w)
        inside = parts[window] == number
        pixels = np.where(inside, mask[window], 0).astype(np.uint8)
        counts = np.bincount(pixels[inside])
        hosts = np.bincount(base[window][inside])
        found.append(
            Piece(
                pixels, row, y0, x0,
                kind=int(counts.argmax()),
                y=(y0 + h / 2 - top) / height,
                x=(x0 + w / 2 - left) / width,
                host=int(hosts.argmax()),
                touches=_touches(base, y0 + np.nonzero(inside)[0], x0 + np.nonzero(inside)[1]),
            )
        )  # fmt: skip
    return found


def paste(base: Mask, pieces: Sequence[Piece]) -> Mask:
    """Each where it was."""
    mask = base.copy()
    for piece in pieces:
        height, width = piece.pixels.shape
        window = mask[piece.top : piece.top + height, piece.left : piece.left + width]
        window[piece.pixels > 0] = piece.pixels[piece.pixels > 0]
    return mask


def scatter(
    base: Mask,
    wanted: Sequence[Piece],
    *,
    forms: Sequence[Piece],
    places: Sequence[Piece],
    rng: np.random.Generator,
) -> Mask:
    """base with as many pieces of each kind as are wanted, none touching another. A form of the
    kind, deformed, comes near one of the kind's places (a kernel density estimate of positions in
    the body). A piece for which there is no room is left out."""
    mask, taken = base.copy(), np.zeros(base.shape, np.bool_)
    body = body_of(base)
    for kind in (piece.kind for piece in wanted):
        alike = [piece for piece in forms if piece.kind == kind]
        near = [piece for piece in places if piece.kind == kind] or alike
        for _ in range(_TRIES):
            form = alike[int(rng.integers(len(alike)))]
            place = near[int(rng.integers(len(near)))]
            shift = _JITTER * rng.standard_normal(2)
            pixels = _deformed(form.pixels, rng)
            y = body[0] + (place.y + shift[0]) * body[2] - pixels.shape[0] / 2
            x = body[1] + (place.x + shift[1]) * body[3] - pixels.shape[1] / 2
            if _put(mask, taken, base, pixels, (round(y), round(x)), place):
                break
    return mask


def _put(
    mask: Mask,
    taken: NDArray[np.bool_],
    base: Mask,
    pixels: Mask,
    corner: tuple[int, int],
    place: Piece,
) -> bool:
    """Into mask and taken; False if there is no room, or it would lie in what the piece that was at
    the place did not."""
    seen = pixels > 0
    rows, columns = np.nonzero(seen)
    rows, columns = rows + corner[0], columns + corner[1]
    height, width = base.shape
    if rows.size == 0 or rows.min() < 0 or columns.min() < 0:
        return False
    if rows.max() >= height or columns.max() >= width:
        return False
    under = base[rows, columns]
    if int(np.bincount(under).argmax()) != place.host:
        return False
    if place.host > 0 and np.count_nonzero(under) < _LEAST_INSIDE * under.size:
        return False
    if place.host == 0 and _touches(base, rows, columns) != place.touches:
        return False
    if _touches(taken, rows, columns):
        return False
    mask[rows, columns] = pixels[seen]
    taken[rows, columns] = True
    return True


def _touches(shown: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> bool:
    """Whether a pixel on or beside those given is shown."""
    height, width = shown.shape
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return any(
        shown[np.clip(rows + y, 0, height - 1), np.clip(columns + x, 0, width - 1)].any()
        for y, x in steps
    )


def _deformed(pixels: Mask, rng: np.random.Generator) -> Mask:
    """Turned, resized and bent; labels by nearest neighbour, cropped to what is seen."""
    height, width = pixels.shape
    turn = _TURN * (2 * rng.random() - 1)
    factor = math.exp(_SCALE * float(np.clip(rng.standard_normal(), -2, 2)))
    phases = 2 * math.pi * rng.random(4)
    half = math.ceil(0.5 * math.hypot(height, width) * factor * (1 + 2 * _BEND)) + 1
    y, x = np.mgrid[-half : half + 1, -half : half + 1] / factor
    cos, sin = math.cos(turn), math.sin(turn)
    along, across = cos * x + sin * y, cos * y - sin * x
    bend_y = _BEND * height * np.sin(2 * math.pi * along / width + phases[0])
    bend_x = _BEND * width * np.sin(2 * math.pi * across / height + phases[1])
    rows = np.rint(across + bend_y + (height - 1) / 2 + 0.5 * math.sin(phases[2])).astype(np.int64)
    columns = np.rint(along + bend_x + (width - 1) / 2 + 0.5 * math.sin(phases[3])).astype(np.int64)
    within = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    moved = np.zeros(rows.shape, np.uint8)
    moved[within] = pixels[rows[within], columns[within]]
    seen_y, seen_x = np.flatnonzero(moved.any(axis=1)), np.flatnonzero(moved.any(axis=0))
    if seen_y.size == 0:
        return pixels
    return moved[seen_y[0] : seen_y[-1] + 1, seen_x[0] : seen_x[-1] + 1]
