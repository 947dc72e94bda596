"""Pictures that a small network tells apart in no time: stripes across, stripes down. No tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASS_NAMES = ("across", "down")


def stripes(num: int, class_id: int, *, seed: int, size: int = 12) -> NDArray[np.uint8]:
    """(num, size, size, 1): stripes of random place, width and strength, in noise."""
    rng = np.random.default_rng((seed, class_id))
    places = np.arange(size)
    images = []
    for _ in range(num):
        wave = np.sin(places * rng.uniform(1.2, 2.4) + rng.uniform(0, 6.3))
        field = np.tile(wave, (size, 1)) * rng.uniform(30, 60)
        field = field if class_id else field.T
        images.append(128 + field + rng.normal(0, 20, (size, size)))
    return np.clip(np.stack(images), 0, 255).astype(np.uint8)[..., None]


def write_stripes(root: Path, num_per_class: int, *, seed: int, shuffled: bool = False) -> Path:
    """One folder a class. shuffled: labels that mean nothing."""
    rng = np.random.default_rng(seed)
    for name in CLASS_NAMES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for class_id in range(len(CLASS_NAMES)):
        for i, image in enumerate(stripes(num_per_class, class_id, seed=seed)):
            told = int(rng.integers(2)) if shuffled else class_id
            path = root / CLASS_NAMES[told] / f"{class_id}-{i:04d}.png"
            Image.fromarray(image[..., 0]).save(path)
    return root
