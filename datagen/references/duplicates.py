"""What two shots of one thing have in common: the descriptor behind `duplicate` with features.

Learned as the copy search learns its own (copy_descriptor.py), against small moves, noise and grey
levels. Fitted by fit.py; read through reference.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.references.codes import Codes, encode

if TYPE_CHECKING:
    from datagen.references.copy_descriptor import Descriptor

BATCH_SIZE = 64
NUM_DIMS = 64
_MAX_IMAGES = 20_000  # learned from
_BLOCK = 500


@dataclass(frozen=True)
class DuplicateDescriptor:
    """mean: (F,). projection: (F, NUM_DIMS)."""

    mean: NDArray[np.float32]
    projection: NDArray[np.float16]

    def checked(self) -> DuplicateDescriptor:
        """Raises ModelError if the shapes do not fit each other."""
        if self.projection.shape != (self.mean.size, NUM_DIMS) or self.mean.ndim != 1:
            raise ModelError(
                f"reference: a descriptor of {self.mean.shape} and {self.projection.shape}; fit "
                "the reference again"
            )
        return self

    def tensors(self) -> dict[str, NDArray[Any]]:
        """As they are stored."""
        return {"mean": self.mean, "projection": self.projection}

    def codes(self, images: NDArray[np.uint8]) -> Codes:
        """images: (N, H, W, C) uint8. Returns (N, NUM_DIMS), at one padded batch shape."""
        import torch

        from datagen.references.copy_descriptor import extract_features
        from datagen.references.copy_views import to_luminance, working_size

        size = working_size(*images.shape[1:3])
        found = np.empty((len(images), NUM_DIMS), np.int8)
        with torch.inference_mode():
            for start in range(0, len(images), BATCH_SIZE):
                part = images[start : start + BATCH_SIZE]
                padding = [(0, BATCH_SIZE - len(part)), (0, 0), (0, 0), (0, 0)]
                features = extract_features(to_luminance(np.pad(part, padding), size))
                described = self._descriptor.describe(features).numpy()
                found[start : start + len(part)] = encode(described)[: len(part)]
        return found

    @cached_property
    def _descriptor(self) -> Descriptor:
        import torch

        from datagen.references.copy_descriptor import Descriptor

        return Descriptor(
            torch.from_numpy(self.mean.copy()),
            torch.from_numpy(self.projection.astype(np.float32)),
        )


def learn_duplicates(images: NDArray[np.uint8], *, seed: int) -> DuplicateDescriptor:
    """images: (N, H, W, C) uint8, real ones."""
    import torch

    from datagen.references.copy_descriptor import extract_features, learn_descriptor
    from datagen.references.copy_views import Strength, to_luminance, working_size

    rows = np.random.default_rng(seed).permutation(len(images))[:_MAX_IMAGES]
    seen = to_luminance(images[np.sort(rows)], working_size(*images.shape[1:3]))
    features = torch.cat([extract_features(part) for part in seen.split(_BLOCK)])
    strength = Strength(
        rotation=8, crop=0.92, shift=0.05, blend=0.1, noise=0.06, blend_probability=0.1
    )
    generator = torch.Generator().manual_seed(seed)
    learned = learn_descriptor(seen, features, strength, dim=NUM_DIMS, generator=generator)
    return DuplicateDescriptor(
        learned.mean.numpy().astype(np.float32), learned.projection.numpy().astype(np.float16)
    )
