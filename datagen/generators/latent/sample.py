"""Sampling: edm's, in latents, and one call of the decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch

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
        latents = self.model.restored(self.latents.draw(seeds, class_ids))
        return to_pixels_nhwc(self.model.decode(latents), self.bits)[: len(seeds)]
