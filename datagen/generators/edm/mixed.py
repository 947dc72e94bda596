"""Latent mixing: the first noise between two seeds, and what the network says between two classes.

Called by edm's sampler, and by latent-edm's through it. At weight 0 and 1 the bits are those of an
end alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.conditions import Condition, Mix
from datagen.generators.seeded import seeded_normal
from datagen.mixing import slerp


def padded_mixes(conditions: Sequence[Condition], batch_size: int) -> list[Mix | None]:
    """As weights.pad_batch does with the seeds. Raises ValueError for none, or too many."""
    if not 0 < len(conditions) <= batch_size:
        raise ValueError(f"{len(conditions)} conditions, batch {batch_size}")
    mixes = [condition.mix for condition in conditions]
    return mixes + [mixes[0]] * (batch_size - len(mixes))


def mixed_noise(
    seeds: Sequence[int], mixes: Sequence[Mix | None], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """(N, *shape) float32 standard normal: of each seed, or on the arc to that of its other end."""
    noise = seeded_normal(seeds, shape)
    for row, mix in zip(noise, mixes, strict=True):
        if mix is not None and mix.kind == "seeds":
            row[:] = slerp(row, seeded_normal([mix.seed], shape)[0], mix.weight)
    return noise


class OtherClasses:
    """The other class of each image of a batch, and how much of it. An image that is mixed with no
    class is all of its own.

    The networks' estimates are blended: the two scores, weighted, are the score of the product of
    the classes' densities to the powers 1 - w and w: the conjunction of Liu et al. 2022 (arXiv
    2206.01714), with weights that add up to 1.
    """

    def __init__(
        self, class_ids: Sequence[int], mixes: Sequence[Mix | None], device: torch.device
    ) -> None:
        pairs = [
            (mix.class_id, mix.weight)
            if mix is not None and mix.kind == "classes"
            else (class_id, 0.0)
            for class_id, mix in zip(class_ids, mixes, strict=True)
        ]
        self.ids = torch.tensor([class_id for class_id, _ in pairs], device=device)
        weights = torch.tensor([weight for _, weight in pairs], dtype=torch.float32)
        self.weights = weights.view(-1, 1, 1, 1).to(device)

    def blend(self, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) twice. Written as a sum, it is one of both exactly at weight 0 and 1."""
        return (1 - self.weights) * own + self.weights * other


def other_classes(
    class_ids: Sequence[int], mixes: Sequence[Mix | None], device: torch.device
) -> OtherClasses | None:
    """None if no image of the batch is mixed with a class: then there is nothing more to call."""
    if not any(mix is not None and mix.kind == "classes" for mix in mixes):
        return None
    return OtherClasses(class_ids, mixes, device)
