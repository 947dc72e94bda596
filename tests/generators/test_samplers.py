"""The ODE samplers against exact solutions and against diffusers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datagen.generators.edm.samplers import SAMPLERS, Denoise, karras_sigmas

MEAN, STD = 0.3, 0.5


def denoise_gaussian(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The ideal denoiser of pixels drawn from N(MEAN, STD^2)."""
    return (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)


def exact_gaussian(x: torch.Tensor, sigma_from: float, sigma_to: float) -> torch.Tensor:
    """Solution of the probability-flow ODE for denoise_gaussian (arXiv 2206.00364, equation 1)."""
    return MEAN + (x - MEAN) * math.sqrt((STD**2 + sigma_to**2) / (STD**2 + sigma_from**2))


def denoise_two_points(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The ideal denoiser of pixels that are -1 or 1: far from linear in x."""
    return torch.tanh(x / sigma**2)


def start(sigma: float) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randn(4, 1, 8, 8, generator=rng, dtype=torch.float64) * sigma


@pytest.mark.parametrize(
    ("name", "num_steps", "tolerance"),
    [("dpmpp_2m", 18, 0.11), ("dpmpp_2m", 100, 0.003), ("heun", 100, 0.003), ("euler", 500, 0.01)],
)
def test_samplers_solve_the_gaussian_case(name: str, num_steps: int, tolerance: float) -> None:
    sigmas = karras_sigmas(num_steps, sigma_min=0.002, sigma_max=80, rho=7)
    x = start(80)
    found = SAMPLERS[name](denoise_gaussian, x, sigmas)
    assert (found - exact_gaussian(x, 80, 0)).abs().max() < tolerance


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_samplers_converge_with_their_order(name: str, order: int) -> None:
    def error(num_steps: int) -> float:
        sigmas = karras_sigmas(num_steps, sigma_min=0.05, sigma_max=20, rho=7)[:-1]
        x = start(20)
        return float(
            (SAMPLERS[name](denoise_gaussian, x, sigmas) - exact_gaussian(x, 20, 0.05)).abs().max()
        )

    observed = math.log2(error(160) / error(320))
    assert observed == pytest.approx(order, abs=0.15)


def solve_with_diffusers(denoise: Denoise, x: torch.Tensor, num_steps: int) -> torch.Tensor:
    from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import (
        EDMDPMSolverMultistepScheduler,
    )

    scheduler = EDMDPMSolverMultistepScheduler(
        sigma_min=0.002,
        sigma_max=80.0,
        sigma_data=STD,
        sigma_schedule="karras",
        rho=7.0,
        solver_order=2,
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(num_steps)
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas.tolist()[:-1], strict=True):
        # The scheduler takes the network's raw output and forms D = c_skip x + c_out F itself.
        c_skip = STD**2 / (sigma**2 + STD**2)
        c_out = sigma * STD / math.sqrt(sigma**2 + STD**2)
        raw = (denoise(x, sigma) - c_skip * x) / c_out
        x = scheduler.step(raw, timestep, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("denoise", [denoise_gaussian, denoise_two_points])
@pytest.mark.parametrize("num_steps", [2, 18, 25])
def test_dpmpp_2m_equals_diffusers(denoise: Denoise, num_steps: int) -> None:
    sigmas = karras_sigmas(num_steps, sigma_min=0.002, sigma_max=80, rho=7)
    x = start(80)
    ours = SAMPLERS["dpmpp_2m"](denoise, x, sigmas)
    theirs = solve_with_diffusers(denoise, x, num_steps)
    assert (ours - theirs).abs().max() < 1e-4


@given(
    num_steps=st.integers(1, 200),
    sigma_min=st.floats(1e-4, 0.9),
    sigma_max=st.floats(1, 1000),
    rho=st.floats(1, 100),
)
def test_sigmas_fall_from_sigma_max_to_zero(
    num_steps: int, sigma_min: float, sigma_max: float, rho: float
) -> None:
    sigmas = karras_sigmas(num_steps, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    assert len(sigmas) == num_steps + 1
    assert sigmas[0] == pytest.approx(sigma_max)
    assert sigmas[-1] == 0
    assert sigmas == sorted(sigmas, reverse=True)
    if num_steps > 1:
        assert sigmas[-2] == pytest.approx(sigma_min)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_one_step_gives_the_denoised_image(name: str) -> None:
    x = start(80)
    found = SAMPLERS[name](denoise_two_points, x, [80.0, 0.0])
    assert torch.allclose(found, denoise_two_points(x, 80.0))
