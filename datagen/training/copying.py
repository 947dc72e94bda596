"""Whether samples come nearer to single training images than unseen real images do.

Called by training/judge.py, to watch a training: cheap, on pixels. The verdict on a data set is
that of evaluation/privacy/.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from datagen.images import block_means

# What this share of unseen real images does by chance: samples that copy nothing do as well.
CHANCE = 0.05
_MAX_SIDE_PX = 16
_MAX_TRAIN = 10_000
_NUM_NEXT = 8


class CopyWatch:
    """The training images, by class, and how near the held-out ones come to them."""

    def __init__(
        self,
        train: Mapping[int, NDArray[np.uint8]],
        held_out: Mapping[int, NDArray[np.uint8]],
    ) -> None:
        """train, held_out: (N, H, W, C) of each class. A class is watched if it has enough."""
        self._train = {
            c: _pixels(train[c][:_MAX_TRAIN])
            for c in held_out
            if c in train and len(train[c]) > _NUM_NEXT
        }
        real = [_singling(_pixels(held_out[c]), points) for c, points in self._train.items()]
        self._threshold = float(np.quantile(np.concatenate(real), CHANCE)) if real else None

    def share(self, samples: Mapping[int, NDArray[np.uint8]]) -> float | None:
        """The share of samples that single out one training image more than 95% of the held-out
        images do: about CHANCE if nothing is copied. None if no class is large enough.

        The measure is the distance to the nearest training image over the mean distance to the
        next few: it is small for a copy, and not for a blurred or average image, which is about
        as near to all (the ratio of Carlini et al. 2023, arXiv 2301.13188, section 4.2).
        """
        found = [_singling(_pixels(samples[c]), points) for c, points in self._train.items()]
        if not found or self._threshold is None:
            return None
        return float(np.mean(np.concatenate(found) < self._threshold))


def _pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, D): means of blocks, so that a shifted or noisy copy stays near."""
    small = block_means(images, max_side=_MAX_SIDE_PX)
    pixels: NDArray[np.float32] = small.reshape(len(small), -1).astype(np.float32) / np.float32(255)
    return pixels


def _singling(queries: NDArray[np.float32], points: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,): how much nearer the nearest point is than the next; 0 for an exact copy."""
    products = queries @ points.T
    squares = (queries**2).sum(1)[:, None] + (points**2).sum(1) - 2 * products
    nearest = np.partition(squares, _NUM_NEXT, axis=1)[:, : _NUM_NEXT + 1].astype(np.float64)
    distances: NDArray[np.float64] = np.sqrt(np.maximum(np.sort(nearest, axis=1), 0))
    # In float32 the distance of an image to itself is about 1e-3, not 0.
    following = np.maximum(distances[:, 1:].mean(1), 1e-2)
    ratio: NDArray[np.float64] = distances[:, 0] / following
    return ratio
