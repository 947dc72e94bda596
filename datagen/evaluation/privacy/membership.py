"""Membership inference: can an attacker tell who was trained on? Called by measure.py.

The black-box attack of GAN-Leaks (Chen et al. 2020, arXiv 1909.03935, sections 4.2 and 4.5): a
real image that is close to some synthetic image is called a member; calibrated by how close it is
to images of a reference set that no model saw, since common images are close to everything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datagen.evaluation.measure import Measure
from datagen.references.copy_index import FeatureIndex

Scores = NDArray[np.float64]
FPR = 0.01
MIN_NON_MEMBERS = 200  # below, 1% of them is less than two images
NUM_RESAMPLES = 500


def attack_scores(
    real: NDArray[np.float32], synthetic: NDArray[np.float32], reference: NDArray[np.float32]
) -> Scores:
    """Descriptors of length 1. Larger is more likely a member."""
    near, _ = FeatureIndex.build(synthetic).nearest(real)
    usual, _ = FeatureIndex.build(reference).nearest(real)
    return near.astype(np.float64) - usual


def membership(members: Scores, non_members: Scores, *, seed: int) -> Measure:
    """TPR at 1% FPR: 0.01 is chance (Carlini et al. 2022, arXiv 2112.03570, section 4). The
    interval is of the bootstrap over both groups."""
    num = min(len(members), len(non_members))
    if num < MIN_NON_MEMBERS:
        return Measure.absent(
            f"{num} held-out real images to attack: a rate at 1% false positives needs"
            f" {MIN_NON_MEMBERS}",
            n=num,
        )
    rng = np.random.default_rng(seed)
    rates = []
    for _ in range(NUM_RESAMPLES):
        some = rng.choice(members, len(members))
        rates.append(_tpr(some, rng.choice(non_members, len(non_members))))
    low, high = np.quantile(rates, [0.025, 0.975])
    value = _tpr(members, non_members)
    return Measure(value, num, float(min(low, value)), float(max(high, value)), floor=FPR)


def _tpr(members: Scores, non_members: Scores) -> float:
    threshold = np.quantile(non_members, 1 - FPR, method="higher")
    return float((members > threshold).mean())
