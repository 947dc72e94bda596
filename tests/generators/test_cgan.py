from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datagen.generators.cgan.augmentation import translate
from datagen.generators.cgan.options import CganObjectiveOptions
from datagen.generators.cgan.train import (
    CganObjective,
    gradient_penalty,
    relativistic_loss,
)
from datagen.generators.interface import Update
from tests.generators.tiny_models import TINY

CONFIG = TINY["cgan"]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(num: int = 4) -> torch.Tensor:
    return torch.randn(num, 3, 8, 12, generator=rng())


def test_penalty_of_a_linear_discriminator_is_its_squared_norm() -> None:
    weight = torch.randn(3, 8, 12, generator=rng(1))
    penalty = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), images())
    assert penalty.item() == pytest.approx(weight.square().sum().item(), rel=1e-5)


def test_penalty_of_a_quadratic_discriminator_is_the_mean_squared_norm_of_the_images() -> None:
    """D(x) = a/2 |x|^2 has the gradient a x; the penalty's own gradient in a is 2 a mean |x|^2."""
    a = torch.tensor(3.0, requires_grad=True)
    penalty = gradient_penalty(lambda x: a / 2 * x.square().sum((1, 2, 3)), images())
    mean_square = images().square().sum((1, 2, 3)).mean().item()
    assert penalty.item() == pytest.approx(9 * mean_square, rel=1e-5)
    penalty.backward()
    assert a.grad is not None
    assert a.grad.item() == pytest.approx(6 * mean_square, rel=1e-5)


def test_relativistic_loss_of_equal_logits_is_log_2() -> None:
    logits = torch.randn(16, generator=rng())
    assert relativistic_loss(logits, logits).item() == pytest.approx(math.log(2))


def test_relativistic_loss_compares_pairs() -> None:
    loss = relativistic_loss(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.5]))
    expected = (math.log1p(math.exp(-1.5)) + math.log1p(math.exp(1.5))) / 2
    assert loss.item() == pytest.approx(expected)


@given(st.integers(0, 2**31), st.integers(0, 4), st.floats(0, 1))
def test_translate_moves_pixels_and_repeats_edges(
    seed: int, shift_px: int, probability: float
) -> None:
    """Numbered pixels tell where each came from."""
    height, width = 6, 7
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    numbered = torch.stack([rows, cols]).float().expand(5, 2, height, width)
    moved = translate(numbered, shift_px, probability, rng(seed))
    assert moved.shape == numbered.shape
    for image in moved:
        shifts = [
            (down, right)
            for down in range(-shift_px, shift_px + 1)
            for right in range(-shift_px, shift_px + 1)
            if torch.equal(image[0], (rows + down).clamp(0, height - 1).float())
            and torch.equal(image[1], (cols + right).clamp(0, width - 1).float())
        ]
        assert shifts


def test_translate_with_probability_zero_changes_nothing() -> None:
    assert torch.equal(translate(images(), 2, 0.0, rng()), images())


def test_translate_shifts_about_the_asked_share() -> None:
    original = images(2000)
    moved = translate(original, 2, 0.5, rng(3))
    share = (moved != original).flatten(1).any(1).float().mean().item()
    assert share == pytest.approx(0.5 * 24 / 25, abs=0.05)  # one of 25 shifts is none


def test_gradients_pass_through_translate() -> None:
    """Each output pixel is one input pixel: the gradients of a sum count the copies."""
    x = images().requires_grad_(True)
    translate(x, 3, 1.0, rng(2)).sum().backward()
    assert x.grad is not None
    assert x.grad.sum().item() == x.numel()
    assert torch.equal(x.grad, x.grad.round())


def run(objective: CganObjective, num_steps: int) -> list[dict[str, float]]:
    return [
        objective.step(
            images(8).clamp(-1, 1),
            torch.arange(8) % 3,
            Update(number, 8 * number, learning_rate=1e-3, ema_decay=0.5, rng=rng(number)),
        )
        for number in range(num_steps)
    ]


def test_penalties_are_lazy() -> None:
    objective = CganObjective(CONFIG, CganObjectiveOptions(penalty_every=3), seed=0)
    losses = run(objective, 7)
    assert [i for i, step in enumerate(losses) if "penalty" in step] == [0, 3, 6]


def test_the_generator_step_leaves_the_discriminator_trainable_and_alone() -> None:
    objective = CganObjective(CONFIG, CganObjectiveOptions(), seed=0)
    real, class_ids = images(8), torch.arange(8) % 3
    before = {k: v.clone() for k, v in objective.discriminator.state_dict().items()}
    objective._step_generator(
        real, class_ids, Update(0, 0, learning_rate=1e-3, ema_decay=0.5, rng=rng())
    )
    after = objective.discriminator.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(p.requires_grad for p in objective.discriminator.parameters())
    assert all(p.grad is None for p in objective.discriminator.parameters())


def test_the_discriminator_learns_to_tell_real_from_fake() -> None:
    objective = CganObjective(CONFIG, CganObjectiveOptions(gamma=0.01), seed=0)
    real, class_ids = torch.full((16, 3, 8, 12), 0.9), torch.arange(16) % 3
    objective.optimizer_d.param_groups[0]["lr"] = 1e-2
    losses = [
        objective._step_discriminator(
            real, class_ids, Update(number, 0, learning_rate=1e-3, ema_decay=0.5, rng=rng(number))
        )
        for number in range(20)
    ]
    assert losses[0]["discriminator"] == pytest.approx(math.log(2), abs=0.3)
    assert losses[-1]["discriminator"] < 0.2


def test_the_moving_average_lags_behind() -> None:
    objective = CganObjective(CONFIG, CganObjectiveOptions(), seed=0)
    first = objective.generator.bias.detach().clone()
    run(objective, 1)
    expected = (first + objective.generator.bias.detach()) / 2
    assert torch.allclose(objective.ema.bias, expected, atol=1e-7)
