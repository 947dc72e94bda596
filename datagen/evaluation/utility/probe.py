"""A linear probe: ridge regression on patch features, thousands of images in a second.

The many trainings of the learning curve need it; it reads its patches off real training images and
no labels. Called by worth.py.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from datagen.evaluation.utility.training import StoppedError

_PATCH_PX, _STRIDE_PX, _GRID = 6, 2, 3
_NUM_PATCHES, _NUM_FIT_IMAGES, _NUM_FIT_PATCHES = 128, 1000, 40_000
_THRESHOLD = 0.25
_BATCH = 200
# With features of variance 1, about best from 500 to 20,000 Fashion-MNIST images.
_RIDGE = 300.0


class PatchFeatures:
    """Similarity to whitened patches of real images, pooled over a grid.

    Source: Coates and Ng 2011, The importance of encoding versus training with sparse coding and
    vector quantization, sections 3 and 4 (random patches, soft threshold).
    """

    def __init__(self, images: NDArray[np.uint8], *, seed: int) -> None:
        """images: (N, H, W, C), real ones."""
        rng = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(images), generator=rng)[:_NUM_FIT_IMAGES].numpy()
        self.patch_px = min(_PATCH_PX, *images.shape[1:3])
        flat = self._patches(images[chosen]).flatten(0, 1)
        flat = flat[torch.randperm(len(flat), generator=rng)[:_NUM_FIT_PATCHES]]
        self.mean = flat.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov(flat.T))
        self.whitening = vectors @ torch.diag((values.clamp_min(0) + 0.1).rsqrt()) @ vectors.T
        white = (flat - self.mean) @ self.whitening
        white = white / white.norm(dim=1, keepdim=True).clamp_min(1e-6)
        self.dictionary = white[torch.randperm(len(white), generator=rng)[:_NUM_PATCHES]]
        self.centre = torch.zeros(1)
        self.scale = torch.ones(1)
        features = torch.from_numpy(self.extract(images[chosen]))
        self.centre, self.scale = features.mean(0), features.std(0) + 1e-3

    def extract(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns (N, dim), of mean 0 and variance 1 on the real images."""
        parts = [self._pooled(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        features: NDArray[np.float32] = ((torch.cat(parts) - self.centre) / self.scale).numpy()
        return features

    def _patches(self, images: NDArray[np.uint8]) -> torch.Tensor:
        """(N, H, W, C) uint8 => (N, positions, patch) float32, contrast removed."""
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        patches = F.unfold(pixels, self.patch_px, stride=_STRIDE_PX).transpose(1, 2)
        spread = (patches.var(2, keepdim=True) + 0.05).sqrt()
        return (patches - patches.mean(2, keepdim=True)) / spread

    def _pooled(self, images: NDArray[np.uint8]) -> torch.Tensor:
        num, height, width = images.shape[:3]
        rows, columns = ((side - self.patch_px) // _STRIDE_PX + 1 for side in (height, width))
        white = (self._patches(images) - self.mean) @ self.whitening
        active = F.relu(white @ self.dictionary.T - _THRESHOLD)
        maps = active.transpose(1, 2).reshape(num, -1, rows, columns)
        return F.adaptive_avg_pool2d(maps, _GRID).flatten(1)


def nested_margins(
    train: tuple[NDArray[np.float32], NDArray[np.int64]],
    sizes: Sequence[int],
    test: tuple[NDArray[np.float32], NDArray[np.int64]],
    *,
    num_classes: int,
    stop: threading.Event,
) -> NDArray[np.float64]:
    """A probe for each leading part of `train`. Returns (len(sizes), num_test): how far the score
    of the true class lies above the best other. train, test: features (N, dim), ids (N,)."""
    features, class_ids = torch.from_numpy(train[0]), torch.from_numpy(train[1])
    dim = features.shape[1]
    gram, moments = torch.zeros(dim, dim), torch.zeros(dim, num_classes)
    targets = F.one_hot(class_ids, num_classes).float() - 1 / num_classes
    margins, done = [], 0
    for size in sizes:
        if stop.is_set():
            raise StoppedError
        if size < dim:
            weights = _few_weights(features[:size], targets[:size])
        else:
            part = features[done:size]
            gram += part.T @ part
            moments += part.T @ targets[done:size]
            done = size
            weights = torch.cholesky_solve(moments.double(), _factor(gram)).float()
        margins.append(margin((torch.from_numpy(test[0]) @ weights).numpy(), test[1]))
    return np.stack(margins)


def _few_weights(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The same weights from a system as large as the number of images (the dual)."""
    duals: torch.Tensor = torch.cholesky_solve(targets.double(), _factor(features @ features.T))
    weights: torch.Tensor = features.T @ duals.float()
    return weights


def _factor(gram: torch.Tensor) -> torch.Tensor:
    ridge = _RIDGE * torch.eye(len(gram), dtype=torch.float64)
    factor: torch.Tensor = torch.linalg.cholesky(gram.double() + ridge)
    return factor


def margin(scores: NDArray[np.float32], class_ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """scores: (N, num_classes). Returns (N,): the true class's score minus the best other."""
    rows = np.arange(len(scores))
    true = scores[rows, class_ids].astype(np.float64)
    others = scores.copy()
    others[rows, class_ids] = -np.inf
    return np.asarray(true - others.max(1), dtype=np.float64)
