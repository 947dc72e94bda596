"""Lays originals over their supposed copy and says how well they agree. Called by copy_detector.py.

Inverse-compositional Gauss-Newton on an affine move together with gain and offset of brightness
(Baker and Matthews 2004, "Lucas-Kanade 20 years on", section 3.2; photometric columns as in
Bartoli 2008): the copy is the template, so that one least-squares solution serves all candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

DAMPING = 3e-3
MIN_GAIN = 0.2
MIN_OVERLAP = 0.5  # of the pixels, else nothing can be said
LOW_PASS = torch.tensor([0.06136, 0.24477, 0.38774, 0.24477, 0.06136])  # sigma 1 px
LONGEST_STEP = 0.15
CHUNK = 4  # copies at a time: their candidates fit the processor's cache, 1.6 times as fast
# Of [x by u, by v, by 1, y by u, by v, by 1].
AFFINE = torch.eye(6)
SIMILARITY = torch.tensor(
    [
        [1.0, 0, 0, 0, 1, 0],  # zoom
        [0, -1, 0, 1, 0, 0],  # rotation
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
    ]
)


@dataclass(frozen=True)
class Fit:
    """theta: (B, K, 2, 3), the copy's coordinates => the original's. smooth, detail: (B, K)
    correlations after a light blur, and of fine structure alone."""

    theta: torch.Tensor
    smooth: torch.Tensor
    detail: torch.Tensor


def register(
    copies: torch.Tensor,
    originals: torch.Tensor,
    theta: torch.Tensor,
    *,
    coarse_steps: int = 0,
    fine_steps: int = 0,
    affine_steps: int = 0,
) -> Fit:
    """copies: (B, 1, S, S); originals: (B, K, 1, S, S); theta: (B, K, 2, 3), where to start. The
    coarse steps see images blurred by two pixels: they reach further. Only the affine steps may
    shear and stretch, which would make look-alikes more alike."""
    parts = [
        _register(*some, coarse_steps, fine_steps, affine_steps)
        for some in zip(
            copies.split(CHUNK), originals.split(CHUNK), theta.split(CHUNK), strict=True
        )
    ]
    return Fit(
        torch.cat([each.theta for each in parts]),
        torch.cat([each.smooth for each in parts]),
        torch.cat([each.detail for each in parts]),
    )


def _register(
    copies: torch.Tensor,
    originals: torch.Tensor,
    theta: torch.Tensor,
    coarse_steps: int,
    fine_steps: int,
    affine_steps: int,
) -> Fit:
    num, count = theta.shape[:2]
    target = blur(copies)
    flat_target = target.flatten(1).unsqueeze(1)
    flat = originals.flatten(0, 1)
    smooth = blur(flat)
    if coarse_steps:
        blurred = blur_more(target), blur_more(smooth)
        theta = _descend(*blurred, theta, SIMILARITY, coarse_steps)
    theta = _descend(target, smooth, theta, SIMILARITY, fine_steps)
    theta = _descend(target, smooth, theta, AFFINE, affine_steps)
    both, inside = sample(torch.cat([smooth, flat - blur(smooth)], 1), theta.flatten(0, 1))
    overlap = inside.view(num, count, -1)
    layers = both.view(num, count, 2, -1)
    fine = (copies - blur(target)).flatten(1).unsqueeze(1)
    return Fit(
        theta,
        correlation(flat_target, layers[:, :, 0], overlap),
        correlation(fine, layers[:, :, 1], overlap),
    )


def _descend(
    target: torch.Tensor,
    source: torch.Tensor,
    theta: torch.Tensor,
    freedom: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """target: (B, 1, S, S); source: (B * K, 1, S, S)."""
    num, count = theta.shape[:2]
    solver = solver_of(target, freedom).transpose(1, 2)  # (B, S * S, 8)
    flat = target.flatten(1).unsqueeze(1)
    for _ in range(steps):
        seen, inside = sample(source, theta.flatten(0, 1))
        filled = _fill(seen.view(num, count, -1), flat, inside.view(num, count, -1))
        theta = compose(theta, filled @ solver)
    return theta


def solver_of(target: torch.Tensor, freedom: torch.Tensor) -> torch.Tensor:
    """Damped least squares onto [moves of the target (6), the target, 1]: (B, 8, S * S).
    freedom: (moves, 6), the moves that are allowed."""
    dx, dy = (slope.flatten(1) for slope in gradients(target))
    u, v = (axis.reshape(-1) for axis in coordinates(target.shape[-1]))
    value = target.flatten(1)
    affine = torch.stack([dx * u, dx * v, dx, dy * u, dy * v, dy], 1)
    columns = torch.cat([freedom @ affine, torch.stack([value, torch.ones_like(value)], 1)], 1)
    normal = columns @ columns.transpose(1, 2)
    size = normal.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-6).view(-1, 1, 1)
    damping = DAMPING * size * torch.eye(columns.shape[1])
    solved: torch.Tensor = torch.linalg.solve(normal + damping, columns)
    return torch.cat([freedom.T @ solved[:, :-2], solved[:, -2:]], 1)


def compose(theta: torch.Tensor, solved: torch.Tensor) -> torch.Tensor:
    """theta after the inverse of the small move that was solved for. solved: (B, K, 8)."""
    gain = solved[..., 6:7].clamp(min=MIN_GAIN)
    move = (solved[..., :6] / gain).clamp(-LONGEST_STEP, LONGEST_STEP).unflatten(-1, (2, 3))
    square, shift = torch.eye(2) + move[..., :2], move[..., 2:]
    a, b = square[..., 0, 0], square[..., 0, 1]
    c, d = square[..., 1, 0], square[..., 1, 1]
    determinant = a * d - b * c
    inverse = torch.stack([d, -b, -c, a], -1).unflatten(-1, (2, 2)) / determinant[..., None, None]
    linear = theta[..., :2] @ inverse
    return torch.cat([linear, theta[..., 2:] - linear @ shift], -1)


def align(copies: torch.Tensor, originals: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """(B * K, 1, S, S): the originals as the copies show them, filled up outside."""
    num, count = theta.shape[:2]
    seen, inside = sample(originals.flatten(0, 1), theta.flatten(0, 1))
    target = copies.flatten(1).unsqueeze(1)
    filled = _fill(seen.view(num, count, -1), target, inside.view(num, count, -1))
    return filled.view(num * count, 1, *copies.shape[-2:])


def sample(images: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(P, C, S, S) as seen through theta, and (P, S, S): 1 where that lies inside them."""
    size = images.shape[-1]
    u, v = (axis.reshape(-1) for axis in coordinates(size))
    places = theta @ torch.stack([u, v, torch.ones_like(u)])  # faster than affine_grid
    x, y = places.abs().unbind(1)
    inside = (torch.maximum(x, y) <= 1).float().view(-1, size, size)
    grid = places.transpose(1, 2).view(-1, size, size, 2)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return seen, inside


