"""Sampling from the VAE: latents of the class's own prior, one network call per image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.generators.interface import Images
from datagen.generators.seeded import seeded_normal
from datagen.generators.vae.networks import Vae
from datagen.generators.weights import pad_batch, to_pixels_nhwc


class VaeSampler:
    """A decoder at one batch shape, on the device of its weights. Images are the decoder's means:
    the noise of the likelihood is not added."""

    def __init__(
        self, network: Vae, *, batch_size: int, temperature: float = 1.0, bits: int = 8
    ) -> None:
        self.network = network.eval()
        self.device = network.prior_mean.device
        self.batch_size = batch_size
        self.bits = bits
        self.mean = network.prior_mean.double().cpu().numpy()
        self.root = temperature * square_roots(network.prior_covariance.double().cpu().numpy())

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) of 8 or 16 bits; see interface.Sampler."""
        padded_seeds, padded_ids = pad_batch(seeds, class_ids, self.batch_size)
        # On the CPU and row by row, whatever the device: the same seeds give the same latents.
        draws = seeded_normal(padded_seeds, (self.network.latent_dim,))
        latents = np.stack(
            [self.mean[c] + self.root[c] @ draw for c, draw in zip(padded_ids, draws, strict=True)]
        )
        images = self.network(
            torch.from_numpy(latents.astype(np.float32)).to(self.device),
            torch.tensor(padded_ids, device=self.device),
        )
        return to_pixels_nhwc(images, self.bits)[: len(seeds)]


def square_roots(covariances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric square root of each; what rounding made negative counts as zero.

    covariances: (K, D, D), symmetric up to rounding.
    """
    values, vectors = np.linalg.eigh((covariances + covariances.swapaxes(1, 2)) / 2)
    roots: NDArray[np.float64] = (vectors * np.sqrt(values.clip(0))[:, None, :]) @ vectors.swapaxes(
        1, 2
    )
    return roots
