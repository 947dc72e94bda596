from __future__ import annotations

import numpy as np
import torch

from datagen.training.sampling import RowSampler


def drawn(class_ids: list[int], *, balanced: bool, num: int = 4000) -> list[int]:
    sampler = RowSampler(np.array(class_ids), balanced=balanced)
    return list(sampler.draw(num, torch.Generator().manual_seed(0)))


def test_without_balance_every_image_is_drawn_as_often() -> None:
    counts = np.bincount(drawn([0] * 9 + [1], balanced=False), minlength=10)
    assert counts.min() > 300


def test_balanced_every_class_is_drawn_as_often_and_every_image_of_it() -> None:
    """Class 1 has no image, and class 2 lies between those of class 0."""
    class_ids = [0, 0, 2, 0, 0, 3, 0, 0, 0, 0]
    counts = np.bincount(drawn(class_ids, balanced=True), minlength=10)
    assert abs(counts[2] - 1333) < 150
    assert abs(counts[5] - 1333) < 150
    of_first = np.delete(counts, [2, 5])
    assert 120 < of_first.min() <= of_first.max() < 220
