"""Which weights are best: a distance between samples and held-out real images; and two watches,
on copies of training images and on the loss of variety.

Called by training/loop.py while training, and by training/session.py for the card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.features import (
    MIN_IMAGENET_SIDE_PX,
    Features,
    embed,
    kernel_distance,
    train_classifier,
)
from datagen.generators.interface import ConditionedSampler, ModelConfig, Sampler
from datagen.images import block_means
from datagen.training.copying import CopyWatch
from datagen.training.dataset import RealImages
from datagen.training.diversity import Diversity, watch
from datagen.training.pairs import held_out_conditions, picture_of

MAX_PER_CLASS, _MIN_PER_CLASS, _PER_HELD_OUT = 200, 20, 4
NUM_SHOWN = 10
_NUM_CLASSIFIER_IMAGES = 20_000
_NUM_CLASSIFIER_EPOCHS = 4
_MEANS_SIDE_PX, _NUM_PARTS = 8, 8


@dataclass(frozen=True)
class Judgement:
    """kid: mean over classes, lower is better; of num_samples images.
    copy_share: see CopyWatch.share. shown: (N, H, W, C), the first samples of each class; of a
    model that takes conditions, three of each class: conditions, samples, real images."""

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
    """Mean over classes of KID between samples and held-out images; see _features_of."""

    def __init__(
        self, train_part: RealImages, held_out: RealImages, *, config: ModelConfig, seed: int
    ) -> None:
        """held_out: its conditions are what the samples are drawn with, each image's in turn.

        Raises InputError if no class has two held-out images."""
        num_per_class = np.bincount(held_out.class_ids, minlength=len(config.class_names))
        self.class_ids = [c for c, num in enumerate(num_per_class) if num > 1]
        if not self.class_ids:
            raise InputError(
                f"data.held_out: {len(held_out)} images hold no class twice; expected several "
                "images of each class: raise it"
            )
        self._embed = _features_of(train_part, config, seed=seed)
        self.drawn = Drawn(held_out, config)
        features = self._embed(held_out.images)
        self.features = {c: features[held_out.class_ids == c] for c in self.class_ids}
        self.copies = CopyWatch(
            *(_by_class(part, self.class_ids) for part in (train_part, held_out))
        )

    def judge(self, sampler: Sampler) -> Judgement:
        """kid: about `floor` for samples as good as real images."""
        samples = {
            c: self.drawn.samples(sampler, c, num_samples(len(rows)))
            for c, rows in self.features.items()
        }
        features = {c: self._embed(images) for c, images in samples.items()}
        kids = [kernel_distance(features[c], self.features[c]) for c in self.class_ids]
        return Judgement(
            kid=float(np.mean(kids)),
            num_samples=sum(len(images) for images in samples.values()),
            copy_share=self.copies.share(samples),
            diversity=watch(features, self.features),
            shown=[
                row
                for c, images in samples.items()
                for row in self.drawn.shown(c, images[:NUM_SHOWN], with_real=True)
            ],
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
    return _in_batches(
        sampler.batch_size, num, lambda seeds: sampler.sample(seeds, [class_id] * len(seeds))
    )


def _in_batches(
    size: int, num: int, draw: Callable[[list[int]], NDArray[np.uint8]]
) -> NDArray[np.uint8]:
    """draw: of some seeds."""
    firsts = range(0, num, size)
    return np.concatenate([draw(list(range(f, min(f + size, num)))) for f in firsts])


class Drawn:
    """Samples of classes: of a model that takes conditions, with those of held-out images."""

    def __init__(self, held_out: RealImages, config: ModelConfig) -> None:
        self._held_out, self._condition = held_out, config.condition
        taken = config.condition
        self._conditions = [] if taken is None else held_out_conditions(held_out, taken)

    def samples(self, sampler: Sampler, class_id: int, num: int) -> NDArray[np.uint8]:
        """Returns (num, H, W, C) uint8, of the seeds 0 to num - 1, each held-out image's condition
        in turn; of a class without any, those of all."""
        return _in_batches(
            sampler.batch_size,
            num,
            lambda seeds: self.batch(sampler, seeds, [class_id] * len(seeds)),
        )

    def batch(
        self, sampler: Sampler, seeds: Sequence[int], class_ids: Sequence[int]
    ) -> NDArray[np.uint8]:
        if self._condition is None:
            return sampler.sample(seeds, class_ids)
        conditions = [
            self._conditions[self._row(class_id, seed)]
            for seed, class_id in zip(seeds, class_ids, strict=True)
        ]
        return cast(ConditionedSampler, sampler).sample_conditioned(seeds, class_ids, conditions)

    def shown(
        self, class_id: int, samples: NDArray[np.uint8], *, with_real: bool
    ) -> list[NDArray[np.uint8]]:
        """Rows of a grid. samples: of the first seeds. with_real: also what is read off real
        pictures, and so belongs into no card."""
        if self._condition is None:
            return [samples]
        rows = [self._row(class_id, seed) for seed in range(len(samples))]
        size = samples.shape[1:3]
        pictures = [picture_of(self._conditions[row], self._condition, size) for row in rows]
        found = [_coloured(samples)]
        if with_real or self._condition.kind in ("mask", "layout"):
            found.insert(0, np.stack(pictures))
        if with_real:
            found.append(_coloured(self._held_out.images[rows]))
        return found

    def _row(self, class_id: int, seed: int) -> int:
        rows = np.flatnonzero(self._held_out.class_ids == class_id)
        if not len(rows):
            return seed % len(self._held_out)
        return int(rows[seed % len(rows)])


def _coloured(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.broadcast_to(images, (*images.shape[:3], 3))


def features_told(config: ModelConfig) -> str:
    """In words: what the judge of such a model compares."""
    if _is_single_and_large(config):
        return "1,280 features of EfficientNet-Lite0, trained on ImageNet"
    return "128 features of a small classifier trained on the training images"


def _is_single_and_large(config: ModelConfig) -> bool:
    return len(config.class_names) == 1 and min(config.image_size) >= MIN_IMAGENET_SIDE_PX


def _features_of(
    train_part: RealImages, config: ModelConfig, *, seed: int
) -> Callable[[NDArray[np.uint8]], Features]:
    """Those of a small classifier trained on the training part; where there is a single class to
    learn from and the images are not small, of a network trained on ImageNet."""
    if _is_single_and_large(config):
        from datagen.features.efficientnet import EfficientNetLite0Features

        extractor = EfficientNetLite0Features()
        return lambda images: extractor.extract(images).astype(np.float64)
    class_ids, num_classes = _told_apart(train_part, len(config.class_names))
    network = train_classifier(
        train_part.images[:_NUM_CLASSIFIER_IMAGES],
        class_ids[:_NUM_CLASSIFIER_IMAGES],
        num_classes=num_classes,
        num_epochs=_NUM_CLASSIFIER_EPOCHS,
        seed=seed,
    )
    return lambda images: embed(network, images)


def _told_apart(part: RealImages, num_classes: int) -> tuple[NDArray[np.int64], int]:
    """What the classifier is to tell apart: the classes; of a single one, which teaches no
    features, as many equal parts along the direction in which its images differ most."""
    if num_classes > 1:
        return part.class_ids, num_classes
    small = block_means(part.images, max_side=_MEANS_SIDE_PX)
    points = small.reshape(len(small), -1).astype(np.float64)
    points -= points.mean(0)
    _, directions = np.linalg.eigh(points.T @ points)
    places = np.argsort(np.argsort(points @ directions[:, -1], kind="stable"))
    return places * _NUM_PARTS // len(places), _NUM_PARTS
