"""Sampling from the consistency model: one to four network calls an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from datagen.generators.ect.options import EctOptions
from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.interface import Images
from datagen.generators.seeded import seeded_normal
from datagen.generators.weights import pad_batch, to_pixels_nhwc


def noise_levels(options: EctOptions) -> list[float]:
    """Descending, one of each step: from sigma_max to mid_sigma by one ratio."""
    num = options.num_inference_steps
    ratio = (options.mid_sigma / options.sigma_max) ** (1 / max(1, num - 1))
    return [options.sigma_max * ratio**step for step in range(num)]


class EctSampler:
    """A consistency function at one batch shape, on the device of its weights."""

    def __init__(
        self,
        network: EdmDenoiser,
        *,
        batch_size: int,
        image_shape: tuple[int, int, int],
        options: EctOptions,
        bits: int = 8,
    ) -> None:
        """image_shape: (C, H, W)."""
        self.network = network.eval()
        self.device = next(network.parameters()).device
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.options = options
        self.bits = bits

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.Sampler.

        Source: Song et al. 2023 (arXiv 2303.01469), algorithm 1 with epsilon 0. The noise of every
        step comes from the sample's own seed; that of the first is edm's of the same seed.
        """
        padded_seeds, padded_ids = pad_batch(seeds, class_ids, self.batch_size)
        sigmas = noise_levels(self.options)
        noise = torch.from_numpy(seeded_normal(padded_seeds, (len(sigmas), *self.image_shape)))
        noise = noise.to(self.device)
        ids = torch.tensor(padded_ids, device=self.device)
        clean = torch.zeros_like(noise[:, 0])
        for step, sigma in enumerate(sigmas):
            noisy = clean + sigma * noise[:, step]
            clean = self.network(noisy, torch.full((len(ids),), sigma, device=self.device), ids)
        return to_pixels_nhwc(clean, self.bits)[: len(seeds)]
