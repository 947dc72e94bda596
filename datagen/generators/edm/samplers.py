"""Deterministic samplers of the probability-flow ODE: plain functions of one signature.

    sample_x(denoise, x, sigmas) -> x at sigma 0

denoise(x, sigma) estimates the clean image; sigmas descend to 0, float64 on the CPU, so that no
step waits for a device. x: (N, C, H, W) float32, already scaled by sigmas[0].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch

Denoise = Callable[[torch.Tensor, float], torch.Tensor]
Sample = Callable[[Denoise, torch.Tensor, list[float]], torch.Tensor]


def karras_sigmas(num_steps: int, *, sigma_min: float, sigma_max: float, rho: float) -> list[float]:
    """num_steps noise levels and a final 0. Source: arXiv 2206.00364, equation 5."""
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return [*((high + ramp * (low - high)) ** rho).tolist(), 0.0]


def sample_euler(denoise: Denoise, x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """First order; one call a step. Source: arXiv 2206.00364, algorithm 1 without line 6-8."""
    for sigma, sigma_next in pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        x = x + (sigma_next - sigma) * slope
    return x


def sample_heun(denoise: Denoise, x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Second order; two calls a step but the last. Source: arXiv 2206.00364, algorithm 1."""
    for sigma, sigma_next in pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        x_next = x + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope_next = (x_next - denoise(x_next, sigma_next)) / sigma_next
            x_next = x + (sigma_next - sigma) * (slope + slope_next) / 2
        x = x_next
    return x


def sample_dpmpp_2m(denoise: Denoise, x: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Second order multistep; one call a step, the last one first order.

    Source: Lu et al. 2022, DPM-Solver++ (arXiv 2211.01095), algorithm 2, in the data prediction
    form with alpha = 1 and lambda = -log sigma, as EDM has it.
    """
    previous: torch.Tensor | None = None
    log_ratio_previous = 0.0
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            return denoised
        log_ratio = math.log(sigma) - math.log(sigma_next)  # h, the step in lambda
        estimate = denoised
        if previous is not None:
            weight = log_ratio / (2 * log_ratio_previous)  # 1 / (2 r)
            estimate = (1 + weight) * denoised - weight * previous
        ratio = sigma_next / sigma
        x = ratio * x + (1 - ratio) * estimate
        previous, log_ratio_previous = denoised, log_ratio
    return x


SAMPLERS: dict[str, Sample] = {
    "dpmpp_2m": sample_dpmpp_2m,
    "heun": sample_heun,
    "euler": sample_euler,
}
