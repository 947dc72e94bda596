"""Small real images of three drawn classes, and a reference fitted to them once, in seconds."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.image_set import ImageSet
from datagen.references.fit import fit_reference
from datagen.references.reference import Reference, load_reference, save_reference

CLASS_NAMES = ("disc", "ring", "bar")
SIDE_PX = 16


def drawn(num: int, *, seed: int) -> ImageSet:
    """num of each class: a disc, a ring or a bar of changing size, place, grey and noise."""
    rng = np.random.default_rng(seed)
    images = [_draw(name, rng) for name in CLASS_NAMES for _ in range(num)]
    class_ids = np.arange(len(CLASS_NAMES)).repeat(num)
    names = tuple(f"{seed}-{row:04d}" for row in range(len(images)))
    return ImageSet(np.stack(images), class_ids, CLASS_NAMES, names)


@lru_cache
def tiny_reference() -> Reference:
    return _fitted_once(
        "tiny",
        lambda: fit_reference(drawn(50, seed=1), drawn(60, seed=2), seed=3, licence="MIT"),
    )


@lru_cache
def other_reference() -> Reference:
    """Fitted to few other images."""
    return _fitted_once(
        "other", lambda: fit_reference(drawn(20, seed=1), drawn(12, seed=2), seed=9)
    )


def _fitted_once(name: str, fit: Callable[[], Reference]) -> Reference:
    """By one of the processes of a test run; the others wait for it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return fit()
    path = Path(tempfile.gettempdir(), f"datagen-{run}-{name}.safetensors")
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            save_reference(fit(), path)
    return load_reference(path)


def _draw(name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] - (SIDE_PX - 1) / 2
    y, x = y - rng.uniform(-2, 2), x - rng.uniform(-2, 2)
    radius, distance = rng.uniform(3, 5.5), np.hypot(y, x)
    shape = {
        "disc": distance < radius,
        "ring": abs(distance - radius) < 1.2,
        "bar": (abs(y) < 1.5) & (abs(x) < radius + 1),
    }[name]
    levels = rng.uniform(120, 230) * shape + rng.normal(20, 6, shape.shape)
    return np.clip(levels, 0, 255).astype(np.uint8)[..., None]
