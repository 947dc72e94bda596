"""Three classes of tiny pictures that a classifier tells apart after some dozens of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from datagen.evaluation.utility.arms import Effort
from datagen.evaluation.utility.training import Examples
from datagen.image_set import ImageSet

NAMES = ("bar", "cross", "dot")

EFFORT = Effort(
    num_seeds=2,
    num_steps=60,
    num_tuning_seeds=1,
    policies=("none", "shift"),
    max_real=120,
    max_test=300,
    few_shot=(10,),
    num_subsets=2,
    few_steps=30,
    curve_steps=0,
    max_pool=240,
    num_sizes=4,
    num_repeats=3,
    width=4,
)


def toy_examples(num: int, *, seed: int, noise: float = 25.0) -> Examples:
    """(num, 12, 12, 1): a shape at a random place in noise."""
    rng = np.random.default_rng(seed)
    class_ids = np.arange(num) % 3
    images = rng.normal(90, noise, (num, 12, 12, 1))
    for image, class_id in zip(images, class_ids, strict=True):
        y, x = rng.integers(2, 9, 2)
        image[y, max(0, x - 2) : x + 3] += 110 if class_id < 2 else 0
        image[max(0, y - 2) : y + 3, x] += 110 if class_id == 1 else 0
        image[y - 1 : y + 2, x - 1 : x + 2] += 90 if class_id == 2 else 0
    return Examples(np.clip(images, 0, 255).astype(np.uint8), class_ids)


def toy_set(num: int, *, seed: int, prefix: str = "image", noise: float = 25.0) -> ImageSet:
    toys = toy_examples(num, seed=seed, noise=noise)
    names = tuple(f"{prefix}-{i}" for i in range(num))
    return ImageSet(toys.images, toys.class_ids, NAMES, names)


def shuffled(images: ImageSet, *, seed: int) -> ImageSet:
    rng = np.random.default_rng(seed)
    return replace(images, class_ids=rng.permutation(images.class_ids))
