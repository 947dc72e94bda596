"""Convolutional encoder and decoder, both given the class, and the prior of each class.

Source: Kingma & Welling 2014 (arXiv 1312.6114); given the class: Sohn et al. 2015, "Learning
structured output representation using deep conditional generative models".
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn
from torch.nn import functional as F

from datagen.generators.blocks import SLOPE, ResidualBlock, convolution
from datagen.generators.interface import ModelConfig
from datagen.generators.vae.options import VaeNetwork
from datagen.generators.weights import channels_last


class Vae(nn.Module):
    """Called, it decodes: latents (N, D), class_ids (N,) -> images (N, C, H, W) in [-1, 1].

    prior_mean (K, D) and prior_covariance (K, D, D): of the latents of each class, as training saw
    them (prior.py).
    """

    prior_mean: torch.Tensor
    prior_covariance: torch.Tensor

    def __init__(self, config: ModelConfig, network: VaeNetwork) -> None:
        super().__init__()
        num_classes, latent_dim = len(config.class_names), network.latent_dim
        height, width = (side >> len(network.widths) for side in config.image_size)
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(num_classes, latent_dim)
        self.register_buffer("prior_mean", torch.zeros(num_classes, latent_dim))
        self.register_buffer("prior_covariance", torch.eye(latent_dim).repeat(num_classes, 1, 1))
        self.encoder = Encoder(config.channels, network, bottom=(height, width))
        self.decoder = Decoder(config.channels, network, bottom=(height, width))

    def encode(
        self, images: torch.Tensor, class_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the posterior, each (N, latent_dim) float32."""
        posterior = self.encoder(images, self.embedding(class_ids)).float()
        mean, log_variance = posterior.chunk(2, dim=1)
        return mean, log_variance.clamp(-14, 6)

    def forward(self, latents: torch.Tensor, class_ids: torch.Tensor) -> torch.Tensor:
        images: torch.Tensor = self.decoder(torch.cat([latents, self.embedding(class_ids)], dim=1))
        return images


class Level(nn.Module):
    """Blocks at one resolution: x (N, width, H, W), condition (N, condition_dim)."""

    def __init__(self, width: int, num_blocks: int, condition_dim: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(width, condition_dim) for _ in range(num_blocks))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, condition)
        return x


class Encoder(nn.Module):
    """images (N, C, H, W), condition (N, latent_dim) -> (N, 2 * latent_dim)."""

    def __init__(self, channels: int, network: VaeNetwork, *, bottom: tuple[int, int]) -> None:
        super().__init__()
        self.halvings, self.levels = nn.ModuleList(), nn.ModuleList()
        for width in network.widths:
            self.halvings.append(nn.Conv2d(channels, width, 4, stride=2, padding=1))
            self.levels.append(Level(width, network.num_blocks, network.latent_dim))
            channels = width
        self.posterior = nn.Linear(channels * math.prod(bottom), 2 * network.latent_dim)
        # Posteriors start near the prior.
        nn.init.normal_(self.posterior.weight, std=0.1 / math.sqrt(self.posterior.in_features))
        nn.init.zeros_(self.posterior.bias)

    def forward(self, images: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        x = images.contiguous(memory_format=torch.channels_last)
        for halving, level in zip(self.halvings, self.levels, strict=True):
            x = halving(x)
            x = level(x, condition)
        out: torch.Tensor = self.posterior(F.leaky_relu(x, SLOPE).flatten(1))
        return out


class Decoder(nn.Module):
    """condition (N, 2 * latent_dim), of latents and class -> images (N, C, H, W)."""

    def __init__(self, channels: int, network: VaeNetwork, *, bottom: tuple[int, int]) -> None:
        super().__init__()
        widths, condition_dim = network.widths[::-1], 2 * network.latent_dim
        self.start_shape = (widths[0], *bottom)
        self.start = nn.Linear(condition_dim, math.prod(self.start_shape))
        nn.init.normal_(self.start.weight, std=1 / math.sqrt(condition_dim))
        self.levels = nn.ModuleList(
            Level(width, network.num_blocks, condition_dim) for width in widths
        )
        self.narrowings = nn.ModuleList(
            convolution(wide, narrow, 1) for wide, narrow in itertools.pairwise(widths)
        )
        self.shuffle = convolution(widths[-1], widths[-1], 3)
        self.to_pixels = convolution(widths[-1] // 4, channels, 3)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, condition: torch.Tensor) -> torch.Tensor:
        x = self.start(condition).view(-1, *self.start_shape)
        x = x.contiguous(memory_format=torch.channels_last)
        for number, level in enumerate(self.levels):
            if number:
                x = F.interpolate(self.narrowings[number - 1](x), scale_factor=2, mode="bilinear")
            x = level(x, condition)
        x = F.pixel_shuffle(F.leaky_relu(self.shuffle(F.leaky_relu(x, SLOPE)), SLOPE), 2)
        return torch.tanh(self.to_pixels(x) + self.bias)


def build_vae(config: ModelConfig, network: VaeNetwork) -> Vae:
    return channels_last(Vae(config, network))
