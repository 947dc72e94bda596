"""Views of an image: how a copy may have been moved, mirrored or disguised.

Called by copy_descriptor.py (to learn what a disguise changes) and copy_detector.py (a fixed bank
of views in which every query is looked up). Images here are (N, 1, S, S) float32 luminance in
[0, 1], S the working size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

MIN_SIZE, MAX_SIZE = 28, 56
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def working_size(height: int, width: int) -> int:
    """28, 42 or 56 pixels: descriptors pool cells of 14 and 7 to a side."""
    return min(max(min(height, width) // 14 * 14, MIN_SIZE), MAX_SIZE)


def to_luminance(images: NDArray[np.uint8], size: int) -> torch.Tensor:
    """(N, H, W, 1 or 3) uint8 => (N, 1, size, size) float32 in [0, 1]."""
    pixels = torch.from_numpy(np.array(images, copy=True)).permute(0, 3, 1, 2).float() / 255
    if pixels.shape[1] == 3:
        pixels = (pixels * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if pixels.shape[2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return pixels


@dataclass(frozen=True)
class View:
    """Seen mirrored, then made smaller by `scale`, then moved by (dx, dy) in parts of the width."""

    mirrored: bool
    scale: float
    dx: float = 0.0
    dy: float = 0.0


MOVES = (-3 / 28, 0.0, 3 / 28)
SCALES = (1.0, 0.88, 0.78)  # what a crop to that part, resized back, must be undone by


def bank_of_views() -> tuple[View, ...]:
    """Mirrored or not; as it is or smaller, as the original of a crop is; moved or not."""
    return tuple(
        View(mirrored, scale, dx, dy)
        for mirrored in (False, True)
        for scale in SCALES
        for dy in MOVES
        for dx in MOVES
    )


def from_query(view: View) -> torch.Tensor:
    """(2, 3): the query's coordinates => the view's, in affine_grid's [-1, 1]."""
    sign = -1.0 if view.mirrored else 1.0
    return torch.tensor([[sign * view.scale, 0, 2 * view.dx], [0, view.scale, 2 * view.dy]])


def see(images: torch.Tensor, *, mirrored: bool, scale: float) -> torch.Tensor:
    """The view before it is moved; what lies outside repeats the border."""
    theta = torch.tensor([[(-1.0 if mirrored else 1.0) / scale, 0, 0], [0, 1 / scale, 0]])
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Strength:
    """Of random disguises: degrees, smallest and largest part kept (crop, zoom), shift in parts of
    the width, the most of another image blended in, sigma of noise in parts of white."""

    rotation: float
    crop: float
    shift: float
    blend: float
    noise: float
    move_probability: float = 0.7
    blend_probability: float = 0.3
    zoom: float = 1.02


def disguise(images: torch.Tensor, strength: Strength, generator: torch.Generator) -> torch.Tensor:
    """Random disguises of the kinds of SSCD (Pizzi et al. 2022, arXiv 2202.10261, section 4.4):
    affine moves, blends, brightness, contrast and noise. Half of the images get black borders where
    they were moved, half repeat their edge."""
    return disguise_known(images, strength, generator)[0]


def disguise_known(
    images: torch.Tensor, strength: Strength, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same and how each was moved: (N, 2) dx, dy in affine_grid's [-1, 1]."""
    num = len(images)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(num, generator=generator) * (high - low) + low

    def chance(probability: float) -> torch.Tensor:
        return uniform(0, 1) < probability

    moved = strength.move_probability
    angle = uniform(-strength.rotation, strength.rotation) * chance(moved) * math.pi / 180
    scale = torch.where(chance(moved), uniform(strength.crop, strength.zoom), torch.ones(num))
    reach = torch.maximum(1 - scale, 2 * strength.shift * chance(moved))
    theta = similarity(angle, scale, uniform(-1, 1) * reach, uniform(-1, 1) * reach)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    half = num // 2
    seen = torch.cat(
        [
            F.grid_sample(images[rows], grid[rows], padding_mode=border, align_corners=False)
            for rows, border in ((slice(half), "zeros"), (slice(half, num), "border"))
        ]
    )
    share = column(uniform(0, strength.blend) * chance(strength.blend_probability))
    seen = (1 - share) * seen + share * images[torch.randperm(num, generator=generator)]
    seen = seen * column(uniform(0.65, 1.35)) + column(uniform(-0.1, 0.1))
    noise = torch.randn(seen.shape, generator=generator)
    seen = seen + noise * column(uniform(0, strength.noise) * chance(0.4))
    return seen.clamp(0, 1), theta[:, :, 2]


def similarity(
    angle: torch.Tensor, scale: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor
) -> torch.Tensor:
    """(N,) each => (N, 2, 3) for affine_grid."""
    cos, sin = scale * angle.cos(), scale * angle.sin()
    return torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)


def column(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)
