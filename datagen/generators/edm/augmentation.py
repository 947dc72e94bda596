"""Augmentation that does not leak: the network is told what was done to each image, and at sampling
that nothing was. Called by edm/train.py.

Source: Karras et al. 2022 (arXiv 2206.00364), appendix F.1 and table 6: the geometric transforms
and the nine numbers that tell of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import get_args

import torch
from torch.nn import functional as F

from datagen.generators.edm.options import Transform

# 1 + 1 flips, 1 scale, 2 rotation, 2 stretch, 2 translation.
NUM_LABELS = 9
_SCALE_STD = 0.2  # of log2 of the factor, of stretch too
_TRANSLATION_STD = 0.125  # of the side


def augment(
    images: torch.Tensor,
    *,
    probability: float,
    transforms: Collection[Transform],
    rng: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image undergoes each of `transforms` with this probability, on its own.

    images: (N, C, H, W) on any device; rng: on the CPU. What leaves the image shows its mirror.
    Returns (N, C, H, W), untouched images bit for bit, and (N, NUM_LABELS): 0 of an untouched one.
    """
    num = len(images)
    # Everything is drawn, whatever is applied: what one transform does never depends on another.
    chosen = torch.tensor([name in transforms for name in get_args(Transform)])
    applied = ((torch.rand(6, num, generator=rng) < probability) & chosen.view(6, 1)).float()
    flips = applied[:2] * (torch.rand(2, num, generator=rng) < 0.5)
    angle, axis = (2 * torch.rand(2, num, generator=rng) - 1) * math.pi * applied[3:5]
    scale, stretch = torch.randn(2, num, generator=rng) * applied[[2, 4]]
    shift = torch.randn(2, num, generator=rng) * applied[5]
    labels = torch.stack(
        [
            *flips,
            scale,
            angle.cos() - 1,
            angle.sin(),
            stretch * axis.cos(),
            stretch * axis.sin(),
            *shift,
        ],
        dim=1,
    )
    # From the output to the input: the inverse of each, in the opposite order.
    ratio = torch.exp2(_SCALE_STD * stretch)
    matrix = (
        _diagonal(1 - 2 * flips[0], 1 - 2 * flips[1])
        @ _diagonal(*torch.exp2(-_SCALE_STD * scale).expand(2, num))
        @ _rotation(-angle)
        @ _rotation(axis)
        @ _diagonal(1 / ratio, ratio)
        @ _rotation(-axis)
    )
    moved = _resample(images, matrix, _TRANSLATION_STD * shift.T)
    touched = (labels != 0).any(dim=1).to(images.device)
    return torch.where(touched.view(-1, 1, 1, 1), moved, images), labels.to(images.device)


def _resample(images: torch.Tensor, matrix: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """matrix: (N, 2, 2), about the centre, x before y, in pixels. shift: (N, 2), of the sides."""
    height, width = images.shape[2:]
    # affine_grid counts from -1 to 1 over each side.
    sides = torch.tensor([width, height], dtype=matrix.dtype)
    normalized = matrix * sides.view(1, 1, 2) / sides.view(1, 2, 1)
    offset = normalized @ (-2 * shift).unsqueeze(2)
    theta = torch.cat([normalized, offset], dim=2).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _diagonal(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.diag_embed(torch.stack([x, y], dim=1))


def _rotation(angle: torch.Tensor) -> torch.Tensor:
    """(N,) radians => (N, 2, 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
