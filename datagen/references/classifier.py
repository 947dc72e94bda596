"""The classifier of a reference: features.SmallClassifier, held as arrays until it is asked.

Networks run at one fixed padded batch shape, so that neither neighbours nor place in a batch change
what an image is given. Called by reference.py and fit.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.images import block_means

if TYPE_CHECKING:
    from datagen.features import SmallClassifier

BATCH_SIZE = 64
MAX_SIDE_PX = 64  # a longer side is averaged down to so many cells
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Looks:
    """What the classifier sees in each image. logits: (N, K) float32. features: (N, D) float32."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """(N, K). Source: Guo et al. 2017 (arXiv 1706.04599), section 4.2, equation 9."""
        scaled = self.logits.astype(np.float64) / temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return shares


@dataclass(frozen=True)
class ReferenceClassifier:
    """weights: the network's parameters by name, float16. shape: (H, W, C) of the images."""

    weights: Arrays
    shape: tuple[int, int, int]
    num_classes: int

    @cached_property
    def network(self) -> SmallClassifier:
        """Raises ModelError if the weights are another network's."""
        import torch

        from datagen.features import SmallClassifier

        height, width, channels = self.shape
        size = (min(height, MAX_SIDE_PX), min(width, MAX_SIDE_PX))
        with torch.device("meta"):
            network = SmallClassifier(
                channels=channels, image_size=size, num_classes=self.num_classes
            )
        expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        found = {name: array.shape for name, array in self.weights.items()}
        if expected != found:
            raise ModelError(
                f"reference: a classifier of {found}; expected {expected}: fit the reference again"
            )
        state = {
            name: torch.from_numpy(array.astype(np.float32)) for name, array in self.weights.items()
        }
        network.load_state_dict(state, assign=True)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.eval()

    def look(self, images: NDArray[np.uint8]) -> Looks:
        """images: (N, H, W, C) uint8."""
        import torch

        seen = small(images)
        logits, features = [], []
        with torch.inference_mode():
            for start in range(0, len(seen), BATCH_SIZE):
                part = seen[start : start + BATCH_SIZE]
                batch = np.zeros((BATCH_SIZE, *seen.shape[1:]), np.uint8)
                batch[: len(part)] = part
                tensor = torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
                embedded = self.network.embed(tensor)
                features.append(embedded[: len(part)].numpy())
                logits.append(self.network.head(embedded)[: len(part)].numpy())
        if not logits:
            dim = self.network.head.in_features
            empty = np.zeros((0, self.num_classes), np.float32)
            return Looks(empty, np.zeros((0, dim), np.float32))
        return Looks(np.concatenate(logits), np.concatenate(features))


def small(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, C) => the same with no side above MAX_SIDE_PX."""
    return block_means(images, max_side=MAX_SIDE_PX)
