from __future__ import annotations

import numpy as np
import pytest
import torch

from datagen.generators.ect.options import EctObjectiveOptions, EctOptions
from datagen.generators.ect.sample import EctSampler, noise_levels
from datagen.generators.ect.train import EctObjective, lower_level, stage_of
from datagen.generators.edm.options import EdmObjectiveOptions, EdmOptions
from datagen.generators.edm.sample import EdmSampler
from datagen.generators.edm.train import EdmObjective
from datagen.generators.interface import ModelConfig, Sampler, Update
from datagen.generators.weights import from_uint8_nhwc
from tests.generators.tiny_models import TINY, random_weights
from tests.training.tiny_data import tiny_images

CONFIG, SHAPE = TINY["ect"], (3, 8, 12)


def tuned_from_random(options: EctObjectiveOptions) -> EctObjective:
    """Tuning of an edm with random weights."""
    objective = EctObjective(CONFIG, options, seed=0)
    weights = random_weights(TINY["edm"])
    assert weights is not None
    objective.init_from(weights, [0, 1, 2])
    return objective


def real_batch(num: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    return 0.5 * torch.randn(num, *SHAPE, generator=rng), torch.arange(num) % 3


def step(objective: EctObjective | EdmObjective, number: int, num: int = 8) -> dict[str, float]:
    rng = torch.Generator().manual_seed(number)
    update = Update(number, number * num, learning_rate=1e-3, ema_decay=0.9, rng=rng)
    return objective.step(*real_batch(num), update)


def test_the_lower_level_is_that_of_the_paper() -> None:
    """n(t) is 1 + 8 sigmoid(-t): 5 at 0, 3.15 at 1, 1 far above."""
    t = torch.tensor([1e-3, 1.0, 80.0])
    first, fourth = (lower_level(t, stage, EctObjectiveOptions()) for stage in (0, 3))
    assert first.tolist() == pytest.approx([0, 0, 40])
    assert fourth.tolist() == pytest.approx([1e-3 * (1 - 5 / 16), 1 - 3.1515 / 16, 75], rel=1e-3)


def test_the_levels_draw_closer_by_stages_and_stop() -> None:
    options = EctObjectiveOptions(doubling_images=100, num_stages=3)
    stages = [stage_of(options, seen) for seen in (0, 99, 100, 299, 10**9)]
    assert stages == [0, 0, 1, 2, 2]


@torch.no_grad()
def test_the_loss_of_the_linear_estimate_is_that_of_the_formula() -> None:
    """A new network says c_skip x: the distance of two such estimates, of the same noise."""
    options = EctObjectiveOptions(p_std=1.0, huber_c=0.03)
    objective = EctObjective(CONFIG, options, seed=0)
    real, class_ids = real_batch(16)
    found = objective.losses(real, class_ids, stage=1, rng=torch.Generator().manual_seed(7))
    rng = torch.Generator().manual_seed(7)
    t = (torch.randn(16, generator=rng) - 1.1).exp()
    r = lower_level(t, 1, options)
    assert 0 < int((r == 0).sum()) < 16
    noise = torch.randn(16, *SHAPE, generator=rng)
    estimates = [
        (0.25 / (0.25 + s**2)).view(-1, 1, 1, 1) * (real + s.view(-1, 1, 1, 1) * noise)
        for s in (t, r)
    ]
    squares = (estimates[0] - estimates[1]).square().sum((1, 2, 3))
    expected = ((squares + 0.03**2).sqrt() - 0.03) / (t - r)
    assert torch.allclose(found, expected, rtol=1e-4)


@torch.no_grad()
def test_dropout_is_the_same_for_both_levels() -> None:
    """At nearly equal levels the estimates are nearly equal, unless their masks differ."""
    real, class_ids = real_batch(16)
    losses = {}
    for dropout in (0.0, 0.5):
        options = EctObjectiveOptions(k=0.0, q=1000.0, p_std=0.01, dropout=dropout)
        objective = tuned_from_random(options)
        rng = torch.Generator().manual_seed(7)
        losses[dropout] = objective.losses(real, class_ids, stage=0, rng=rng)
    assert not torch.allclose(losses[0.0], losses[0.5], rtol=0.01), "dropout must act"
    assert float(losses[0.5].mean()) < 3 * float(losses[0.0].mean())


def test_dropout_draws_from_the_step_alone() -> None:
    losses = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        objective = tuned_from_random(EctObjectiveOptions(dropout=0.5))
        losses.append(step(objective, 0))
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1]


