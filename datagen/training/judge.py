"""Which weights are best: a distance between samples and held-out real images.

Called by training/loop.py while training, and by training/session.py for the card.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.features import embed, kernel_distance, train_classifier
from datagen.generators.interface import ModelConfig, Sampler
from datagen.training.dataset import RealImages

NUM_PER_CLASS = 200
_NUM_CLASSIFIER_IMAGES = 20_000
_NUM_CLASSIFIER_EPOCHS = 4


class HeldOutJudge:
    """Mean over classes of KID between samples and held-out images, on features of a small
    classifier trained on the training part."""

    def __init__(
        self, train_part: RealImages, held_out: RealImages, *, config: ModelConfig, seed: int
    ) -> None:
        """Raises InputError if no class has two held-out images."""
        num_per_class = np.bincount(held_out.class_ids, minlength=len(config.class_names))
        self.class_ids = [c for c, num in enumerate(num_per_class) if num > 1]
        if not self.class_ids:
            raise InputError(
                f"data.held_out: {len(held_out)} images hold no class twice; expected several "
                "images of each class: raise it"
            )
        self.network = train_classifier(
            train_part.images[:_NUM_CLASSIFIER_IMAGES],
            train_part.class_ids[:_NUM_CLASSIFIER_IMAGES],
            num_classes=len(config.class_names),
            num_epochs=_NUM_CLASSIFIER_EPOCHS,
            seed=seed,
        )
        features = embed(self.network, held_out.images)
        self.features = {c: features[held_out.class_ids == c] for c in self.class_ids}

    def distance(self, sampler: Sampler) -> float:
        """Lower is better; about `floor` for samples as good as real images."""
        return float(np.mean([self._class_distance(sampler, c) for c in self.class_ids]))

    def floor(self) -> float | None:
        """The same between two halves of the held-out part; None if a half would hold one image."""
        halves = [(f[0::2], f[1::2]) for f in self.features.values() if len(f) > 3]
        if not halves:
            return None
        return float(np.mean([kernel_distance(a, b) for a, b in halves]))

    def _class_distance(self, sampler: Sampler, class_id: int) -> float:
        samples = embed(self.network, sample_class(sampler, class_id, NUM_PER_CLASS))
        return kernel_distance(samples, self.features[class_id])


def sample_class(sampler: Sampler, class_id: int, num: int) -> NDArray[np.uint8]:
    """Returns (num, H, W, C) uint8, of the seeds 0 to num - 1."""
    parts = []
    for first in range(0, num, sampler.batch_size):
        seeds = list(range(first, min(first + sampler.batch_size, num)))
        parts.append(sampler.sample(seeds, [class_id] * len(seeds)))
    return np.concatenate(parts)
