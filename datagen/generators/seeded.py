"""Per-sample randomness and the range conversion that every family shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def seeded_rng(seed: int) -> np.random.Generator:
    """One counter-based generator per sample.

    Philox takes the whole 63-bit seed as its key. torch.Generator on the CPU keeps only 32 bits
    of a seed, so that a million samples would hold about a hundred pairs of equal images.
    """
    return np.random.Generator(np.random.Philox(key=seed))


def seeded_normal(seeds: Sequence[int], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns (N, *shape) float32 standard normal draws, row i from seeds[i] alone."""
    out = np.empty((len(seeds), *shape), dtype=np.float32)
    for row, seed in zip(out, seeds, strict=True):
        seeded_rng(seed).standard_normal(dtype=np.float32, out=row)
    return out
