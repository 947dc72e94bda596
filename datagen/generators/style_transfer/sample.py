"""Pictures of a data set in the styles of a set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.conditions import Condition
from datagen.errors import ModelError
from datagen.generators.condition_set.items import Items
from datagen.generators.interface import Images
from datagen.generators.seeded import seeded_rng
from datagen.generators.style_transfer.options import StyleOptions
from datagen.generators.style_transfer.pools import StylePools
from datagen.generators.style_transfer.transfer import transferred
from datagen.generators.style_transfer.trunk import VggTrunk
from datagen.generators.weights import from_uint8_nhwc, to_uint8_nhwc


class StyleSampler:
    """One image at a time: what an image becomes depends on its own picture and style alone."""

    def __init__(
        self,
        trunk: VggTrunk,
        items: Items,
        *,
        batch_size: int,
        image_size: tuple[int, int],
        channels: int,
        options: StyleOptions,
    ) -> None:
        self.trunk = trunk
        self.items = items
        self.pools = StylePools(items)
        self.batch_size = batch_size
        self.image_size = image_size
        self.channels = channels
        self.options = options

    @property
    def memory_bytes(self) -> int:
        """Of the pictures and of the trunk."""
        assert self.items.images is not None
        return self.items.images.nbytes + sum(p.nbytes for p in self.trunk.parameters())

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        raise ModelError(
            "style_transfer: the pictures are missing; name who draws them, as in conditioning: "
            "{image: {model: ...}}"
        )

    # Steps need gradients, whatever mode the caller is in.
    @torch.inference_mode(False)
    def sample_conditioned(
        self, seeds: Sequence[int], class_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> Images:
        """Returns (N, H, W, C) uint8; see interface.ConditionedSampler."""
        if not 0 < len(seeds) <= self.batch_size or len(class_ids) != len(seeds):
            raise ValueError(
                f"{len(seeds)} seeds, {len(class_ids)} classes, batch {self.batch_size}"
            )
        drawn = zip(seeds, conditions, strict=True)
        return np.concatenate([self._styled(seed, condition) for seed, condition in drawn])

    def style_of(self, seed: int, pool: tuple[float, float]) -> int:
        """The row of the style picture of a seed."""
        rows = self.pools.rows(pool)
        return int(rows[int(seeded_rng(seed).integers(len(rows)))])

    def _styled(self, seed: int, condition: Condition) -> Images:
        """(1, H, W, C)."""
        picture, styles = condition.image, self.items.images
        assert styles is not None
        if picture is None or picture.shape[:2] != self.image_size:
            shape = None if picture is None else picture.shape
            raise ModelError(
                f"style_transfer: a picture of shape {shape}; expected "
                f"{(*self.image_size, self.channels)}: the size of the style set"
            )
        made = transferred(
            self.trunk,
            self._tensor(picture),
            self._tensor(styles[self.style_of(seed, condition.pool)]),
            self.options,
        )
        if self.channels == 1:
            made = made.mean(1, keepdim=True)
        return to_uint8_nhwc(made)

    def _tensor(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, C) uint8 => (1, 3, H, W); grey is all three colours."""
        device = str(self.trunk.shift.device)
        tensor = from_uint8_nhwc(np.array(picture[None]), device)
        return tensor.expand(-1, 3, -1, -1).contiguous()
