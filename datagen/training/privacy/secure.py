"""Noise and Poisson samples from the operating system's cryptographic source.

Called by whatever adds noise or samples for privacy. Whoever can predict the noise can subtract it:
the recipe's seed, which is in the model's card, never reaches this file, and nothing here repeats.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray

# Sums of four draws: single ones leak through the gaps between floating-point numbers (Mironov
# 2012); with four an attacker must guess far more of them (Holohan & Braghin 2021,
# arXiv 2107.10138, section 4.2). The arithmetic is float64, rounded to float32 at the end.
_DRAWS = 4


def secure_normal(shape: tuple[int, ...], *, std: float) -> torch.Tensor:
    """float32, independent normal values of the given standard deviation."""
    num = int(np.prod(shape))
    total = np.zeros(num)
    for _ in range(_DRAWS):
        total += _normals(num)
    return torch.from_numpy((total * (std / _DRAWS**0.5)).astype(np.float32)).reshape(shape)


def poisson_mask(num: int, *, rate: float) -> NDArray[np.bool_]:
    """(num,) bool: each true with probability `rate`, independently of all others."""
    return _uniforms(num) <= rate


def _normals(num: int) -> NDArray[np.float64]:
    """Box & Muller 1958."""
    half = -(-num // 2)
    radius = np.sqrt(-2 * np.log(_uniforms(half)))
    angle = 2 * np.pi * _uniforms(half)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:num]


def _uniforms(num: int) -> NDArray[np.float64]:
    """In (0, 1], of 53 bits."""
    bits = np.frombuffer(os.urandom(8 * num), np.uint64) >> np.uint64(11)
    return (bits + np.uint64(1)).astype(np.float64) / 2.0**53
