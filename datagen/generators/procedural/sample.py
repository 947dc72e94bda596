"""Scenes of shapes and textures, drawn by rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datagen.generators.interface import Images
from datagen.generators.procedural.options import ProceduralOptions
from datagen.generators.procedural.painting import paint
from datagen.generators.procedural.scene import lay_out, shapes_of
from datagen.generators.seeded import seeded_rngs
from datagen.images import dtype_of


class ProceduralSampler:
    """Image i is the scene of seeds[i]; SceneLabels.draw of the same seed says what it shows."""

    def __init__(
        self,
        options: ProceduralOptions,
        *,
        batch_size: int,
        class_names: Sequence[str],
        size: tuple[int, int],
        bits: int = 8,
    ) -> None:
        """size: (H, W)."""
        self.options = options
        self.batch_size = batch_size
        self.class_names = tuple(class_names)
        self.size = size
        self.bits = bits

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.Sampler."""
        if not 0 < len(seeds) <= self.batch_size or len(class_ids) != len(seeds):
            raise ValueError(
                f"{len(seeds)} seeds, {len(class_ids)} classes, batch {self.batch_size}"
            )
        shape = (len(seeds), *self.size, self.options.channels)
        out: Images = np.empty(shape, dtype_of(self.bits))
        for row, class_id, rng in zip(out, class_ids, seeded_rngs(seeds), strict=True):
            shapes = shapes_of(self.class_names[class_id], self.options)
            scene = lay_out(rng, self.options, shapes=shapes, size=self.size)
            canvas = paint(rng, scene, self.options)
            row[:] = np.rint(np.iinfo(out.dtype).max * canvas)
        return out