def _fill(seen: torch.Tensor, target: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Outside the original, what the target shows there in the original's brightness."""
    count = inside.sum(-1, keepdim=True).clamp(min=1)
    mean_seen = (seen * inside).sum(-1, keepdim=True) / count
    mean_target = (target * inside).sum(-1, keepdim=True) / count
    shift_target = target - mean_target
    gain = ((seen - mean_seen) * shift_target * inside).sum(-1, keepdim=True) / (
        shift_target.square() * inside
    ).sum(-1, keepdim=True).clamp(min=1e-6)
    return inside * seen + (1 - inside) * (mean_seen + gain.clamp(min=0) * shift_target)


def correlation(a: torch.Tensor, b: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """(..., pixels) each => (...) in [-1, 1] over the pixels inside; -1 where those are few."""
    count = inside.sum(-1, keepdim=True).clamp(min=1)
    a = (a - (a * inside).sum(-1, keepdim=True) / count) * inside
    b = (b - (b * inside).sum(-1, keepdim=True) / count) * inside
    norm = (a.square().sum(-1) * b.square().sum(-1)).sqrt().clamp(min=1e-6)
    enough = count.squeeze(-1) >= MIN_OVERLAP * inside.shape[-1]
    return torch.where(enough, (a * b).sum(-1) / norm, -1.0)


def blur(images: torch.Tensor) -> torch.Tensor:
    """(P, C, S, S): Gaussian of 1 pixel, edges repeated. Two matrix products: ten times as fast as
    a convolution of one channel."""
    matrix = blur_matrix(images.shape[-1])
    blurred: torch.Tensor = (matrix @ images) @ matrix.T
    return blurred


def blur_more(images: torch.Tensor) -> torch.Tensor:
    """What was blurred by 1 pixel, by 2."""
    matrix = blur_matrix(images.shape[-1])
    matrix = matrix @ matrix @ matrix
    blurred: torch.Tensor = (matrix @ images) @ matrix.T
    return blurred


def blur_matrix(size: int) -> torch.Tensor:
    """(S, S): row i holds the weights of pixel i's neighbours."""
    reach = len(LOW_PASS) // 2
    places = (torch.arange(size).view(-1, 1) + torch.arange(-reach, reach + 1)).clamp(0, size - 1)
    return torch.zeros(size, size).scatter_add_(1, places, LOW_PASS.expand(size, -1).contiguous())


def gradients(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Along x and y, per unit of affine_grid's [-1, 1]."""
    half = images.shape[-1] / 4
    dx = F.pad(images[..., 2:] - images[..., :-2], (1, 1, 0, 0)) * half
    dy = F.pad(images[..., 2:, :] - images[..., :-2, :], (0, 0, 1, 1)) * half
    return dx, dy


def coordinates(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """u, v: (S, S) each, pixel centres in [-1, 1]."""
    axis = (torch.arange(size) * 2 + 1) / size - 1
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    return u, v
