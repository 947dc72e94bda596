"""Sampling from a tuned text-to-image pipeline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from datagen.generators.edm.samplers import Denoise, Sample, sample_dpmpp_2m, sample_euler
from datagen.generators.interface import Images
from datagen.generators.lora.networks import TextToImage
from datagen.generators.lora.options import LoraOptions
from datagen.generators.lora.prompts import Condition
from datagen.generators.seeded import seeded_normal
from datagen.generators.weights import pad_batch, to_uint8_nhwc

# With variances held at 1, Euler steps are DDIM's without noise (arXiv 2010.02502, equation 14).
_SAMPLERS: dict[str, Sample] = {"dpmpp_2m": sample_dpmpp_2m, "ddim": sample_euler}
# Where a schedule ends in pure noise, its last sigma is 4096 in the place of infinity.
_MIN_ALPHA = 2.0**-24


class LoraSampler:
    """UNet, VAE and prompts at one batch shape, on the device of their weights."""

    def __init__(
        self,
        parts: TextToImage,
        *,
        batch_size: int,
        image_shape: tuple[int, int, int],
        latent_shape: tuple[int, int, int],
        options: LoraOptions,
    ) -> None:
        """image_shape: (C, H, W), C 1 or 3; grey is the mean of the colours."""
        self.network = parts.unet
        self.parts = parts
        self.batch_size = batch_size
        self.image_shape = image_shape
        self.latent_shape = latent_shape
        self.options = options

    @torch.inference_mode()
    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) uint8; see interface.Sampler."""
        padded_seeds, padded_ids = pad_batch(seeds, class_ids, self.batch_size)
        device = self.parts.prompts.hidden.device
        # Drawn on the CPU, whatever the device: the same seeds give the same noise.
        noise = torch.from_numpy(seeded_normal(padded_seeds, self.latent_shape))
        latents = self._denoised(noise.to(device), torch.tensor(padded_ids, device=device))
        images = self.parts.vae.decode(latents / self.parts.scaling_factor, return_dict=False)[0]
        if self.image_shape[0] == 1:
            images = images.mean(1, keepdim=True)
        return to_uint8_nhwc(images)[: len(seeds)]

    def _denoised(self, noise: torch.Tensor, class_ids: torch.Tensor) -> torch.Tensor:
        """noise: (N, c, h, w) standard normal. class_ids: (N,)."""
        self.network.eval()
        levels = noise_levels(self.parts.alphas, self.options.num_inference_steps)
        sigmas = [*levels, 0.0]
        start = noise * math.sqrt(1 + sigmas[0] ** 2)
        return _SAMPLERS[self.options.sampler](self._denoise(levels, class_ids), start, sigmas)

    def _denoise(self, levels: dict[float, int], class_ids: torch.Tensor) -> Denoise:
        """The UNet, which sees latents of unit variance, as an estimate of the clean latents."""
        prompts = self.parts.prompts
        wanted, null = (
            prompts.of(ids) for ids in (class_ids, torch.full_like(class_ids, prompts.null_class))
        )

        def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
            alpha = 1 / (1 + sigma**2)
            predicted = self._guided(x * math.sqrt(alpha), levels[sigma], wanted, null)
            if self.parts.is_velocity:
                return alpha * x - math.sqrt(1 - alpha) * predicted
            return x - sigma * predicted

        return denoise

    def _guided(
        self, noisy: torch.Tensor, timestep: int, wanted: Condition, null: Condition
    ) -> torch.Tensor:
        """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598, equation 6, with w + 1 as
        the scale). Two calls at the one batch shape, never one call at twice it: the shape decides
        an image's bits."""
        scale = self.options.guidance_scale
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        conditional = self._predicted(noisy, timestep, wanted)
        if scale == 1:
            return conditional
        unconditional = self._predicted(noisy, timestep, null)
        return unconditional + scale * (conditional - unconditional)

    def _predicted(self, noisy: torch.Tensor, timestep: int, told: Condition) -> torch.Tensor:
        out: torch.Tensor = self.network(
            noisy, timestep, told.hidden, added_cond_kwargs=told.added, return_dict=False
        )[0]
        return out


def noise_levels(alphas: torch.Tensor, num_steps: int) -> dict[float, int]:
    """Sigma -> timestep, from the noisiest, evenly spaced from the last timestep trained.

    A latent of signal share alpha, over sqrt(alpha), is the clean one plus noise of sigma =
    sqrt((1 - alpha) / alpha) (Song et al. 2020, DDIM, arXiv 2010.02502, section 4.3). Spacing: Lin
    et al. 2023 (arXiv 2305.08891), section 3.3.
    """
    num = len(alphas)
    timesteps = [round(num - step * num / num_steps) - 1 for step in range(num_steps)]
    levels = {}
    for timestep in timesteps:
        alpha = max(float(alphas[timestep]), _MIN_ALPHA)
        levels[math.sqrt((1 - alpha) / alpha)] = timestep
    return levels
