"""A fitted layout: its tensors, and how a label map is drawn of them. Called by fit.py and
conditioner.py.

A map is drawn in the space of the principal components of signed distances (Leventon et al. 2000,
section 2.1; Cootes et al. 1995, equation 3): from the point of a map of the data part of the way to
a near neighbour (Chawla et al. 2002, section 4.2), with Gaussian noise of the spread of its
neighbourhood. One Gaussian over all would mix slices of different heights into what is none.
Classes then get about the areas that lie as far between those of the two maps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.generators.layout.distances import balanced, label_map
from datagen.generators.layout.pieces import Piece, paste, scatter
from datagen.labels import Mask

Weights = Mapping[str, NDArray[Any]]
Rows = NDArray[np.int64]  # numbers of maps of the data

# A drawn map differs from every map of the data in more pixels than this share of those that the
# latter has beside the background; the Dice overlap of all classes is then below about 0.995.
MIN_DIFFERENT = 0.01

_NUM_NEIGHBOURS = 5
_WALK = (0.2, 0.5)  # of the way to the neighbour; beyond the half it would be the neighbour's walk
_NOISE, _MAX_NOISE = 0.5, 2.5  # of the local spread; at most so many standard deviations
_LEAST_SPREAD = 0.05  # of the spread of all maps, where neighbours hardly differ
_AREA_NOISE = 0.06  # standard deviation of a class's area, as a share of it
_TRIES = 32
_PIECE_FIELDS = 10


@dataclass(frozen=True)
class Layout:
    """mean: (K, h, w) and modes: (M, K, h, w) of distances in pixels, of the classes `values`.
    points: (N, M), the maps of the data. areas: (N, K), shares of the frame. map_classes: (N,),
    their images' classes. histograms: (N, 256) pixels. errors: (N,) pixels in which `rebuilt`
    differs from the map. digests: of the pixels of all maps. pieces: of the scattered classes, of
    all N maps.
    """

    size: tuple[int, int]
    values: tuple[int, ...]
    mean: NDArray[np.float32]
    modes: NDArray[np.float32]
    points: NDArray[np.float32]
    areas: NDArray[np.float64]
    map_classes: NDArray[np.int64]
    histograms: NDArray[np.int64]
    errors: NDArray[np.int64]
    digests: frozenset[bytes]
    pieces: tuple[Piece, ...]

    def draw(self, rng: np.random.Generator, class_id: int | None = None) -> Mask:
        """(H, W). class_id: of the images whose label maps it is to be like; None for any.

        A map that is a copy is drawn again, with more noise. Raises ModelError if all are.
        """
        rows = np.arange(len(self.points))
        if class_id is not None and (self.map_classes == class_id).any():
            rows = rows[self.map_classes == class_id]
        for attempt in range(_TRIES):
            row = int(rows[int(rng.integers(rows.size))])
            near = self._neighbours(row, rows if rows.size > 1 else np.arange(len(self.points)))
            point, areas = self._walk(rng, row, near, noise=_NOISE * (1 + attempt / 4))
            mask = self._with_pieces(rng, self.base(point, areas), row, near)
            if not self.is_copy(mask):
                return mask
        raise ModelError(
            f"layout: {_TRIES} maps in a row were copies of maps of the data, which hardly differ; "
            "fit it to more label maps, or use a condition_set with deform"
        )

    def base(self, point: NDArray[np.float32], areas: NDArray[np.float64]) -> Mask:
        """Without the scattered classes. Plain sums in order: the same bits on every machine."""
        distances = self.mean.copy()
        for weight, mode in zip(point, self.modes, strict=True):
            distances += weight * mode
        return label_map(balanced(distances, areas), self.values, self.size)

    def rebuilt(self, row: int) -> Mask:
        """What the model knows of a map of the data."""
        return paste(self.base(self.points[row], self.areas[row]), self._pieces_of(row))

    def is_copy(self, mask: Mask) -> bool:
        """Whether it may differ from a map of the data in too few pixels: see MIN_DIFFERENT.

        Numbers of differing pixels are a metric: one that is farther from the rebuilt map than this
        is from the map itself, by the limit, is farther from the map than the limit. Two maps also
        differ in at least half of what their histograms do.
        """
        if digest_of(mask) in self.digests:
            return True
        histogram = np.bincount(mask.ravel(), minlength=256)
        limits = MIN_DIFFERENT * np.maximum(1, mask.size - self.histograms[:, 0])
        least = np.abs(self.histograms - histogram).sum(axis=1) / 2
        for row in np.flatnonzero(least <= limits):
            different = np.count_nonzero(mask != self.rebuilt(int(row)))
            if different - self.errors[row] <= limits[row]:
                return True
        return False

    def _neighbours(self, row: int, rows: Rows) -> Rows:
        """The nearest first, without itself; of equal ones, as in maps of scattered objects alone,
        any."""
        others: Rows = rows[rows != row]
        if self.points.shape[1] == 0:
            return others
        gaps = ((self.points[others] - self.points[row]) ** 2).sum(axis=1)
        nearest: Rows = others[np.argsort(gaps, kind="stable")[:_NUM_NEIGHBOURS]]
        return nearest

    def _walk(
        self, rng: np.random.Generator, row: int, near: Rows, *, noise: float
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """A point, and the areas of the classes there."""
        end = near[int(rng.integers(near.size))]
        start, step = self.points[row], self.points[end] - self.points[row]
        least, most = _WALK
        way = least + (most - least) * rng.random()
        white = np.clip(rng.standard_normal(start.size), -_MAX_NOISE, _MAX_NOISE)
        low, high = self._range
        spread = np.maximum(
            np.vstack([self.points[near], start[None]]).std(axis=0),
            _LEAST_SPREAD * self.points.std(axis=0),
        )
        point = np.clip(start + way * step + noise * spread * white, low, high).astype(np.float32)
        grown = 1 + _AREA_NOISE * np.clip(rng.standard_normal(len(self.values)), -2, 2)
        areas = ((1 - way) * self.areas[row] + way * self.areas[end]) * grown
        return point, np.minimum(areas, self.areas.max(axis=0))

    @cached_property
    def _range(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A tenth beyond what the maps of the data have."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return low - 0.1 * (high - low), high + 0.1 * (high - low)

    def _with_pieces(self, rng: np.random.Generator, base: Mask, row: int, near: Rows) -> Mask:
        """As many as a map of the neighbourhood has, at places of the neighbourhood."""
        if not self.pieces:
            return base
        around = [row, *near.tolist()]
        wanted = self._pieces_of(around[int(rng.integers(len(around)))])
        places = [piece for each in around for piece in self._pieces_of(each)]
        return scatter(base, wanted, forms=self.pieces, places=places, rng=rng)

    def _pieces_of(self, row: int) -> Sequence[Piece]:
        return self._by_row.get(row, ())

    @cached_property
    def _by_row(self) -> dict[int, list[Piece]]:
        found: dict[int, list[Piece]] = {}
        for piece in self.pieces:
            found.setdefault(piece.row, []).append(piece)
        return found

    def weights(self) -> dict[str, NDArray[Any]]:
        """As they ship: float16 holds every value of a label map and byte of a digest exactly, and
        distances to a hundredth of a pixel. Without tensors that are empty."""
        bytes_of = [list(digest) for digest in sorted(self.digests)]
        table = [
            (p.row, p.top, p.left, *p.pixels.shape, p.kind, p.y, p.x, p.host, p.touches)
            for p in self.pieces
        ]
        flat = [piece.pixels.ravel() for piece in self.pieces]
        tensors: dict[str, NDArray[Any]] = {
            "values": np.asarray(self.values, np.float32),
            "mean": self.mean.astype(np.float16),
            "modes": self.modes.astype(np.float16),
            "points": self.points,
            "areas": self.areas.astype(np.float32),
            "map_classes": self.map_classes.astype(np.float32),
            "histograms": self.histograms.astype(np.float32),
            "errors": self.errors.astype(np.float32),
            "digests": np.asarray(bytes_of, np.float16),
            "pieces": np.asarray(table, np.float32).reshape(-1, _PIECE_FIELDS),
            "piece_pixels": np.concatenate([*flat, np.zeros(0, np.uint8)]).astype(np.float16),
        }
        return {name: tensor for name, tensor in tensors.items() if tensor.size}


def layout_of(weights: Weights, size: tuple[int, int], *, num_names: int) -> Layout:
    """Raises ModelError if they do not belong together."""
    try:
        layout = _read(weights, size)
        _check(layout, num_names)
    except (KeyError, ValueError, IndexError, ArithmeticError) as error:
        raise ModelError(
            f"layout: its weights do not fit its config.json ({error}); fit or copy the model again"
        ) from None
    return layout


def _read(weights: Weights, size: tuple[int, int]) -> Layout:
    mean = weights["mean"].astype(np.float32)
    num_maps = len(weights["errors"])
    no_modes, no_points = np.zeros((0, *mean.shape)), np.zeros((num_maps, 0))
    return Layout(
        size,
        tuple(int(value) for value in weights["values"]),
        mean,
        modes=weights.get("modes", no_modes).astype(np.float32),
        points=weights.get("points", no_points).astype(np.float32),
        areas=weights["areas"].astype(np.float64),
        map_classes=weights["map_classes"].astype(np.int64),
        histograms=weights["histograms"].astype(np.int64),
        errors=weights["errors"].astype(np.int64),
        digests=frozenset(bytes(row) for row in weights["digests"].astype(np.uint8)),
        pieces=tuple(_read_pieces(weights)),
    )


def _read_pieces(weights: Weights) -> list[Piece]:
    found: list[Piece] = []
    start, flat = 0, weights.get("piece_pixels", np.zeros(0)).astype(np.uint8)
    for line in weights.get("pieces", np.zeros((0, _PIECE_FIELDS))).tolist():
        row, top, left, height, width, kind = (int(value) for value in line[:6])
        pixels = flat[start : start + height * width].reshape(height, width)
        start += height * width
        host, touches = int(line[8]), bool(line[9])
        found.append(Piece(pixels, row, top, left, kind, line[6], line[7], host, touches))
    return found


def _check(layout: Layout, num_names: int) -> None:
    """Raises ValueError."""
    height, width = layout.size
    num_maps, planes, rows, columns = len(layout.errors), *layout.mean.shape
    stride = -(-height // rows)
    expected = {
        "values": (len(layout.values), planes),
        "mean": ((rows, columns), (-(-height // stride), -(-width // stride))),
        "modes": (layout.modes.shape, (layout.points.shape[1], *layout.mean.shape)),
        "points": (len(layout.points), num_maps),
        "areas": (layout.areas.shape, (num_maps, planes)),
        "map_classes": (layout.map_classes.shape, (num_maps,)),
        "histograms": (layout.histograms.shape, (num_maps, 256)),
    }
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise ValueError(f"{name}: {found}, expected {wanted}")
    if num_maps < 2 or not all(0 <= value < num_names for value in layout.values):
        raise ValueError("values: expected values of names, and points of two maps or more")
    for piece in layout.pieces:
        h, w = piece.pixels.shape
        inside = 0 <= piece.top <= height - h and 0 <= piece.left <= width - w
        named = piece.pixels.size and piece.pixels.max() < num_names
        if not (inside and named and 0 <= piece.row < num_maps):
            raise ValueError("pieces: expected pieces inside the frame, of named values")


def digest_of(mask: Mask) -> bytes:
    """16 bytes, of its pixels."""
    return hashlib.sha256(np.ascontiguousarray(mask).tobytes()).digest()[:16]
