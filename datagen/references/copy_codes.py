"""Originals in about 100 bytes each, and the check of what was stored. Called by copy_detector.py.

Principal components of the thumbnails (Turk and Pentland 1991, eigenfaces), one byte per component:
search and registration run on the images that these describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.references.copy_candidates import DIMS
from datagen.references.copy_descriptor import NUM_FEATURES
from datagen.references.copy_verifier import shapes
from datagen.references.copy_views import MAX_SIZE, MIN_SIZE

NUM_CODES = 96
MAX_ORIGINALS = 5_000_000
LOOKS = ("wide", "narrow", "still")
LARGEST_CODE = 127
BLOCK = 5_000


@dataclass(frozen=True)
class Codes:
    """values: (N, D) int8. scale: (D,) float32. basis: (D, S * S) float16. mean: (S * S,)."""

    values: torch.Tensor
    scale: torch.Tensor
    basis: torch.Tensor
    mean: torch.Tensor

    def decode(self) -> torch.Tensor:
        """(N, 1, S, S) float16 in [0, 1]."""
        size = round(self.mean.numel() ** 0.5)
        scaled = self.basis.float() * self.scale.view(-1, 1)
        parts = [
            (some.float() @ scaled + self.mean.float()).clamp(0, 1).half()
            for some in self.values.split(BLOCK)
        ]
        return torch.cat(parts).view(-1, 1, size, size)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {
            "codes.values": self.values,
            "codes.scale": self.scale,
            "codes.basis": self.basis,
            "codes.mean": self.mean,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Codes:
        names = ("values", "scale", "basis", "mean")
        return cls(*(tensors[f"codes.{name}"] for name in names))


def encode(thumbnails: torch.Tensor) -> Codes:
    """thumbnails: (N, 1, S, S) float16."""
    num, width = len(thumbnails), thumbnails[0].numel()
    flat = thumbnails.view(num, width)
    mean = torch.stack([some.double().sum(0) for some in flat.split(BLOCK)]).sum(0) / num
    mean = mean.half().float()
    covariance = torch.zeros(width, width, dtype=torch.float64)
    for some in flat.split(BLOCK):
        centred = some.float() - mean
        covariance += (centred.T @ centred).double()
    _, vectors = torch.linalg.eigh(covariance)
    basis = vectors[:, -min(NUM_CODES, width) :].T.half()
    plain = [(some.float() - mean) @ basis.float().T for some in flat.split(BLOCK)]
    scale = torch.stack([each.abs().amax(0) for each in plain]).amax(0).clamp(min=1e-6)
    scale = scale / LARGEST_CODE
    values = torch.cat([(each / scale).round().to(torch.int8) for each in plain])
    return Codes(values, scale, basis.contiguous(), mean.half())


def checked_tensors(state: Mapping[str, NDArray[np.generic]]) -> dict[str, torch.Tensor]:
    """Raises ModelError unless every array is there with its type, shape and finite numbers."""
    values = state.get("codes.values")
    mean = state.get("codes.mean")
    if values is None or values.ndim != 2 or mean is None or mean.ndim != 1:
        raise ModelError(
            "copy detector: codes.values or codes.mean is missing or has a wrong shape"
        )
    size = round(mean.size**0.5)
    if size * size != mean.size or size % 14 or not MIN_SIZE <= size <= MAX_SIZE:
        raise ModelError(
            f"copy detector: codes.mean has {mean.size} values, expected a square size"
        )
    if not 1 <= len(values) <= MAX_ORIGINALS:
        raise ModelError(f"copy detector: {len(values)} originals, at most {MAX_ORIGINALS}")
    tensors = {}
    for name, (dtype, shape) in _expected(len(values), values.shape[1], mean.size).items():
        array = state.get(name)
        if array is None or (str(array.dtype), array.shape) != (dtype, shape):
            found = "missing" if array is None else f"{array.dtype} {array.shape}"
            raise ModelError(f"copy detector: {name} is {found}, expected {dtype} {shape}")
        if name != "settings" and not np.isfinite(array.astype(np.float32)).all():
            raise ModelError(f"copy detector: {name} holds values that are not finite")
        tensors[name] = torch.from_numpy(np.array(array, copy=True))
    return tensors


def _expected(num: int, dim: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    looks = dict(zip(LOOKS, DIMS, strict=True))
    return {
        "codes.values": ("int8", (num, dim)),
        "codes.scale": ("float32", (dim,)),
        "codes.basis": ("float16", (dim, width)),
        "codes.mean": ("float16", (width,)),
        "settings": ("float64", (2,)),
        **{name: ("float32", shape) for name, shape in shapes().items()},
        **{f"{name}.mean": ("float16", (NUM_FEATURES,)) for name in LOOKS},
        **{f"{name}.projection": ("float16", (NUM_FEATURES, looks[name])) for name in LOOKS},
    }
