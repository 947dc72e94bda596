"""Sampling from the GAN: one network call per image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from datagen.generators.cgan.networks import Generator
from datagen.generators.interface import Images
from datagen.generators.seeded import seeded_normal
from datagen.generators.weights import pad_batch, to_uint8_nhwc


class CganSampler:
    def __init__(self, network: Generator, *, batch_size: int, truncation: float = 1.0) -> None:
        self.network = network.eval()
        self.batch_size = batch_size
        self.truncation = truncation

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) uint8; see interface.Sampler."""
        padded_seeds, padded_ids = pad_batch(seeds, class_ids, self.batch_size)
        latents = torch.from_numpy(seeded_normal(padded_seeds, (self.network.latent_dim,)))
        images = self.network(latents * self.truncation, torch.tensor(padded_ids))
        return to_uint8_nhwc(images)[: len(seeds)]
