"""Residual generator and projection discriminator, without normalisation layers.

Source: Huang et al. 2024, "The GAN is dead; long live the GAN!" (R3GAN, arXiv 2501.05441),
section 4; the blocks are those of generators/blocks.py. Deviation, for the CPU: the full-resolution
stage is one pixel-shuffle head (generator) and one strided stem (discriminator).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from datagen.generators.blocks import SLOPE, ResidualBlock, convolution
from datagen.generators.cgan.layers import (
    SelfAttention,
    minibatch_deviation,
    normalize_spectrally,
)
from datagen.generators.cgan.options import CganNetwork, CganObjectiveOptions
from datagen.generators.interface import ModelConfig
from datagen.generators.weights import channels_last


class Generator(nn.Module):
    """latents (N, latent_dim), class_ids (N,) -> images (N, C, H, W) in [-1, 1].

    H and W are multiples of 4: two stages, at a quarter and at half of the resolution, then a
    pixel shuffle.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        latent_dim: int,
        widths: tuple[int, int],
        num_blocks: int,
        self_attention: bool = False,
    ) -> None:
        super().__init__()
        wide, narrow = widths
        height, width = image_size
        self.latent_dim = latent_dim
        condition_dim = 2 * latent_dim
        self.embedding = nn.Embedding(num_classes, latent_dim)
        self.start_shape = (wide, height // 4, width // 4)
        # All of the first features come from latents and class, at unit variance: with a learned
        # constant beside them the classes collapsed to a line of nearly equal images (measured).
        self.start = nn.Linear(condition_dim, math.prod(self.start_shape))
        nn.init.normal_(self.start.weight, std=1 / math.sqrt(condition_dim))
        self.low = nn.ModuleList(ResidualBlock(wide, condition_dim) for _ in range(num_blocks))
        self.attention = SelfAttention(wide) if self_attention else None
        self.to_narrow = convolution(wide, narrow, 1)
        self.high = nn.ModuleList(ResidualBlock(narrow, condition_dim) for _ in range(num_blocks))
        self.shuffle = convolution(narrow, narrow, 3)
        self.to_pixels = convolution(narrow // 4, channels, 3)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, latents: torch.Tensor, class_ids: torch.Tensor) -> torch.Tensor:
        condition = torch.cat([latents, self.embedding(class_ids)], dim=1)
        x = self.start(condition).view(-1, *self.start_shape)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.low:
            x = block(x, condition)
        if self.attention is not None:
            x = self.attention(x)
        x = F.interpolate(self.to_narrow(x), scale_factor=2, mode="bilinear")
        for block in self.high:
            x = block(x, condition)
        x = F.pixel_shuffle(F.leaky_relu(self.shuffle(F.leaky_relu(x, SLOPE)), SLOPE), 2)
        # Without tanh the discriminator tells real images by their exactly black background alone.
        return torch.tanh(self.to_pixels(x) + self.bias)


class Discriminator(nn.Module):
    """images (N, C, H, W), class_ids (N,) -> logits (N,).

    Projection onto a class embedding: Miyato & Koyama 2018 (arXiv 1802.05637), equation 3. With
    minibatch_stddev, and with it alone, a logit depends on the image's neighbours in the batch.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        image_size: tuple[int, int],
        channels: int,
        widths: tuple[int, int],
        num_blocks: int,
        self_attention: bool = False,
        spectral_norm: bool = False,
        minibatch_stddev: int = 0,
    ) -> None:
        super().__init__()
        narrow, wide = widths
        height, width = image_size
        self.stem = nn.Conv2d(channels, narrow, 4, stride=2, padding=1)
        self.high = nn.ModuleList(ResidualBlock(narrow) for _ in range(num_blocks))
        self.to_wide = convolution(narrow, wide, 1)
        self.low = nn.ModuleList(ResidualBlock(wide) for _ in range(num_blocks))
        self.attention = SelfAttention(wide) if self_attention else None
        self.minibatch_stddev = minibatch_stddev
        # One weight per place and channel, as in R3GAN's last stage.
        self.pool = nn.Conv2d(wide, wide, (height // 4, width // 4), groups=wide)
        self.embedding = nn.Embedding(num_classes, wide)
        self.features = nn.Linear(wide + bool(minibatch_stddev), wide)
        self.unconditional = nn.Linear(wide, 1)
        if spectral_norm:
            normalize_spectrally(self)

    def forward(self, images: torch.Tensor, class_ids: torch.Tensor) -> torch.Tensor:
        x = self.stem(images.contiguous(memory_format=torch.channels_last))
        for block in self.high:
            x = block(x)
        x = F.avg_pool2d(self.to_wide(x), 2)
        for block in self.low:
            x = block(x)
        if self.attention is not None:
            x = self.attention(x)
        pooled = self.pool(F.leaky_relu(x, SLOPE)).flatten(1)
        if self.minibatch_stddev:
            pooled = torch.cat([pooled, minibatch_deviation(x, self.minibatch_stddev)], dim=1)
        features = F.leaky_relu(self.features(pooled), SLOPE)
        projection = (features * self.embedding(class_ids)).sum(1) / math.sqrt(features.shape[1])
        out: torch.Tensor = self.unconditional(features).squeeze(1) + projection
        return out


def build_generator(config: ModelConfig, network: CganNetwork) -> Generator:
    generator = Generator(
        num_classes=len(config.class_names),
        image_size=config.image_size,
        channels=config.channels,
        latent_dim=network.latent_dim,
        widths=network.widths,
        num_blocks=network.num_blocks,
        self_attention=network.self_attention,
    )
    return channels_last(generator)


def build_discriminator(
    config: ModelConfig, network: CganNetwork, options: CganObjectiveOptions
) -> Discriminator:
    wide, narrow = network.widths
    discriminator = Discriminator(
        num_classes=len(config.class_names),
        image_size=config.image_size,
        channels=config.channels,
        widths=(narrow, wide),
        num_blocks=network.num_blocks,
        self_attention=network.self_attention,
        spectral_norm=options.spectral_norm,
        minibatch_stddev=options.minibatch_stddev,
    )
    return channels_last(discriminator)
