"""Folders of small pictures for the tests of what evaluation reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datagen.image_set import ImageSet


def write_folder(
    root: Path, counts: Mapping[str, int], *, size: tuple[int, int] = (8, 8), seed: int = 0
) -> Path:
    """counts: class -> pictures. size: (height, width). All pictures differ."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:03d}.png")
    return root


def image_set(
    num_per_class: int,
    *,
    class_names: tuple[str, ...] = ("cat", "dog"),
    shape: tuple[int, int, int] = (8, 8, 1),
    seed: int = 0,
    prefix: str = "",
    groups: tuple[str, ...] | None = None,
) -> ImageSet:
    """Random pixels, the classes in turn."""
    num = num_per_class * len(class_names)
    images: NDArray[np.uint8] = np.random.default_rng(seed).integers(
        0, 256, (num, *shape), dtype=np.uint8
    )
    return ImageSet(
        images=images,
        class_ids=np.arange(num) % len(class_names),
        class_names=class_names,
        names=tuple(f"{prefix}{i}" for i in range(num)),
        groups=groups,
    )