def test_a_resumed_tuning_equals_an_undisturbed_one() -> None:
    """Over a change of stage; the weights it once started from are not needed again."""
    options = EctObjectiveOptions(doubling_images=24, dropout=0.2)
    undisturbed = tuned_from_random(options)
    for number in range(2):
        step(undisturbed, number)
    resumed = EctObjective(CONFIG, options, seed=1)
    resumed.load_state({name: tensor.clone() for name, tensor in undisturbed.state().items()})
    for number in range(2, 5):
        assert step(undisturbed, number) == step(resumed, number)
    states = [objective.state() for objective in (undisturbed, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class Constant(torch.nn.Module):
    """Says the same at every level: a consistent function."""

    def __init__(self) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(0.1))

    def forward(
        self, noisy: torch.Tensor, sigma: torch.Tensor, class_ids: torch.Tensor
    ) -> torch.Tensor:
        return self.value.expand_as(noisy)


def test_a_consistent_function_has_no_gradient() -> None:
    objective = EctObjective(CONFIG, EctObjectiveOptions(q=1000.0), seed=0)
    constant = Constant()
    objective.network = constant  # type: ignore[assignment]
    rng = torch.Generator().manual_seed(0)
    losses = objective.losses(*real_batch(16), stage=0, rng=rng)
    losses.sum().backward()
    assert constant.value.grad is not None
    assert bool(constant.value.grad == 0)


@pytest.mark.parametrize(
    ("num_steps", "levels"),
    [(1, [80]), (2, [80, 0.8]), (3, [80, 8, 0.8]), (4, [80, 17.2, 3.7, 0.8])],
)
def test_the_steps_lie_between_the_two_levels(num_steps: int, levels: list[float]) -> None:
    found = noise_levels(EctOptions(num_inference_steps=num_steps))
    assert found == pytest.approx(levels, rel=0.01)


def test_one_step_starts_from_the_noise_of_edm() -> None:
    objective = tuned_from_random(EctObjectiveOptions())
    one = EctSampler(
        objective.ema, batch_size=3, image_shape=SHAPE, options=EctOptions(num_inference_steps=1)
    )
    edm = EdmSampler(
        objective.ema, batch_size=3, image_shape=SHAPE, options=EdmOptions(num_inference_steps=1)
    )
    assert np.array_equal(one.sample([1, 2, 3], [0, 1, 2]), edm.sample([1, 2, 3], [0, 1, 2]))


def test_the_second_step_adds_fresh_noise() -> None:
    """Not the first step's again: with equal noise the estimate would move along one direction."""
    objective = EctObjective(CONFIG, EctObjectiveOptions(), seed=0)
    options = EctOptions(num_inference_steps=2, mid_sigma=10.0)
    sampler = EctSampler(objective.ema, batch_size=1, image_shape=SHAPE, options=options)
    seen: list[torch.Tensor] = []
    objective.ema.register_forward_hook(lambda _, inputs, out: seen.extend([inputs[0], out]))
    sampler.sample([5], [0])
    first = seen[0] / 80
    second = (seen[2] - seen[1]) / 10
    both = torch.stack([first.flatten(), second.flatten()])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.3
    assert float(second.std()) == pytest.approx(1, abs=0.15)


def energy_distance(sampler: Sampler) -> float:
    """Between samples and held-out images, mean over classes (Szekely & Rizzo 2013, eq. 2.1)."""
    images, labels = tiny_images(300, seed=1)
    found = []
    for class_id in range(3):
        samples = sampler.sample(list(range(100)), [class_id] * 100)
        flat = [
            torch.from_numpy(x.reshape(100, 64) / 255)
            for x in (samples, images[labels == class_id])
        ]
        between, within_a, within_b = (
            torch.cdist(flat[a], flat[b]).mean() for a, b in ((0, 1), (0, 0), (1, 1))
        )
        found.append(float(2 * between - within_a - within_b))
    return sum(found) / len(found)


def train(objective: EctObjective | EdmObjective, num_steps: int, learning_rate: float) -> None:
    images, labels = tiny_images(600)
    real, class_ids = from_uint8_nhwc(images[..., None]), torch.from_numpy(labels.astype(np.int64))
    for number in range(num_steps):
        rng = torch.Generator().manual_seed(number)
        rows = torch.randint(len(real), (32,), generator=rng)
        update = Update(number, number * 32, learning_rate, min(0.97, number / 20), rng)
        objective.step(real[rows], class_ids[rows], update)


@pytest.mark.soak
def test_tuning_brings_few_steps_nearer_to_held_out_images() -> None:
    network = {"widths": [16, 32], "norm_num_groups": 4, "attention": False}
    config = ModelConfig("edm", ("left", "right", "dark"), (8, 8), 1, network)
    edm = EdmObjective(config, EdmObjectiveOptions(), seed=0)
    train(edm, 150, 3e-3)
    ect = EctObjective(config, EctObjectiveOptions(q=16.0), seed=0)
    ect.init_from(edm.ema_weights(), [0, 1, 2])
    train(ect, 100, 1e-3)

    def distance(objective: EctObjective | EdmObjective, num_steps: int) -> float:
        shape = objective.image_shape
        options = EctOptions(num_inference_steps=num_steps)
        few = EctSampler(objective.ema, batch_size=100, image_shape=shape, options=options)
        return energy_distance(few)

    dpm = EdmSampler(
        edm.ema, batch_size=100, image_shape=(1, 8, 8), options=EdmOptions(num_inference_steps=2)
    )
    assert distance(ect, 1) < 0.75 * distance(edm, 1)
    assert distance(ect, 2) < 0.75 * distance(edm, 2)
    assert distance(ect, 2) < 0.5 * energy_distance(dpm)
