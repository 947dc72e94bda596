"""Positive controls: copies planted by the evaluation itself must be found. Called by measure.py
and benchmarks/planted_copies.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.privacy.disguises import DISGUISES
from datagen.evaluation.results import Control
from datagen.references.copy_detector import CopyDetector

MIN_RECALL = 0.8  # over all disguises: below, the check is blind


@dataclass(frozen=True)
class Planted:
    """rows: (N,) int64 of the originals. images: (N, H, W, C) uint8, their disguised copies."""

    disguise: str
    rows: NDArray[np.int64]
    images: NDArray[np.uint8]


def plant(
    train: NDArray[np.uint8], others: NDArray[np.uint8], *, num: int, seed: int
) -> tuple[Planted, ...]:
    """num copies under each disguise. others: what copies are blended with."""
    planted = []
    for number, (name, disguise) in enumerate(DISGUISES.items()):
        rng = np.random.default_rng([seed, number])
        rows = rng.choice(len(train), min(num, len(train)), replace=False).astype(np.int64)
        partners = others[rng.integers(len(others), size=len(rows))]
        copies = [
            disguise(train[row], partner, rng) for row, partner in zip(rows, partners, strict=True)
        ]
        planted.append(Planted(name, rows, np.stack(copies)))
    return tuple(planted)


def find_planted(
    planted: tuple[Planted, ...],
    train: NDArray[np.uint8],
    detector: CopyDetector,
    *,
    threshold: float,
    check_abort: Callable[[], None],
) -> tuple[Control, ...]:
    """Found is what scores above the threshold and is named with its original, or with another
    training image of the same pixels."""
    controls = []
    for each in planted:
        found = detector.search(each.images, check_abort=check_abort)
        named = (train[found.original] == train[each.rows]).all(axis=(1, 2, 3))
        recall = float((named & (found.score > threshold)).mean())
        controls.append(Control(each.disguise, len(each.rows), recall))
    return tuple(controls)


def is_blind(controls: tuple[Control, ...]) -> bool:
    return float(np.mean([control.recall for control in controls])) < MIN_RECALL
