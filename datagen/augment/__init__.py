"""Augmentation: albumentations 2.0.8 behind an allowlist with bounds, seeded per sample.

resolve.py calls check_augmentations, which imports nothing heavy; the pack stage applies an
Augmenter. docs/augmentations.md lists the transforms and says why they are the ones.
"""

from __future__ import annotations

from datagen.augment.augmenter import AppliedTransform, Augmented, Augmenter
from datagen.augment.check import check_augmentations
from datagen.augment.transforms import REFUSED, TRANSFORMS

__all__ = [
    "REFUSED",
    "TRANSFORMS",
    "AppliedTransform",
    "Augmented",
    "Augmenter",
    "check_augmentations",
]
