"""Descriptors for copy search, learned in closed form. Called by copy_detector.py.

Pixels and histograms of edge directions, projected to where images differ most against what a
disguise changes: linear discriminant analysis with every image its own class and its disguises as
that class's members (Fisher 1936; Belhumeur et al. 1997, Fisherfaces, eq. 4). Two covariances and
one eigenvalue problem: seconds where a contrastive network of equal recall takes minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from datagen.references.copy_views import Strength, disguise

NUM_DIRECTIONS = 8
RIDGE = 1e-3  # of the mean variance within
NUM_FEATURES = 14 * 14 + 7 * 7 * NUM_DIRECTIONS
FEATURE_BLOCK = 500
PAIRS, PAIRS_PER_IMAGE = 16_000, 20
PIXEL_WEIGHT, EDGE_WEIGHT = 2 / 7, 4.0

BLUR = torch.tensor([0.05448868, 0.24420134, 0.40261996, 0.24420134, 0.05448868])  # sigma 1 px


@dataclass(frozen=True)
class Descriptor:
    """mean: (features,). projection: (features, dim). Descriptors have length 1."""

    mean: torch.Tensor
    projection: torch.Tensor

    def describe(self, features: torch.Tensor) -> torch.Tensor:
        """(..., features) => (..., dim)."""
        return F.normalize((features - self.mean) @ self.projection, dim=-1)

    def half(self) -> Descriptor:
        return Descriptor(self.mean.half(), self.projection.half())

    def float(self) -> Descriptor:
        return Descriptor(self.mean.float(), self.projection.float())


def extract_features(images: torch.Tensor) -> torch.Tensor:
    """(N, 1, S, S) => (N, 588)."""
    return extract_moved(images, (0,))[:, 0]


def extract_moved(images: torch.Tensor, moves: Sequence[int]) -> torch.Tensor:
    """(N, 1, S, S) => (N, moves * moves, 588): of the images moved by (dx, dy) pixels, dy first.

    14 x 14 mean brightness, and 7 x 7 cells of 8 edge directions in square root and unit length
    (Dalal and Triggs 2005; RootSIFT, Arandjelovic and Zisserman 2012).
    """
    size, reach, count = images.shape[-1], max(abs(move) for move in moves), len(moves)
    fine, coarse = size // 14, size // 7
    centred = standardise(images)
    pixels = pool(
        F.pad(centred, (reach,) * 4, mode="replicate"),
        fine,
        [reach - move + fine * cell for move in moves for cell in range(14)],
    ).view(-1, 1, count, 14, count, 14)
    cells = pool(
        F.pad(edge_directions(centred), (reach + 1,) * 4),
        coarse + 2,
        [reach - move + coarse * cell for move in moves for cell in range(7)],
    ).view(-1, NUM_DIRECTIONS, count, 7, count, 7)
    brightness, histograms = (
        each.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2) for each in (pixels, cells)
    )
    edges = F.normalize(histograms.clamp(min=0).sqrt(), dim=2) * EDGE_WEIGHT
    return torch.cat([brightness * PIXEL_WEIGHT, edges], 2)


def pool(images: torch.Tensor, width: int, starts: Sequence[int]) -> torch.Tensor:
    """(N, C, S, S) => (N, C, starts, starts): means over squares. Two matrix products: several
    times as fast as avg_pool2d at every pixel."""
    places = torch.tensor(starts).view(-1, 1) + torch.arange(width)
    matrix = torch.zeros(len(starts), images.shape[-1]).scatter_(1, places, 1 / width)
    pooled: torch.Tensor = (matrix @ images) @ matrix.T
    return pooled


def edge_directions(centred: torch.Tensor) -> torch.Tensor:
    """(N, 1, S, S) => (N, 8, S, S): strength of the slope along each direction."""
    kernel = BLUR.view(1, 1, 1, 5)
    smooth = F.conv2d(F.pad(centred, (2, 2, 2, 2), mode="replicate"), kernel)
    smooth = F.conv2d(smooth, kernel.transpose(2, 3))
    dx = F.pad(smooth[..., 2:] - smooth[..., :-2], (1, 1, 0, 0))
    dy = F.pad(smooth[..., 2:, :] - smooth[..., :-2, :], (0, 0, 1, 1))
    angles = torch.arange(NUM_DIRECTIONS) * (2 * math.pi / NUM_DIRECTIONS)
    weights = torch.stack([angles.cos(), angles.sin()], 1).view(NUM_DIRECTIONS, 2, 1, 1)
    return F.relu(F.conv2d(torch.cat([dx, dy], 1), weights))


def standardise(images: torch.Tensor) -> torch.Tensor:
    mean = images.mean((-1, -2), keepdim=True)
    deviation = images.std((-1, -2), keepdim=True)
    return (images - mean) / (deviation + 0.02)


Change = Callable[[torch.Tensor], torch.Tensor]


def learn_descriptor(
    images: torch.Tensor,
    features: torch.Tensor,
    strength: Strength,
    *,
    dim: int,
    generator: torch.Generator,
) -> Descriptor:
    """images: (N, 1, S, S), float16 or 32, and their features."""

    def observe(some: torch.Tensor) -> torch.Tensor:
        return extract_features(disguise(some, strength, generator))

    return learn_from_changes(images, features, observe, dim=dim, generator=generator)


def learn_from_changes(
    images: torch.Tensor,
    features: torch.Tensor,
    observe: Change,
    *,
    dim: int,
    generator: torch.Generator,
) -> Descriptor:
    """observe: images => features of their disguises; PAIRS of them at most are asked for."""
    num, width = features.shape
    num_pairs = min(PAIRS, PAIRS_PER_IMAGE * num)
    rows = torch.randint(num, (num_pairs,), generator=generator)
    within = torch.zeros(width, width, dtype=torch.float64)
    for some in rows.split(FEATURE_BLOCK):
        change = observe(images[some].float()) - features[some]
        within += (change.T @ change).double()
    within /= num_pairs
    mean = features.mean(0)
    centred = features - mean
    total = (centred.T @ centred).double() / num
    within += (
        RIDGE * within.diagonal().mean().clamp(min=1e-9) * torch.eye(width, dtype=torch.float64)
    )
    whiten = torch.linalg.inv(torch.linalg.cholesky(within))
    _, vectors = torch.linalg.eigh(whiten @ total @ whiten.T)
    return Descriptor(mean, (whiten.T @ vectors[:, -dim:]).float())
