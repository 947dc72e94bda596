"""duplicate: an image too like a chosen one of its class. Listed in datagen.filters.FILTERS."""

from __future__ import annotations

import hashlib
from array import array
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from datagen.filters.interface import ClassJudge, Images, Score

NUM_BITS = 256
_MAX_CELLS = 32  # a larger side is averaged down to this many cells
_CELL_SCALE = 16  # fixed point of a cell's mean
_CHUNK_VALUES = 1 << 20


class DuplicateOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_distance: int = Field(
        default=3,
        ge=0,
        le=16,
        description=f"Bits of {NUM_BITS} in which two images may differ and still be the same.",
    )


class DuplicateFilter:
    """The score is a hash of 256 bits, in hex: signs of random projections of the pixels.

    Source: Charikar 2002, "Similarity estimation techniques from rounding algorithms", section 3:
    the share of bits that differ is the angle between two images (here: less their mean) over pi.
    """

    name = "duplicate"
    options: type[BaseModel] = DuplicateOptions

    def score(self, images: Images) -> list[Score]:
        num, height, width, channels = images.shape
        step = max(1, _CHUNK_VALUES // (height * width * channels))
        scores: list[Score] = []
        for start in range(0, num, step):
            packed = _hash(_cells(images[start : start + step]))
            scores.extend(row.tobytes().hex() for row in packed)
        return scores

    def judge(self, options: BaseModel) -> ClassJudge:
        assert isinstance(options, DuplicateOptions)
        return DuplicateJudge(options.max_distance)


class DuplicateJudge:
    """Refuses a hash within max_distance of an accepted one.

    Two hashes that differ in at most d bits agree in at least one of d + 1 bands (pigeonhole), so
    only those that share a band are compared: nothing is missed. Each band is a hash table with
    chains in flat arrays, doubled as it fills.
    """

    def __init__(self, max_distance: int) -> None:
        self._max_distance = max_distance
        edges = [NUM_BITS * i // (max_distance + 1) for i in range(max_distance + 2)]
        self._bands = [
            (low, (1 << (high - low)) - 1) for low, high in zip(edges[:-1], edges[1:], strict=True)
        ]
        self._hashes: list[int] = []
        self._next = [array("i") for _ in self._bands]
        self._heads = [array("i", [-1]) * 1024 for _ in self._bands]

    def reject(self, score: Score) -> str | None:
        return "duplicate" if self._has_near(int(str(score), 16)) else None

    def accept(self, score: Score) -> None:
        bits = int(str(score), 16)
        if len(self._hashes) >= len(self._heads[0]):
            self._grow()
        self._hashes.append(bits)
        self._link(len(self._hashes) - 1, bits)

    def _has_near(self, bits: int) -> bool:
        hashes, limit = self._hashes, self._max_distance
        for (shift, mask), heads, following in zip(
            self._bands, self._heads, self._next, strict=True
        ):
            item = heads[hash((bits >> shift) & mask) % len(heads)]
            while item >= 0:
                if (hashes[item] ^ bits).bit_count() <= limit:
                    return True
                item = following[item]
        return False

    def _link(self, item: int, bits: int) -> None:
        for (shift, mask), heads, following in zip(
            self._bands, self._heads, self._next, strict=True
        ):
            bucket = hash((bits >> shift) & mask) % len(heads)
            following.append(heads[bucket])
            heads[bucket] = item

    def _grow(self) -> None:
        size = 2 * len(self._heads[0])
        self._heads = [array("i", [-1]) * size for _ in self._bands]
        self._next = [array("i") for _ in self._bands]
        for item, bits in enumerate(self._hashes):
            self._link(item, bits)


def _cells(images: Images) -> NDArray[np.float32]:
    """(N, H, W, C) uint8 => (N, cells) float32: means of cells in fixed point, whole numbers."""
    num, height, width, channels = images.shape
    if height <= _MAX_CELLS and width <= _MAX_CELLS:
        return images.reshape(num, -1).astype(np.float32) * np.float32(_CELL_SCALE)
    rows, columns = _edges(height), _edges(width)
    sums = np.add.reduceat(images, rows, axis=1, dtype=np.int64)
    sums = np.add.reduceat(sums, columns, axis=2)
    areas = np.diff(rows, append=height)[:, None] * np.diff(columns, append=width)[None, :]
    means = sums * _CELL_SCALE // areas[None, :, :, None]
    return means.reshape(num, -1).astype(np.float32)


def _edges(side: int) -> NDArray[np.int64]:
    num = min(side, _MAX_CELLS)
    return np.arange(num, dtype=np.int64) * side // num


def _hash(cells: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(N, cells) => (N, 32) uint8, packed bits.

    32 x 32 x 3 cells of at most 255 x 16 sum to less than 2^24: every float32 sum is exact, so
    that bits depend neither on the batch nor on the machine's matrix code.
    """
    weights, weight_sums = _projections(cells.shape[1])
    sums = (cells @ weights).astype(np.int64)
    totals = cells.sum(axis=1, dtype=np.float64).astype(np.int64)
    centred = sums * cells.shape[1] - totals[:, None] * weight_sums
    return np.packbits(centred > 0, axis=1)


@cache
def _projections(num_cells: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(cells, 256) of +-1, the same on every machine, and the sum of each column."""
    stream = hashlib.shake_256(b"datagen duplicate 1").digest(num_cells * NUM_BITS // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(num_cells, NUM_BITS)
    weights = signs.astype(np.float32) * 2 - 1
    return weights, weights.sum(axis=0).astype(np.int64)
