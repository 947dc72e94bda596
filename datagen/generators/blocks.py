"""The residual block that cgan and vae are made of: no normalisation layers, so that each image of
a batch is computed on its own in training too.

Source: Huang et al. 2024 (R3GAN, arXiv 2501.05441), section 4: plain residual blocks, leaky ReLU,
scaled initialisation instead of normalisation; plain 3x3 instead of grouped convolutions, for the
CPU. The condition modulates each block (Karras et al. 2019, arXiv 1812.04948, section 2, without
the norm).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

SLOPE = 0.2


def convolution(channels_in: int, channels_out: int, size: int, gain: float = 1.0) -> nn.Conv2d:
    """Odd size, same resolution, no bias; keeps the variance of leaky ReLUs, times gain squared."""
    conv = nn.Conv2d(channels_in, channels_out, size, padding=size // 2, bias=False)
    std = gain * math.sqrt(2.0 / (1 + SLOPE**2)) / math.sqrt(channels_in * size * size)
    nn.init.normal_(conv.weight, std=std)
    return conv


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x) * scale))); the last convolution starts near zero (Fixup)."""

    def __init__(self, channels: int, condition_dim: int = 0) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels, 3)
        self.bias1 = nn.Parameter(torch.zeros(channels, 1, 1))
        self.conv2 = convolution(channels, channels, 3, gain=0.1)
        self.modulation = nn.Linear(condition_dim, channels) if condition_dim else None
        if self.modulation is not None:
            nn.init.normal_(self.modulation.weight, std=0.5 / math.sqrt(condition_dim))
            nn.init.zeros_(self.modulation.bias)

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        h = self.conv1(F.leaky_relu(x, SLOPE)) + self.bias1
        h = F.leaky_relu(h, SLOPE)
        if self.modulation is not None and condition is not None:
            h = h * (1 + self.modulation(condition))[:, :, None, None]
        out: torch.Tensor = x + self.conv2(h)
        return out
