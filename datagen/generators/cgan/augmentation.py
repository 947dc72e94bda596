"""Differentiable augmentation of what the discriminator sees, real and generated alike.

Source: Zhao et al. 2020 (arXiv 2006.10738), each transform with a probability below one, so that it
does not leak into the samples (Karras et al. 2020, arXiv 2006.06676, section 2.2).
"""

from __future__ import annotations

import torch

from datagen.generators.cgan.options import CganObjectiveOptions


def augment(
    images: torch.Tensor,
    options: CganObjectiveOptions,
    *,
    probability: float,
    rng: torch.Generator,
) -> torch.Tensor:
    """Each transform that the options name, of each image, with the probability.

    images: (N, C, H, W) in [-1, 1], on any device; rng: on the CPU.
    """
    if probability == 0:
        return images
    if options.color:
        images = recolor(images, probability, rng)
    if options.translation_px:
        images = translate(images, options.translation_px, probability, rng)
    if options.cutout_share:
        images = cut_out(images, options.cutout_share, probability, rng)
    return images


def translate(
    images: torch.Tensor, shift_px: int, probability: float, rng: torch.Generator
) -> torch.Tensor:
    """Shifts each image by up to shift_px with the given probability; edges repeat.

    images: (N, C, H, W). Differentiable: a gather of pixels.
    """
    num, _, height, width = images.shape
    shift = torch.randint(-shift_px, shift_px + 1, (2, num), generator=rng)
    shift = (shift * (torch.rand(num, generator=rng) < probability)).to(images.device)
    sides = (torch.arange(side, device=images.device) for side in (height, width))
    rows, cols = (
        (places + moved[:, None]).clamp(0, len(places) - 1)  # (N, H), (N, W)
        for places, moved in zip(sides, shift, strict=True)
    )
    picked = images.permute(0, 2, 3, 1)[
        torch.arange(num, device=images.device)[:, None, None], rows[:, :, None], cols[:, None, :]
    ]
    return picked.permute(0, 3, 1, 2)


def recolor(images: torch.Tensor, probability: float, rng: torch.Generator) -> torch.Tensor:
    """Brightness up or down by up to 0.5, saturation times 0 to 2, contrast times 0.5 to 1.5, each
    with the probability. images: (N, C, H, W); grey ones have no saturation."""
    num = len(images)
    shift, saturation, contrast = (
        torch.where(torch.rand(num, generator=rng) < probability, drawn, neutral)
        .view(-1, 1, 1, 1)
        .to(images.device)
        for drawn, neutral in (
            (torch.rand(num, generator=rng) - 0.5, 0.0),
            (torch.rand(num, generator=rng) * 2, 1.0),
            (torch.rand(num, generator=rng) + 0.5, 1.0),
        )
    )
    images = images + shift
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * saturation
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * contrast


def cut_out(
    images: torch.Tensor, share: float, probability: float, rng: torch.Generator
) -> torch.Tensor:
    """A rectangle of `share` of both sides becomes mid-grey, its centre anywhere in the image, with
    the probability. images: (N, C, H, W)."""
    num, _, *sides = images.shape
    is_cut = torch.rand(num, generator=rng) < probability
    inside = []
    for side in sides:
        size = max(1, round(side * share))
        first = torch.randint(side, (num, 1), generator=rng) - size // 2
        places = torch.arange(side)
        inside.append((places >= first) & (places < first + size))  # (N, side)
    hole = inside[0][:, :, None] & inside[1][:, None, :] & is_cut[:, None, None]
    return images.masked_fill(hole[:, None].to(images.device), 0.0)
