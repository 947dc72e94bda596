"""Sampling from the GAN: one network call per image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from datagen.generators.cgan.networks import Generator
from datagen.generators.interface import Images
from datagen.generators.seeded import seeded_normal
from datagen.generators.weights import pad_batch, to_pixels_nhwc


class CganSampler:
    """A generator network at one batch shape, on the device of its weights."""

    def __init__(
        self, network: Generator, *, batch_size: int, truncation: float = 1.0, bits: int = 8
    ) -> None:
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self.batch_size = batch_size
        self.truncation = truncation
        self.bits = bits

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.Sampler."""
        padded_seeds, padded_ids = pad_batch(seeds, class_ids, self.batch_size)
        # Drawn on the CPU, whatever the device: the same seeds give the same latents.
        latents = torch.from_numpy(seeded_normal(padded_seeds, (self.network.latent_dim,)))
        latents = (latents * self.truncation).to(self.device)
        images = self.network(latents, torch.tensor(padded_ids, device=self.device))
        return to_pixels_nhwc(images, self.bits)[: len(seeds)]
