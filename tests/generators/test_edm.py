from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.edm.options import EdmNetwork, EdmObjectiveOptions, EdmOptions
from datagen.generators.edm.sample import EdmSampler
from datagen.generators.edm.train import EdmObjective
from datagen.generators.interface import Update
from tests.generators.tiny_models import TINY, random_weights

CONFIG = TINY["edm"]
NETWORK = EdmNetwork.model_validate(CONFIG.network)


@pytest.fixture
def denoiser() -> EdmDenoiser:
    network = EdmDenoiser(CONFIG, NETWORK)
    weights = random_weights(CONFIG)
    assert weights is not None
    network.load_state_dict(weights)
    return network.eval()


def noisy_batch(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(num, 3, 8, 12, generator=rng), torch.arange(num) % 3


@torch.no_grad()
@pytest.mark.parametrize("sigma", [0.002, 0.1, 1.0, 80.0])
def test_preconditioning_equals_the_formulas_of_diffusers(
    denoiser: EdmDenoiser, sigma: float
) -> None:
    from diffusers.schedulers.scheduling_edm_dpmsolver_multistep import (
        EDMDPMSolverMultistepScheduler,
    )

    scheduler = EDMDPMSolverMultistepScheduler(
        sigma_data=NETWORK.sigma_data, prediction_type="epsilon"
    )
    noise, class_ids = noisy_batch(3)
    noisy, sigmas = noise * sigma, torch.full((3,), sigma)
    scaled = F.pixel_unshuffle(scheduler.precondition_inputs(noisy, sigmas[0]), NETWORK.patch_px)
    timesteps = 100 * scheduler.precondition_noise(sigmas)
    raw = denoiser.unet(scaled, timesteps, class_ids, return_dict=False)[0]
    raw = F.pixel_shuffle(raw, NETWORK.patch_px)
    expected = scheduler.precondition_outputs(noisy, raw, sigmas[0])
    assert torch.allclose(denoiser(noisy, sigmas, class_ids), expected, atol=1e-4)


@torch.no_grad()
def test_a_new_denoiser_starts_at_the_best_linear_estimate() -> None:
    """Its last layer is zero: D(x) = c_skip x, the posterior mean for Gaussian data."""
    network = EdmDenoiser(CONFIG, NETWORK)
    noisy, class_ids = noisy_batch(2)
    sigma = torch.tensor([0.5, 2.0])
    c_skip = 0.25 / (0.25 + sigma**2)
    assert torch.allclose(network(noisy, sigma, class_ids), c_skip.view(-1, 1, 1, 1) * noisy)


@torch.no_grad()
def test_guidance_extrapolates_from_the_null_class(denoiser: EdmDenoiser) -> None:
    """With one step the sample is the guided estimate itself."""
    estimates = {}
    for scale in (0.0, 1.0, 3.0):
        options = EdmOptions(num_inference_steps=1, guidance_scale=scale)
        sampler = EdmSampler(denoiser, batch_size=2, image_shape=(3, 8, 12), options=options)
        noise, class_ids = noisy_batch(2)
        estimates[scale] = sampler._guided(class_ids)(noise, 5.0)
    null_ids = torch.full((2,), denoiser.null_class)
    unconditional = denoiser(noisy_batch(2)[0], torch.full((2,), 5.0), null_ids)
    assert torch.allclose(estimates[0.0], unconditional, atol=1e-6)
    expected = unconditional + 3 * (estimates[1.0] - unconditional)
    assert torch.allclose(estimates[3.0], expected, atol=1e-5)
    assert not torch.allclose(estimates[1.0], unconditional, atol=1e-3)


def step(objective: EdmObjective, real: torch.Tensor, number: int) -> dict[str, float]:
    rng = torch.Generator().manual_seed(number)
    update = Update(number, number * len(real), learning_rate=2e-3, ema_decay=0.9, rng=rng)
    return objective.step(real, torch.arange(len(real)) % 3, update)


def test_the_first_loss_is_that_of_the_linear_estimate() -> None:
    """With white data of standard deviation sigma_data, the weighted loss of c_skip x is 1."""
    objective = EdmObjective(CONFIG, EdmObjectiveOptions(), seed=0)
    real = 0.5 * torch.randn(512, 3, 8, 12, generator=torch.Generator().manual_seed(5))
    assert step(objective, real, 0)["denoising"] == pytest.approx(1.0, abs=0.02)


def test_steps_learn_a_constant_image() -> None:
    objective = EdmObjective(CONFIG, EdmObjectiveOptions(), seed=0)
    real = torch.full((32, 3, 8, 12), 0.5)
    losses = [step(objective, real, number)["denoising"] for number in range(60)]
    assert sum(losses[-10:]) / 10 < 0.75 * losses[0]


@pytest.mark.parametrize("class_dropout", [0.0, 0.9])
def test_class_dropout_trains_the_null_class(class_dropout: float) -> None:
    options = EdmObjectiveOptions(class_dropout=class_dropout)
    objective = EdmObjective(CONFIG, options, seed=0)
    embedding: Any = objective.network.unet.class_embedding
    before = embedding.weight.detach().clone()
    for number in range(3):
        step(objective, noisy_batch(16)[0], number)
    moved = (embedding.weight.detach() - before).abs().sum(1) > 0
    assert bool(moved[-1]) == (class_dropout > 0)
