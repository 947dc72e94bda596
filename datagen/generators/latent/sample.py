"""Sampling: edm's, in latents, and one call of the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from datagen.conditions import Condition
from datagen.generators.edm.mixed import padded_mixes
from datagen.generators.edm.options import EdmOptions
from datagen.generators.edm.sample import EdmSampler
from datagen.generators.interface import Images
from datagen.generators.latent.networks import LatentDiffusion
from datagen.generators.weights import to_pixels_nhwc


class LatentSampler:
    """network: the denoiser, whose calls cost most."""

    def __init__(
        self, model: LatentDiffusion, *, batch_size: int, options: EdmOptions, bits: int = 8
    ) -> None:
        self.model = model.eval()
        self.network = model.denoiser
        self.batch_size = batch_size
        self.bits = bits
        self.latents = EdmSampler(
            model.denoiser, batch_size=batch_size, image_shape=model.latent_shape, options=options
        )

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.Sampler."""
        return self._decoded(self.latents.draw(seeds, class_ids))[: len(seeds)]

    @torch.inference_mode()
    def sample_conditioned(
        self, seeds: Sequence[int], class_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> Images:
        """As sample, mixed as the conditions say; see interface.ConditionedSampler."""
        mixes = padded_mixes(conditions, self.batch_size)
        return self._decoded(self.latents.draw(seeds, class_ids, mixes=mixes))[: len(seeds)]

    def _decoded(self, latents: torch.Tensor) -> Images:
        return to_pixels_nhwc(self.model.decode(self.model.restored(latents)), self.bits)
