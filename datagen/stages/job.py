"""What the stages of one job share: the pinned job, its recipe and plan, and caches.

One JobWork per worker process and job. Called by engine.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from datagen.augment import Augmenter
from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import Job
from datagen.errors import StoreError
from datagen.filters import FILTERS
from datagen.generators.interface import Sampler
from datagen.plan import Plan
from datagen.recipe import canonical_json
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings
from datagen.store import Store
from datagen.versions import version_prefix

# Objects up to this size are kept whole for the shards that follow; larger ones are read by range.
_WHOLE_OBJECT_BYTES = 8 * 2**20
_CACHE_BYTES = 64 * 2**20


@dataclass
class JobWork:
    """Everything is loaded on first use: a worker that only packs never imports torch."""

    job: Job
    resolved: ResolvedRecipe
    plan: Plan
    catalog: Catalog
    store: Store
    settings: Settings
    load_sampler: Callable[[], Sampler]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (*self.resolved.config.image_size, self.resolved.config.channels)

    @property
    def image_bytes(self) -> int:
        height, width, channels = self.image_shape
        return height * width * channels

    @property
    def prefix(self) -> str:
        return version_prefix(self.settings.tenant, self.job.name, self.job.version)

    @cached_property
    def attributes_json(self) -> tuple[str, ...]:
        """Canonical JSON of each class's attributes."""
        classes = self.resolved.recipe.classes
        return tuple(canonical_json(c.attributes).decode() for c in classes)

    @cached_property
    def sampler(self) -> Sampler:
        return self.load_sampler()

    @cached_property
    def augmenter(self) -> Augmenter:
        size, channels = self.resolved.config.image_size, self.resolved.config.channels
        return Augmenter(self.resolved.recipe.augmentations, image_size=size, channels=channels)

    @cached_property
    def raw_images(self) -> RawImages:
        return RawImages(self.store, self.image_shape)

    def score(self, images: NDArray[np.uint8]) -> list[str]:
        """Every filter of the recipe scores every attempt; JSON per image."""
        return score_images(images, tuple(self.resolved.filters))


def score_images(images: NDArray[np.uint8], filter_names: tuple[str, ...]) -> list[str]:
    """images: (N, H, W, C). Returns N JSON objects, filter -> score."""
    if not filter_names or len(images) == 0:
        return ["{}"] * len(images)
    columns = [FILTERS[name].score(images) for name in filter_names]
    return [
        json.dumps(dict(zip(filter_names, row, strict=True))) for row in zip(*columns, strict=True)
    ]


class RawImages:
    """Raw images out of attempt objects: (N, H, W, C) uint8 in C order, without a header."""

    def __init__(self, store: Store, image_shape: tuple[int, int, int]) -> None:
        self._store = store
        self._shape = image_shape
        self._bytes = int(np.prod(image_shape))
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached_bytes = 0
        self._large: set[str] = set()

    def get(self, object_key: str, position: int) -> NDArray[np.uint8]:
        """(H, W, C). Raises StoreError if the object is too short."""
        start = position * self._bytes
        data = self._whole(object_key)
        if data is None:
            piece = self._store.get_range(object_key, start, self._bytes)
        else:
            piece = data[start : start + self._bytes]
        if len(piece) != self._bytes:
            raise StoreError(
                f"object {object_key} holds no image {position}: it was changed after it was "
                "written; delete it and its rows, then run the recipe again"
            )
        return np.frombuffer(piece, np.uint8).reshape(self._shape)

    def _whole(self, key: str) -> bytes | None:
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        if key in self._large:
            return None
        size = self._store.size(key)
        if size is not None and size > _WHOLE_OBJECT_BYTES:
            self._large.add(key)
            return None
        data = self._store.get(key)
        self._cache[key] = data
        self._cached_bytes += len(data)
        while self._cached_bytes > _CACHE_BYTES:
            self._cached_bytes -= len(self._cache.popitem(last=False)[1])
        return data
