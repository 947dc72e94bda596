from __future__ import annotations

import pytest
import torch
from opacus import GradSampleModule

from datagen.errors import TrainingError
from datagen.generators.edm.options import EdmObjectiveOptions
from datagen.generators.edm.train import EdmObjective
from datagen.generators.interface import ModelConfig, Update
from datagen.training.privacy.accountant import GaussianSteps, epsilon_spent
from datagen.training.privacy.dp_sgd import DpSgdObjective

CONFIG = ModelConfig("edm", ("a", "b"), (8, 8), 1, {"widths": (8, 16), "norm_num_groups": 4})
DELTA, RATE, CLIP = 1e-5, 0.25, 0.5


def private_objective(
    noise: float = 1.0, *, draws: int = 2, canaries: int = 1000
) -> DpSgdObjective:
    return DpSgdObjective(
        EdmObjective(CONFIG, EdmObjectiveOptions(), seed=0),
        noise_multiplier=noise,
        max_grad_norm=CLIP,
        noise_multiplicity=draws,
        sample_rate=RATE,
        expected_batch_size=4,
        num_canaries=canaries,
    )


def take_steps(objective: DpSgdObjective, num: int, *, batch: int = 4) -> None:
    rng = torch.Generator().manual_seed(0)
    for step in range(num):
        objective.step(
            torch.rand(batch, 1, 8, 8, generator=rng),
            torch.zeros(batch, dtype=torch.long),
            Update(step, batch * step, learning_rate=1e-3, ema_decay=0.5, rng=rng),
        )


def test_the_gradients_of_each_example_are_autograds() -> None:
    private_objective().check_gradients((1, 8, 8))


def test_wrong_gradients_are_refused() -> None:
    """As Opacus 1.6 computes them by itself on channels-last tensors."""
    objective = private_objective()
    objective.hooked.remove_hooks()
    objective.hooked = GradSampleModule(objective.inner.network, loss_reduction="sum")
    with pytest.raises(TrainingError, match="not those of PyTorch"):
        objective.check_gradients((1, 8, 8))


def test_an_example_moves_the_sum_by_no_more_than_the_clipping_norm() -> None:
    objective = private_objective(draws=3)
    rng = torch.Generator().manual_seed(0)
    for scale in (1.0, 100.0):
        for parameter in objective.optimizer.params:
            parameter.summed_grad = None
        images = scale * torch.randn(1, 1, 8, 8, generator=rng)
        objective.per_example_gradients(images, torch.zeros(1, dtype=torch.long), rng=rng)
        raw = torch.stack([p.grad_sample.norm() for p in objective.optimizer.params]).norm()
        objective.optimizer.clip_and_accumulate()
        total = torch.stack([p.summed_grad.norm() for p in objective.optimizer.params]).norm()
        assert float(total) <= CLIP * (1 + 1e-5)
        assert float(raw) > CLIP, "nothing to clip: the test shows nothing"
        objective.optimizer.zero_grad()


def test_an_empty_sample_is_a_step_of_noise_alone() -> None:
    objective = private_objective(noise=2.0)
    take_steps(objective, 1, batch=0)
    values = torch.cat([p.grad.flatten() for p in objective.optimizer.params])
    assert float(values.std()) == pytest.approx(2.0 * CLIP / 4, rel=0.1)


def test_the_same_seed_does_not_give_the_same_weights() -> None:
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        objective = private_objective()
        take_steps(objective, 1)
        weights.append(objective.ema_weights()["unet.conv_in.weight"])
    assert not torch.equal(weights[0], weights[1])


def test_a_resumed_run_keeps_the_canaries() -> None:
    first = private_objective()
    take_steps(first, 2)
    second = private_objective()
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    assert all(
        torch.equal(a, b) for a, b in zip(*(each_state(o) for o in (first, second)), strict=True)
    )
    take_steps(second, 1)
    assert not torch.equal(first.canaries.score, second.canaries.score)
    assert torch.equal(first.canaries.included, second.canaries.included)


def each_state(objective: DpSgdObjective) -> list[torch.Tensor]:
    return [tensor for _, tensor in sorted(objective.state().items())]


@pytest.mark.slow
def test_the_audit_of_a_training_lies_below_the_accountant() -> None:
    objective = private_objective(noise=1.0, canaries=1 << 17)
    take_steps(objective, 10)
    spent = epsilon_spent([GaussianSteps(1.0, RATE, 10)], delta=DELTA)
    assert 0.2 * spent < objective.audit(delta=DELTA).epsilon_low <= spent


@pytest.mark.slow
def test_the_audit_of_a_training_without_its_noise_contradicts_the_claim() -> None:
    """Sabotage in one line: the accountant is told of noise that the optimizer does not add."""
    objective = private_objective(noise=1.0, canaries=1 << 17)
    objective.optimizer.noise_multiplier = 1e-3
    take_steps(objective, 10)
    claimed = epsilon_spent([GaussianSteps(1.0, RATE, 10)], delta=DELTA)
    assert objective.audit(delta=DELTA).epsilon_low > claimed
