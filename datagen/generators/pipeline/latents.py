"""Pictures as the latents that image-to-image starts from. Called by sample.py.

The mean of what the VAE encodes, where diffusers draws around it: one draw less, of next to no
spread, and a mix of two pictures has exact ends.
"""

from __future__ import annotations

from typing import Any

import torch


def latents_of(pipe: Any, pictures: torch.Tensor) -> torch.Tensor:
    """pictures: (N, 3, H, W) float32 in [-1, 1]. Returns (N, C, h, w) on the pipeline's device, in
    the scale that its denoiser works in."""
    vae = pipe.vae
    dtype, config = vae.dtype, vae.config
    device = pipe._execution_device
    overflows = dtype == torch.float16 and getattr(config, "force_upcast", False)
    if overflows:
        vae.to(torch.float32)
    encoded = vae.encode(pictures.to(device, vae.dtype)).latent_dist.mode()
    if overflows:
        vae.to(dtype)
    encoded = encoded.to(dtype)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        shape = (1, -1, 1, 1)
        centred = encoded - torch.tensor(mean).reshape(shape).to(encoded)
        scaled = centred / torch.tensor(std).reshape(shape).to(encoded)
    else:
        scaled = encoded - (getattr(config, "shift_factor", None) or 0.0)
    latents: torch.Tensor = scaled * config.scaling_factor
    return latents
