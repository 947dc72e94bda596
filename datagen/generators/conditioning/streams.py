"""The random stream of a condition: beside that of the image of the same seed."""

from __future__ import annotations

import numpy as np

_CONDITIONS = 1 << 64  # the second word of Philox's key; an image's stream has 0 there


def condition_rng(seed: int) -> np.random.Generator:
    """What it draws is independent of generators/seeded.py's stream of the same seed."""
    return np.random.Generator(np.random.Philox(key=seed + _CONDITIONS))
