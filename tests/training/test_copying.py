from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.training.copying import CHANCE, CopyWatch

Images = dict[int, NDArray[np.uint8]]


def smooth(num: int, *, seed: int) -> NDArray[np.uint8]:
    """(num, 20, 20, 3): pictures of a few slow waves, as unlike as real ones."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:20, 0:20] / 20
    waves = np.zeros((num, 20, 20, 3))
    for fy, fx in [(0, 1), (1, 0), (1, 1), (2, 1), (1, 2)]:
        phase = rng.uniform(0, 2 * np.pi, (num, 1, 1, 3))
        height = rng.normal(size=(num, 1, 1, 3))
        waves += height * np.cos(2 * np.pi * (fy * y + fx * x)[None, :, :, None] + phase)
    return np.clip(128 + 40 * waves, 0, 255).astype(np.uint8)


@pytest.fixture
def train() -> Images:
    return {0: smooth(300, seed=1), 1: smooth(300, seed=2)}


@pytest.fixture
def watch(train: Images) -> CopyWatch:
    return CopyWatch(train, {0: smooth(200, seed=3), 1: smooth(200, seed=4)})


def test_unseen_images_single_out_none(watch: CopyWatch) -> None:
    share = watch.share({0: smooth(400, seed=5), 1: smooth(400, seed=6)})
    assert share is not None
    assert share == pytest.approx(CHANCE, abs=0.04)


@pytest.mark.parametrize("noise", [0, 12])
def test_copies_single_out_theirs(watch: CopyWatch, train: Images, noise: int) -> None:
    rng = np.random.default_rng(7)
    samples = {}
    for class_id, images in train.items():
        noisy = images[:100] + rng.normal(0, noise, (100, *images.shape[1:])) if noise else images
        samples[class_id] = np.clip(noisy, 0, 255).astype(np.uint8)
    share = watch.share(samples)
    assert share is not None
    assert share > 0.95


def test_faded_images_are_no_copies(watch: CopyWatch, train: Images) -> None:
    """Near to the class's mean, they are nearer to all training images than real ones are."""
    samples = {}
    for class_id, images in train.items():
        mean, unseen = images.mean(0), smooth(200, seed=8 + class_id)
        samples[class_id] = (0.6 * unseen + 0.4 * mean).astype(np.uint8)
    share = watch.share(samples)
    assert share is not None
    assert share < 0.1


def test_classes_of_a_handful_are_not_watched() -> None:
    few = {0: smooth(8, seed=1)}
    assert CopyWatch(few, {0: smooth(8, seed=2)}).share({0: smooth(8, seed=3)}) is None
