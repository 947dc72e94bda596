"""What turns images into features: the interface, and extraction in batches with a cache.

Called by evaluation and references; the extractors are in the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.features.cache import FeatureCache
from datagen.features.classifier import EMBEDDING_DIM, Classifier

Images = NDArray[np.uint8]  # (N, H, W, C), C is 1 or 3
FeatureRows = NDArray[np.float32]  # (N, dim)

_PIXELS_IN_BATCH = 2**21  # inputs and hidden layers of one batch stay in tens of megabytes


class FeatureExtractor(Protocol):
    """name: for people. digest: of weights and preprocessing: equal digests, equal features."""

    @property
    def name(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def extract(self, images: Images) -> FeatureRows:
        """images: one batch, (N, H, W, C) uint8. Returns (N, dim) float32."""
        ...


class ClassifierFeatures:
    """The hidden layer of a classifier that was trained on the reference set."""

    name = "small classifier of the reference"
    dim = EMBEDDING_DIM

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.digest = classifier.digest()

    def extract(self, images: Images) -> FeatureRows:
        return self.classifier.embed(images)


def compute_features(
    extractor: FeatureExtractor,
    images: Images,
    *,
    names: Sequence[str] | None = None,
    cache: FeatureCache | None = None,
    check_abort: Callable[[], None] = lambda: None,
) -> FeatureRows:
    """Batch by batch; what the cache holds is not extracted again. names: of images, for errors.

    Raises InputError naming extractor and first image if a feature is not a finite number.
    """
    features = np.empty((len(images), extractor.dim), np.float32)
    batch_size = max(1, min(500, _PIXELS_IN_BATCH // max(1, int(np.prod(images.shape[1:3])))))
    for first in range(0, len(images), batch_size):
        check_abort()
        batch = images[first : first + batch_size]
        rows = features[first : first + batch_size]
        if cache is None:
            rows[:] = extractor.extract(batch)
        else:
            cache.fill(rows, batch, key=extractor.digest, extract=extractor.extract)
        broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(broken):
            position = first + int(broken[0])
            name = repr(names[position]) if names else f"number {position + 1}"
            raise InputError(
                f"features {extractor.name}: image {name} gives a feature that is not a finite "
                "number; expected finite ones: check the extractor's weights and its input range"
            )
    return features


def resize_for_network(images: Images, size_px: int) -> torch.Tensor:
    """(N, H, W, C) uint8 => (N, 3, size_px, size_px) float32 in [0, 255], grey repeated.

    Bicubic and antialiased, as Pillow does it: other filters change features (Parmar et al. 2022,
    arXiv 2104.11222).
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32)).permute(0, 3, 1, 2)
    if pixels.shape[-2:] != (size_px, size_px):
        pixels = torch.nn.functional.interpolate(
            pixels, (size_px, size_px), mode="bicubic", antialias=True, align_corners=False
        ).clamp_(0, 255)
    return pixels.expand(-1, 3, -1, -1)
