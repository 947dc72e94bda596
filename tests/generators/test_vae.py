from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.vae.options import VaeObjectiveOptions
from datagen.generators.vae.prior import ClassMoments
from datagen.generators.vae.sample import VaeSampler, square_roots
from datagen.generators.vae.train import VaeObjective, divergence_nats, gaussian_nats
from tests.generators.tiny_models import TINY

CONFIG = TINY["vae"]
NUM_CLASSES = len(CONFIG.class_names)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objective_of(config: ModelConfig = CONFIG, **options: Any) -> VaeObjective:
    return VaeObjective(config, VaeObjectiveOptions(**options), seed=0)


def striped(num: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images bright above or below by class, of a brightness that differs within the class."""
    class_ids = torch.arange(num) % NUM_CLASSES
    bright = torch.rand(num, 1, 1, 1, generator=rng(seed)).expand(num, 3, 4, 12)
    images = torch.full((num, 3, 8, 12), -1.0)
    for row, class_id in enumerate(class_ids):
        images[row, :, 2 * int(class_id) : 2 * int(class_id) + 4] += bright[row]
    return images, class_ids


def run(objective: VaeObjective, steps: range, *, num: int = 24) -> list[dict[str, float]]:
    return [
        objective.step(
            *striped(num, seed=number),
            Update(number, num * number, learning_rate=3e-3, ema_decay=0.9, rng=rng(number)),
        )
        for number in steps
    ]


def test_the_divergence_is_that_of_two_normals() -> None:
    mean, log_variance = torch.randn(2, 5, 4, generator=rng())
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    found = divergence_nats(mean, log_variance, free=0.0)
    assert found.item() == pytest.approx(expected.sum(1).mean().item(), rel=1e-5)


def test_a_dimension_below_its_free_bits_has_no_gradient() -> None:
    mean = torch.tensor([[0.1, 2.0], [0.1, 2.0]], requires_grad=True)
    found = divergence_nats(mean, torch.zeros(2, 2), free=0.5)
    assert found.item() == pytest.approx(0.5 + 2.0)
    found.backward()
    assert mean.grad is not None
    assert mean.grad.tolist() == [[0.0, 1.0], [0.0, 1.0]]


def test_the_likelihood_is_gaussian_with_the_error_as_its_variance() -> None:
    real = torch.zeros(4, 1, 8, 8)
    decoded = 0.3 * torch.randn(4, 1, 8, 8, generator=rng())
    sigma = decoded.square().mean().sqrt()
    expected = -Normal(decoded, sigma).log_prob(real).mean()
    assert gaussian_nats(decoded, real).item() == pytest.approx(expected.item(), rel=1e-5)
    others = [-Normal(decoded, s * sigma).log_prob(real).mean() for s in (0.8, 1.25)]
    assert all(expected < other for other in others)


def test_a_perfect_reconstruction_has_a_finite_likelihood() -> None:
    assert math.isfinite(gaussian_nats(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)).item())


def test_the_kl_weight_rises_over_the_warm_up() -> None:
    objective = objective_of(kl_weight=2.0, kl_warmup_images=100)
    weights = [objective._kl_weight(seen) for seen in (0, 50, 100, 10**9)]
    assert weights == [0.0, 1.0, 2.0, 2.0]
    assert objective_of(kl_weight=2.0)._kl_weight(0) == 2.0


def test_moments_fit_the_aggregate_posterior_of_each_class() -> None:
    """Its covariance is that of the means plus the mean of the variances."""
    moments = ClassMoments(torch.zeros(2, 3), torch.eye(3).repeat(2, 1, 1))
    mean, log_variance = torch.randn(2, 4000, 3, generator=rng())
    class_ids = torch.arange(4000) % 2
    moments.observe(mean, log_variance, class_ids, decay=0.0)
    means, covariances = moments.fit()
    for class_id in range(2):
        rows = class_ids == class_id
        assert torch.allclose(means[class_id], mean[rows].mean(0), atol=1e-4)
        expected = mean[rows].T.cov(correction=0) + log_variance[rows].exp().mean(0).diag()
        assert torch.allclose(covariances[class_id], expected, atol=1e-3)


def test_moments_forget_only_classes_that_are_seen() -> None:
    moments = ClassMoments(torch.zeros(3, 1), torch.eye(1).repeat(3, 1, 1))
    for value in (4.0, 8.0):
        moments.observe(torch.full((1, 1), value), torch.zeros(1, 1), torch.tensor([1]), decay=0.5)
    means, covariances = moments.fit()
    assert means.flatten().tolist() == pytest.approx([0, (0.5 * 4 + 8) / 1.75, 0])
    assert covariances[0].item() == covariances[2].item() == 1.0


def test_moments_are_averaged_over_processes() -> None:
    def average(seen: list[torch.Tensor]) -> None:
        for tensor in seen:
            tensor.mul_(2)

    moments = ClassMoments(torch.zeros(1, 1), torch.eye(1)[None])
    ones = torch.ones(1, 1)
    moments.observe(ones, ones, torch.tensor([0]), decay=1.0, average=average)
    assert moments.fit()[0].item() == pytest.approx(2 / 3)


def test_square_roots_square_to_the_covariance() -> None:
    factors = np.random.default_rng(0).normal(size=(3, 4, 4))
    covariances = factors @ factors.swapaxes(1, 2)
    roots = square_roots(covariances)
    assert np.allclose(roots @ roots, covariances)
    assert np.allclose(square_roots(np.diag([4.0, -1e-9])[None]), np.diag([2.0, 0.0])[None])


def test_samples_follow_the_prior_of_their_class() -> None:
    objective = objective_of()
    network = objective.ema
    network.prior_mean[1] = torch.tensor([5.0, 0, 0, 0])
    network.prior_covariance[1] = torch.diag(torch.tensor([4.0, 1.0, 1.0, 1.0]))
    seen = []
    network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    sampler = VaeSampler(network, batch_size=500, temperature=0.5)
    sampler.sample(range(500), [1] * 500)
    sampler.sample(range(500), [0] * 500)
    assert seen[0].mean(0).tolist() == pytest.approx([5, 0, 0, 0], abs=0.2)
    assert seen[0].std(0).tolist() == pytest.approx([1, 0.5, 0.5, 0.5], rel=0.1)
    assert seen[1].std(0).tolist() == pytest.approx([0.5] * 4, rel=0.1)


def test_steps_learn_the_classes_and_what_differs_within_them() -> None:
    objective = objective_of()
    losses = run(objective, range(150))
    assert losses[-1]["reconstruction"] < losses[0]["reconstruction"] - 1
    sampler = objective.ema_sampler(50)
    for class_id in range(NUM_CLASSES):
        images = sampler.sample(range(50), [class_id] * 50).astype(np.float64)
        rows = images.mean(axis=(0, 2, 3))
        bright = set(np.argsort(rows)[-4:].tolist())
        assert bright == set(range(2 * class_id, 2 * class_id + 4))
        brightness = images[:, 2 * class_id : 2 * class_id + 4].mean(axis=(1, 2, 3))
        assert 15 < brightness.std() < 60, "real ones differ by 37"


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_loaded_state_goes_on_as_the_saved_one() -> None:
    objective, resumed = objective_of(), VaeObjective(CONFIG, VaeObjectiveOptions(), seed=9)
    run(objective, range(3))
    resumed.load_state({k: v.detach().clone() for k, v in objective.state().items()})
    run(objective, range(3, 5))
    run(resumed, range(3, 5))
    assert same(objective.state(), resumed.state())
    assert same(objective.ema_weights(), resumed.ema_weights())


def test_a_start_from_a_model_has_its_samples_and_a_new_class_their_mean() -> None:
    first = objective_of()
    run(first, range(10))
    config = ModelConfig("vae", ("new", "bar", "disc"), (8, 12), 3, CONFIG.network)
    second = objective_of(config)
    weights = {k: v.clone() for k, v in first.ema_weights().items()}
    second.init_from(weights, [None, 2, 0])
    found = second.ema_sampler(4).sample([1, 2, 3, 4], [1, 1, 2, 2])
    assert np.array_equal(found, first.ema_sampler(4).sample([1, 2, 3, 4], [2, 2, 0, 0]))
    assert torch.allclose(second.ema.embedding.weight[0], weights["embedding.weight"].mean(0))
    assert same(dict(second.network.named_parameters()), dict(second.ema.named_parameters()))


def test_a_start_from_another_network_is_refused() -> None:
    wide = ModelConfig("vae", CONFIG.class_names, (8, 12), 3, {"latent_dim": 5, "widths": [4, 8]})
    with pytest.raises(ModelError, match="give the model recipe that model's network"):
        objective_of().init_from(objective_of(wide).ema_weights(), [0, 1, 2])
