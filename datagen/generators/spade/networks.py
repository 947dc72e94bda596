"""A generator that label maps modulate at every resolution, and its discriminators.

Source: Park et al. 2019, "Semantic image synthesis with spatially-adaptive normalization" (SPADE,
arXiv 1903.07291): equations 1 to 3, figures 2 to 4 and appendix A. Deviations: no statistics of
batches, so that an image depends on its own seed and map alone, in training too; low resolutions
read the share of each label in a pixel, not the nearest label; latents modulate every block beside
the map, for instance normalisation leaves little of them; spectral normalisation in the
discriminators alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from datagen.generators.encoding import num_channels
from datagen.generators.interface import ModelConfig
from datagen.generators.spade.options import SpadeNetwork, SpadeObjectiveOptions
from datagen.generators.weights import channels_last

_SLOPE = 0.2


class Spade(nn.Module):
    """Instance normalisation, then scale and shift: by label map at each place, by style in each
    channel. x: (N, C, H, W). planes: (N, K, H, W). style: (N, D)."""

    def __init__(self, channels: int, *, num_planes: int, style_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(num_planes, hidden_dim, 3, padding=1)
        self.from_map = nn.Conv2d(hidden_dim, 2 * channels, 3, padding=1)
        self.from_style = nn.Linear(style_dim, 2 * channels)

    def forward(self, x: torch.Tensor, planes: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        modulation = self.from_map(F.relu(self.shared(planes)))
        modulation = modulation + self.from_style(style)[:, :, None, None]
        scale, shift = modulation.chunk(2, dim=1)
        out: torch.Tensor = _normalised(x) * (1 + scale) + shift
        return out


class SpadeBlock(nn.Module):
    """Two convolutions beside a shortcut, all of them after a Spade (figure 4, left)."""

    def __init__(
        self, channels_in: int, channels_out: int, *, num_planes: int, style_dim: int, hidden: int
    ) -> None:
        super().__init__()
        middle = min(channels_in, channels_out)

        def spade(channels: int) -> Spade:
            return Spade(channels, num_planes=num_planes, style_dim=style_dim, hidden_dim=hidden)

        self.norm1, self.norm2 = spade(channels_in), spade(middle)
        self.conv1 = nn.Conv2d(channels_in, middle, 3, padding=1)
        self.conv2 = nn.Conv2d(middle, channels_out, 3, padding=1)
        self.norm_skip = self.skip = None
        if channels_in != channels_out:
            self.norm_skip = spade(channels_in)
            self.skip = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: torch.Tensor, planes: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.leaky_relu(self.norm1(x, planes, style), _SLOPE))
        h = self.conv2(F.leaky_relu(self.norm2(h, planes, style), _SLOPE))
        if self.skip is not None and self.norm_skip is not None:
            x = self.skip(self.norm_skip(x, planes, style))
        out: torch.Tensor = x + h
        return out


class SpadeGenerator(nn.Module):
    """latents (N, latent_dim), class_ids (N,), planes (N, K, H, W) -> (N, C, H, W) in [-1, 1]."""

    def __init__(self, config: ModelConfig, network: SpadeNetwork) -> None:
        super().__init__()
        assert config.condition is not None
        self.latent_dim = network.latent_dim
        self.num_planes = num_channels(config.condition)
        widths = network.widths
        height, width = (side >> (len(widths) - 1) for side in config.image_size)
        self.start_shape = (widths[0], height, width)
        num_classes = len(config.class_names)
        self.embedding = nn.Embedding(num_classes, network.latent_dim) if num_classes > 1 else None
        style_dim = network.latent_dim * (2 if num_classes > 1 else 1)
        self.start = nn.Linear(style_dim, math.prod(self.start_shape))
        self.levels = nn.ModuleList(
            nn.ModuleList(
                SpadeBlock(
                    before if number == 0 else channels,
                    channels,
                    num_planes=self.num_planes,
                    style_dim=style_dim,
                    hidden=network.hidden_dim,
                )
                for number in range(network.num_blocks)
            )
            for before, channels in zip((widths[0], *widths), widths, strict=False)
        )
        self.to_pixels = nn.Conv2d(widths[-1], config.channels, 3, padding=1)

    def forward(
        self, latents: torch.Tensor, class_ids: torch.Tensor, planes: torch.Tensor
    ) -> torch.Tensor:
        style = latents
        if self.embedding is not None:
            style = torch.cat([latents, self.embedding(class_ids)], dim=1)
        x = self.start(style).view(-1, *self.start_shape)
        x = x.contiguous(memory_format=torch.channels_last)
        planes = planes.contiguous(memory_format=torch.channels_last)
        for number, blocks in enumerate(self.levels):
            if number:
                x = F.interpolate(x, scale_factor=2, mode="nearest")
            factor = planes.shape[2] // x.shape[2]
            seen = F.avg_pool2d(planes, factor) if factor > 1 else planes
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                x = block(x, seen, style)
        return torch.tanh(self.to_pixels(F.leaky_relu(x, _SLOPE)))


class PatchDiscriminator(nn.Module):
    """images beside their planes (N, C + K, H, W) -> features of each layer, the logits of places
    the last. Source: appendix A of SPADE; Isola et al. 2017 (arXiv 1611.07004), section 3.2."""

    def __init__(self, channels_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        sides = zip((channels_in, *widths), widths, strict=False)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in sides
        )
        self.to_logits = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number:
                x = _normalised(x)
            x = F.leaky_relu(x, _SLOPE)
            features.append(x)
        return [*features, self.to_logits(x)]


class Discriminators(nn.Module):
    """images (N, C, H, W), planes (N, K, H, W) -> the features of each scale.

    Source: Wang et al. 2018 (pix2pixHD, arXiv 1711.11585), section 3.2.
    """

    def __init__(self, config: ModelConfig, options: SpadeObjectiveOptions) -> None:
        super().__init__()
        assert config.condition is not None
        channels = config.channels + num_channels(config.condition)
        self.scales = nn.ModuleList(
            PatchDiscriminator(channels, options.discriminator_widths)
            for _ in range(options.num_scales)
        )

    def forward(self, images: torch.Tensor, planes: torch.Tensor) -> list[list[torch.Tensor]]:
        x = torch.cat([images, planes], dim=1).contiguous(memory_format=torch.channels_last)
        found = []
        for number, scale in enumerate(self.scales):
            if number:
                x = F.avg_pool2d(x, 2)
            found.append(scale(x))
        return found


def _normalised(x: torch.Tensor) -> torch.Tensor:
    """Each channel of each image to mean 0 and variance 1. In float32, and not as a group norm of
    one channel a group: that took half of a step in bfloat16 on the CPU."""
    return F.instance_norm(x.float()).to(x.dtype, memory_format=torch.channels_last)


def build_generator(config: ModelConfig, network: SpadeNetwork) -> SpadeGenerator:
    return channels_last(SpadeGenerator(config, network))


def build_discriminators(config: ModelConfig, options: SpadeObjectiveOptions) -> Discriminators:
    return channels_last(Discriminators(config, options))
