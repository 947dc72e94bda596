"""duplicate: an image too like a chosen one of its class. Listed in datagen.filters.FILTERS."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from datagen.filters.interface import ClassJudge, FilterOptions, Images, Score
from datagen.images import block_means
from datagen.references.codes import CodeIndex, code_text, read_code

if TYPE_CHECKING:
    from datagen.references.reference import Reference

NUM_BITS = 256
NUM_BYTES = NUM_BITS // 8
MAX_CELLS = 32  # a longer side is averaged down to this many cells
_CHUNK_VALUES = 1 << 20  # bounds the float32 copy at 4 MiB whatever the batch
# A matrix product of at most 2^18 multiplications stays on one thread of OpenBLAS. Left to its
# threads, one of 64 images took 3 to 370 core-us an image, the worst on a busy machine.
_ONE_THREAD = 1 << 18
_NUM_COLUMNS = 32
_SCANNED = 1 << 15  # hashes compared at once: 1 MiB


class DuplicateOptions(FilterOptions):
    # At 6, of 6,000 real images of a class at most 0.17% are flagged (trousers 0.15%), and 99% of
    # copies with +-2 grey levels of noise or through JPEG 95 are found (docs/filters.md).
    max_distance: int = Field(
        default=6,
        ge=0,
        le=16,
        description=f"a whole number of bits of {NUM_BITS} that may differ, from 0 to 16",
    )
    # None, not False: an option that is not given is no part of a recipe's digest.
    features: bool | None = Field(
        default=None,
        description="true to compare descriptors of the reference as well, which see through "
        "shifts, grey levels and noise; or false",
    )
    max_feature_distance: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="a cosine distance from 0 to 1; left out, the one below which 0.5% of real "
        "images have another of their class",
    )


class DuplicateFilter:
    """The score is a hash of 256 bits, in hex: signs of random projections of the edges.

    The share of bits that differ is the angle between two images over pi, the images seen
    through a filter that passes outlines and drops grey level, contrast and pixel noise.
    Source: Charikar 2002, "Similarity estimation techniques from rounding algorithms", section 3.
    """

    name = "duplicate"
    options: type[FilterOptions] = DuplicateOptions

    def needs_reference(self, options: BaseModel) -> bool:
        assert isinstance(options, DuplicateOptions)
        return bool(options.features)

    def score(
        self, images: Images, class_names: Sequence[str], reference: Reference | None
    ) -> list[Score]:
        """With a reference: the hash, a colon, and the code of the image's descriptor in base64."""
        hashes = self._hashes(images)
        if reference is None:
            return list(hashes)
        codes = reference.duplicates.codes(images)
        return [f"{each}:{code_text(code)}" for each, code in zip(hashes, codes, strict=True)]

    def _hashes(self, images: Images) -> list[str]:
        num, height, width, channels = images.shape
        step = max(1, _CHUNK_VALUES // (height * width * channels))
        scores: list[str] = []
        for start in range(0, num, step):
            bits = _hash(block_means(images[start : start + step], max_side=MAX_CELLS))
            scores.extend(row.tobytes().hex() for row in np.packbits(bits, axis=1))
        return scores

    def judge(self, options: BaseModel, class_name: str, reference: Reference | None) -> ClassJudge:
        assert isinstance(options, DuplicateOptions)
        by_hash = DuplicateJudge(options.max_distance)
        if reference is None:
            return by_hash
        limit = options.max_feature_distance
        if limit is None:
            limit = reference.facts.duplicates.max_distance
        return FeatureDuplicateJudge(by_hash, CodeIndex(limit))


@dataclass(frozen=True)
class FeatureDuplicateJudge:
    """Refuses what is near an accepted image by its hash or by its code."""

    by_hash: DuplicateJudge
    by_code: CodeIndex

    def reject(self, score: Score) -> str | None:
        bits, _, code = str(score).partition(":")
        is_near = self.by_hash.reject(bits) or self.by_code.has_near(read_code(code))
        return "duplicate" if is_near else None

    def accept(self, score: Score) -> None:
        bits, _, code = str(score).partition(":")
        self.by_hash.accept(bits)
        self.by_code.add(read_code(code))


class DuplicateJudge:
    """Refuses a hash within max_distance bits of an accepted one. Exact.

    Two hashes that differ in at most d bits agree in at least one of d + 1 bands (pigeonhole), so
    only those that share a band are compared. Each band is a hash table in flat arrays: the
    newest item of each bucket, and for each item the next older one of its bucket. Where too many
    share a band (a model that makes one image over and over), all are compared at once instead.
    """

    def __init__(self, max_distance: int) -> None:
        num_bands = max_distance + 1
        edges = [NUM_BITS * i // num_bands for i in range(num_bands + 1)]
        self._max_distance = max_distance
        self._bands = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._hashes = bytearray()
        self._num_items = 0
        self._clear(bucket_bits=8)

    def reject(self, score: Score) -> str | None:
        return "duplicate" if self._has_near(bytes.fromhex(str(score))) else None

    def accept(self, score: Score) -> None:
        self._hashes += bytes.fromhex(str(score))
        self._num_items += 1
        if self._num_items > 2 << self._bucket_bits:
            self._clear(bucket_bits=self._bucket_bits + 1)
            for item in range(self._num_items):
                self._link(item)
        else:
            self._link(self._num_items - 1)

    def _has_near(self, packed: bytes) -> bool:
        # One step costs about 0.2 us, one item of a scan 5 ns.
        bits, num_steps = int.from_bytes(packed), 200 + self._num_items // 32
        for band, bucket in enumerate(self._buckets(bits)):
            older = self._older[band]
            item = self._newest[band][bucket]
            while item >= 0:
                if (self._hash_at(item) ^ bits).bit_count() <= self._max_distance:
                    return True
                item = older[item]
                num_steps -= 1
                if not num_steps:
                    return self._scan(packed)
        return False

    def _scan(self, packed: bytes) -> bool:
        hashes = np.frombuffer(self._hashes, np.uint64).reshape(-1, NUM_BITS // 64)
        bits = np.frombuffer(packed, np.uint64)
        for start in range(0, len(hashes), _SCANNED):
            counts = np.bitwise_count(hashes[start : start + _SCANNED] ^ bits).astype(np.uint16)
            distances = counts[:, 0] + counts[:, 1] + counts[:, 2] + counts[:, 3]
            if distances.min() <= self._max_distance:
                return True
        return False

    def _hash_at(self, item: int) -> int:
        return int.from_bytes(self._hashes[item * NUM_BYTES : (item + 1) * NUM_BYTES])

    def _clear(self, *, bucket_bits: int) -> None:
        self._bucket_bits = bucket_bits
        self._newest = [array("i", [-1]) * (1 << bucket_bits) for _ in self._bands]
        self._older = [array("i") for _ in self._bands]

    def _link(self, item: int) -> None:
        for band, bucket in enumerate(self._buckets(self._hash_at(item))):
            newest = self._newest[band]
            self._older[band].append(newest[bucket])
            newest[bucket] = item

    def _buckets(self, bits: int) -> list[int]:
        """The bucket in each band. Source: Knuth, TAOCP 3, section 6.4, multiplicative hashing.

        The bits of like images are alike; taken as they are they would share few buckets.
        """
        shift = 64 - self._bucket_bits
        return [
            ((bits >> low & mask) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> shift
            for low, mask in self._bands
        ]


def _hash(cells: Images) -> NDArray[np.bool_]:
    """(N, H', W', C) uint8 => (N, 256).

    32 x 32 x 3 cells times their weights sum to less than 2^24, so every float32 sum is exact:
    the bits depend neither on the neighbours in the batch nor on the machine.
    """
    num, height, width, channels = cells.shape
    weights = projection_weights(height, width, channels)  # (groups, cells, columns)
    num_groups, num_cells, num_columns = weights.shape
    num_rows = _ONE_THREAD // (num_cells * num_columns)
    blocks = np.zeros((-(-num // num_rows), num_rows, num_cells), np.float32)
    blocks.reshape(-1, num_cells)[:num] = cells.reshape(num, num_cells)
    projected = blocks[:, None] @ weights  # (blocks, groups, rows, columns)
    bits: NDArray[np.bool_] = projected.transpose(0, 2, 1, 3) > 0
    return bits.reshape(-1, num_groups * num_columns)[:num]


@lru_cache(maxsize=4)
def projection_weights(height: int, width: int, channels: int) -> NDArray[np.float32]:
    """(groups, H' W' C, columns) whole numbers: random signs, smoothed, then their Laplacian.

    The smoothing keeps pixel noise out. The Laplacian, mirrored at the border, makes each column
    sum to 0 in each channel: an even image, or an even change of one, changes nothing.
    """
    num_signs = height * width * channels * NUM_BITS
    stream = hashlib.shake_256(b"datagen duplicate 1").digest(num_signs // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).astype(np.int64) * 2 - 1
    field = signs.reshape(height, width, channels * NUM_BITS)
    for axis in (0, 1):
        field = 2 * field + _neighbours(field, axis=axis)
    laplacian = 4 * field - _neighbours(field, axis=0) - _neighbours(field, axis=1)
    columns = laplacian.reshape(-1, NUM_BITS // _NUM_COLUMNS, _NUM_COLUMNS).transpose(1, 0, 2)
    return np.ascontiguousarray(columns, np.float32)


def _neighbours(field: NDArray[np.int64], *, axis: int) -> NDArray[np.int64]:
    """The sum of the two neighbours along an axis; beyond the border, the border itself."""
    last = field.shape[axis] - 1
    places = np.arange(last + 1)
    before, after = np.maximum(places - 1, 0), np.minimum(places + 1, last)
    total: NDArray[np.int64] = field.take(before, axis=axis) + field.take(after, axis=axis)
    return total
