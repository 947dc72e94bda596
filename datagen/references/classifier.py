"""The classifier of a reference: features.SmallClassifier, held as arrays until it is asked.

Networks run at one fixed padded batch shape, so that neither neighbours nor place in a batch change
what an image is given. Called by reference.py and fit.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError

if TYPE_CHECKING:
    from datagen.features import SmallClassifier

BATCH_SIZE = 64
_COUNTER = "num_batches_tracked"  # of batch normalisation: only training reads it


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
    """weights: by name, float16 where there are many. shape: (H, W, C) of the images."""

    weights: Mapping[str, NDArray[Any]]
    shape: tuple[int, int, int]
    num_classes: int

    @cached_property
    def network(self) -> SmallClassifier:
        """Raises ModelError if the weights are another network's."""
        import torch

        from datagen.features import SmallClassifier

        height, width, channels = self.shape
        with torch.device("meta"):
            network = SmallClassifier(
                channels=channels, image_size=(height, width), num_classes=self.num_classes
            )
        expected = {n: tuple(t.shape) for n, t in network.state_dict().items() if _is_kept(n)}
        found = {name: array.shape for name, array in self.weights.items()}
        if expected != found:
            wrong = sorted(set(expected.items()) ^ set(found.items()))[:4]
            raise ModelError(
                f"reference: the classifier's tensors are not those expected ({wrong}): fit the "
                "reference again"
            )
        state = {n: torch.from_numpy(a.astype(np.float32)) for n, a in self.weights.items()}
        counters = (name for name in network.state_dict() if not _is_kept(name))
        state |= {name: torch.zeros((), dtype=torch.int64) for name in counters}
        network.load_state_dict(state, assign=True)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network.eval()

    def look(self, images: NDArray[np.uint8]) -> Looks:
        """images: (N, H, W, C) uint8."""
        import torch

        from datagen.features.classifier import EMBEDDING_DIM, to_tensor

        logits = np.empty((len(images), self.num_classes), np.float32)
        features = np.empty((len(images), EMBEDDING_DIM), np.float32)
        with torch.inference_mode():
            for start in range(0, len(images), BATCH_SIZE):
                part = images[start : start + BATCH_SIZE]
                rows = slice(start, start + len(part))
                padding = [(0, BATCH_SIZE - len(part)), (0, 0), (0, 0), (0, 0)]
                embedded = self.network.embed(to_tensor(np.pad(part, padding)))
                features[rows] = embedded[: len(part)].numpy()
                logits[rows] = self.network.head(embedded)[: len(part)].numpy()
        return Looks(logits, features)


def weights_of(network: SmallClassifier) -> dict[str, NDArray[Any]]:
    """As they are stored: matrices as float16, the few statistics of layers as float32."""
    kept = {n: t.detach().numpy() for n, t in network.state_dict().items() if _is_kept(n)}
    return {n: a.astype(np.float16 if a.ndim > 1 else np.float32) for n, a in kept.items()}


def _is_kept(name: str) -> bool:
    return not name.endswith(_COUNTER)
