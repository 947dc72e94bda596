"""Which weights are best: a distance between samples and held-out real images; and two watches,
on copies of training images and on the loss of variety.

Called by training/loop.py while training, and by training/session.py for the card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.features import embed, kernel_distance, train_classifier
from datagen.generators.interface import ModelConfig, Sampler
from datagen.training.copying import CopyWatch
from datagen.training.dataset import RealImages
from datagen.training.diversity import Diversity, watch

MAX_PER_CLASS, _MIN_PER_CLASS, _PER_HELD_OUT = 200, 20, 4
NUM_SHOWN = 10
_NUM_CLASSIFIER_IMAGES = 20_000
_NUM_CLASSIFIER_EPOCHS = 4


@dataclass(frozen=True)
class Judgement:
    """kid: mean over classes, lower is better; of num_samples images.
    copy_share: see CopyWatch.share. shown: (N, H, W, C), the first samples of each class."""

    kid: float
    num_samples: int
    copy_share: float | None
    diversity: Diversity
    shown: list[NDArray[np.uint8]]

    def figures(self) -> dict[str, float]:
        """For the history of the training."""
        figures = {"kid": self.kid, "kid_images": float(self.num_samples)}
        figures |= self.diversity.figures()
        if self.copy_share is not None:
            figures["copy_share"] = self.copy_share
        return figures


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
        self.copies = CopyWatch(
            *(_by_class(part, self.class_ids) for part in (train_part, held_out))
        )

    def judge(self, sampler: Sampler) -> Judgement:
        """kid: about `floor` for samples as good as real images."""
        samples = {
            c: sample_class(sampler, c, num_samples(len(rows))) for c, rows in self.features.items()
        }
        features = {c: embed(self.network, images) for c, images in samples.items()}
        kids = [kernel_distance(features[c], self.features[c]) for c in self.class_ids]
        return Judgement(
            kid=float(np.mean(kids)),
            num_samples=sum(len(images) for images in samples.values()),
            copy_share=self.copies.share(samples),
            diversity=watch(features, self.features),
            shown=[images[:NUM_SHOWN] for images in samples.values()],
        )

    def floor(self) -> float | None:
        """The same between two halves of the held-out part; None if a half would hold one image."""
        halves = [(f[0::2], f[1::2]) for f in self.features.values() if len(f) > 3]
        if not halves:
            return None
        return float(np.mean([kernel_distance(a, b) for a, b in halves]))


def _by_class(part: RealImages, class_ids: list[int]) -> Mapping[int, NDArray[np.uint8]]:
    return {c: part.images[part.class_ids == c] for c in class_ids}


def num_samples(num_held_out: int) -> int:
    """Of a class: many more than its held-out images would make nothing more certain."""
    return min(MAX_PER_CLASS, max(_MIN_PER_CLASS, _PER_HELD_OUT * num_held_out))


def sample_class(sampler: Sampler, class_id: int, num: int) -> NDArray[np.uint8]:
    """Returns (num, H, W, C) uint8, of the seeds 0 to num - 1."""
    parts = []
    for first in range(0, num, sampler.batch_size):
        seeds = list(range(first, min(first + sampler.batch_size, num)))
        parts.append(sampler.sample(seeds, [class_id] * len(seeds)))
    return np.concatenate(parts)
