"""Sampling from the mask-to-image GAN: one network call an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from datagen.conditions import Condition, ConditionConfig
from datagen.generators.encoding import encode_batch, refuse_unconditioned
from datagen.generators.interface import Images
from datagen.generators.seeded import seeded_normal
from datagen.generators.spade.networks import SpadeGenerator
from datagen.generators.weights import pad_batch, to_pixels_nhwc


class SpadeSampler:
    """A generator network at one batch shape, on the device of its weights."""

    def __init__(
        self,
        network: SpadeGenerator,
        *,
        batch_size: int,
        image_size: tuple[int, int],
        condition: ConditionConfig,
        truncation: float = 1.0,
        bits: int = 8,
    ) -> None:
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self.batch_size = batch_size
        self.image_size = image_size
        self.condition = condition
        self.truncation = truncation
        self.bits = bits

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Raises ModelError: there is no image without a label map."""
        refuse_unconditioned(self.condition)
        raise AssertionError("unreachable")

    @torch.inference_mode()
    def sample_conditioned(
        self, seeds: Sequence[int], class_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.ConditionedSampler."""
        padded_seeds, padded_ids = pad_batch(seeds, class_ids, self.batch_size)
        planes = encode_batch(
            conditions, self.condition, size=self.image_size, batch_size=self.batch_size
        )
        # Drawn on the CPU, whatever the device: the same seeds give the same latents.
        latents = torch.from_numpy(seeded_normal(padded_seeds, (self.network.latent_dim,)))
        latents = (latents * self.truncation).to(self.device)
        ids = torch.tensor(padded_ids, device=self.device)
        images = self.network(latents, ids, torch.from_numpy(planes).to(self.device))
        return to_pixels_nhwc(images, self.bits)[: len(seeds)]
