"""An autoencoder of images, diffusers' AutoencoderKL, and a denoiser of its latents, edm's.

Source: Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models"
(arXiv 2112.10752), section 3.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.interface import ModelConfig
from datagen.generators.latent.options import LatentNetwork
from datagen.generators.weights import channels_last


class LatentDiffusion(nn.Module):
    """The weights of a model. latent_mean, latent_std: (C,), of the autoencoder's latents."""

    latent_mean: torch.Tensor
    latent_std: torch.Tensor

    def __init__(self, config: ModelConfig, network: LatentNetwork) -> None:
        super().__init__()
        widths = network.autoencoder_widths
        self.autoencoder = AutoencoderKL(
            in_channels=config.channels,
            out_channels=config.channels,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=1,
            latent_channels=network.latent_channels,
            norm_num_groups=network.norm_num_groups,
            # Attention there would cost the square of the number of latents.
            mid_block_add_attention=False,
        )
        factor = 2 ** (len(widths) - 1)
        height, width = (side // factor for side in config.image_size)
        self.latent_shape = (network.latent_channels, height, width)
        latent_config = replace(
            config, channels=network.latent_channels, image_size=(height, width)
        )
        self.denoiser = EdmDenoiser(latent_config, network)
        self.register_buffer("latent_mean", torch.zeros(network.latent_channels))
        self.register_buffer("latent_std", torch.ones(network.latent_channels))
        channels_last(self)

    def posterior(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, C, H, W) in [-1, 1] => mean and log variance of the latents, as they are."""
        moments = self.autoencoder.encode(images).latent_dist
        return moments.mean.float(), moments.logvar.float()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as they are => (N, C, H, W), about [-1, 1]."""
        decoded: torch.Tensor = self.autoencoder.decode(latents, return_dict=False)[0]
        return decoded.float()

    def normalized(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents as the denoiser sees them: mean 0, standard deviation sigma_data."""
        mean, std = self.latent_mean.view(1, -1, 1, 1), self.latent_std.view(1, -1, 1, 1)
        return (latents - mean) / std * self.denoiser.sigma_data

    def restored(self, latents: torch.Tensor) -> torch.Tensor:
        """Inverse of normalized."""
        mean, std = self.latent_mean.view(1, -1, 1, 1), self.latent_std.view(1, -1, 1, 1)
        return latents / self.denoiser.sigma_data * std + mean


def patch_discriminator(channels: int) -> nn.Sequential:
    """(N, C, H, W) => (N, 1, H/8, W/8): how real each patch looks.

    Source: Isola et al. 2017 (arXiv 1611.07004), section 3.2.2, with spectral normalisation (Miyato
    et al. 2018, arXiv 1802.05957) in the place of batch statistics.
    """
    layers: list[nn.Module] = []
    for width in (32, 64, 128):
        layers += [spectral_norm(nn.Conv2d(channels, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
        channels = width
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels, 1, 3, 1, 1)))
