"""A handful of classical augmentations for the classifiers of this package. Called by network.py.

The best one for the real images is chosen on a validation part of them: what synthetic images have
to beat.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

# Policy -> the steps it is made of.
POLICIES: dict[str, tuple[str, ...]] = {
    "none": (),
    "shift": ("shift",),
    "shift + flip": ("shift", "flip"),
    "shift + cutout": ("shift", "cutout"),
    "crop": ("crop",),
    "crop + flip + brightness": ("crop", "flip", "brightness"),
}

_MAX_SHIFT, _MIN_CROP, _CUTOUT, _BRIGHTNESS = 0.08, 0.75, 0.3, 0.25  # shares of side and of range


def augment(images: torch.Tensor, policy: str, rng: torch.Generator) -> torch.Tensor:
    """images: (N, C, H, W) float32 in [-1, 1], of which each is changed on its own."""
    for step in POLICIES[policy]:
        images = _STEPS[step](images, rng)
    return images


def _shift(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """By whole pixels; the edge is repeated."""
    num, _, height, width = images.shape
    rows = _moved(num, height, rng)[:, None, :, None].expand_as(images)
    columns = _moved(num, width, rng)[:, None, None, :].expand_as(images)
    return images.gather(2, rows).gather(3, columns)


def _moved(num: int, side: int, rng: torch.Generator) -> torch.Tensor:
    """(num, side) int64: which line comes where."""
    most = max(1, round(_MAX_SHIFT * side))
    by = torch.randint(-most, most + 1, (num, 1), generator=rng)
    return (torch.arange(side) + by).clamp(0, side - 1)


def _flip(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    chosen = torch.rand(len(images), 1, 1, 1, generator=rng) < 0.5
    return torch.where(chosen, images.flip(3), images)


def _cutout(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """A square of mid grey. Source: DeVries and Taylor 2017 (arXiv 1708.04552)."""
    num, _, height, width = images.shape
    within = []
    for side in (height, width):
        centre = torch.rand(num, 1, generator=rng) * side
        within.append((torch.arange(side) + 0.5 - centre).abs() < _CUTOUT * side / 2)
    hole = within[0][:, None, :, None] & within[1][:, None, None, :]
    return images.masked_fill(hole, 0.0)


def _crop(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """A window of _MIN_CROP to all of the side, scaled up."""
    num = len(images)
    scale = _MIN_CROP + (1 - _MIN_CROP) * torch.rand(num, generator=rng)
    room = (1 - scale)[:, None] * (2 * torch.rand(num, 2, generator=rng) - 1)
    affine = torch.zeros(num, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    affine[:, :, 2] = room
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _brightness(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    shape = (len(images), 1, 1, 1)
    gain = 1 + _BRIGHTNESS * (2 * torch.rand(shape, generator=rng) - 1)
    offset = _BRIGHTNESS * (2 * torch.rand(shape, generator=rng) - 1)
    return (images * gain + offset).clamp(-1, 1)


_STEPS = {
    "shift": _shift,
    "flip": _flip,
    "cutout": _cutout,
    "crop": _crop,
    "brightness": _brightness,
}
