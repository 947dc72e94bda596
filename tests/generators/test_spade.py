from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.interface import Update
from datagen.generators.spade.networks import build_discriminators, build_generator
from datagen.generators.spade.options import SpadeNetwork, SpadeObjectiveOptions
from datagen.generators.spade.train import SpadeObjective, feature_distance
from tests.generators.tiny_models import TINY, TINY_OBJECTIVES

CONFIG = TINY["spade"]
NETWORK = SpadeNetwork.model_validate(CONFIG.network)
OPTIONS = SpadeObjectiveOptions.model_validate(TINY_OBJECTIVES["spade"])


def batch(num: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, class ids, and planes of label maps of 2 x 2 pixels a patch."""
    rng = torch.Generator().manual_seed(seed)
    values = torch.randint(3, (num, 4, 6), generator=rng).repeat_interleave(2, 1)
    values = values.repeat_interleave(2, 2)
    planes = torch.nn.functional.one_hot(values, 3).permute(0, 3, 1, 2).float()
    images = (values[:, None] - 1).float().expand(-1, 3, -1, -1) * 0.7
    return images, torch.arange(num) % 3, planes


def step(objective: SpadeObjective, number: int, planes: torch.Tensor | None = None) -> Any:
    images, class_ids, drawn = batch(8, number)
    rng = torch.Generator().manual_seed(number)
    update = Update(number, number * 8, learning_rate=2e-3, ema_decay=0.5, rng=rng)
    return objective.step(images, class_ids, replace(update, condition=drawn))


def test_each_place_of_the_label_map_counts() -> None:
    """And a block reads it at its own resolution: the lowest is half of the image's."""
    torch.manual_seed(0)
    generator = build_generator(CONFIG, NETWORK).requires_grad_(False)
    _, class_ids, planes = batch(1)
    latents = torch.randn(1, 4)
    before = generator(latents, class_ids, planes)
    moved = planes.clone()
    moved[:, :, :2, :2] = planes[:, :, :2, :2].roll(1, dims=1)
    difference = (generator(latents, class_ids, moved) - before).abs().sum(1)[0]
    assert difference[:2, :2].min() > 0
    assert before.shape == (1, 3, 8, 12)


def test_steps_learn_to_obey_label_maps() -> None:
    objective = SpadeObjective(CONFIG, OPTIONS, seed=0)
    for number in range(60):
        losses = step(objective, number)
    assert set(losses) == {"discriminator", "generator", "feature_matching"}
    images, class_ids, planes = batch(8, 999)
    made = objective.generator(torch.randn(8, 4), class_ids, planes).detach()
    wrong = objective.generator(torch.randn(8, 4), class_ids, planes.roll(1, dims=1)).detach()
    assert (made - images).abs().mean() < 0.6 * (wrong - images).abs().mean()


def test_a_resumed_objective_goes_on_bit_for_bit() -> None:
    """Spectral norms go on from their own iterations."""
    whole, begun, resumed = (SpadeObjective(CONFIG, OPTIONS, seed=seed) for seed in (0, 0, 7))
    for number in range(4):
        step(whole, number)
    for number in range(2):
        step(begun, number)
    resumed.load_state({name: value.clone() for name, value in begun.state().items()})
    for number in range(2, 4):
        step(resumed, number)
    assert whole.state().keys() == resumed.state().keys()
    for name, value in whole.state().items():
        assert torch.equal(value, resumed.state()[name]), name


def test_what_ships_is_the_average_and_no_discriminator() -> None:
    objective = SpadeObjective(CONFIG, OPTIONS, seed=0)
    step(objective, 0)
    weights = objective.ema_weights()
    assert weights.keys() == objective.generator.state_dict().keys()
    assert not torch.equal(weights["start.weight"], objective.generator.start.weight)


def test_a_discriminator_sees_the_label_map() -> None:
    torch.manual_seed(0)
    discriminators = build_discriminators(CONFIG, OPTIONS).eval().requires_grad_(False)
    images, _, planes = batch(2)
    found = discriminators(images, planes)
    assert [len(features) for features in found] == [2]
    other = discriminators(images, planes.roll(1, dims=1))
    assert not torch.equal(found[0][-1], other[0][-1])


def test_features_are_matched_to_those_of_the_real_image_alone() -> None:
    real = torch.ones(1, 2, 2, 2, requires_grad=True)
    fake = torch.zeros(1, 2, 2, 2, requires_grad=True)
    distance = feature_distance([[torch.cat([real, fake]), torch.zeros(2, 1, 2, 2)]])
    distance.backward()
    assert distance.item() == 1
    assert real.grad is None or not real.grad.any()
    assert fake.grad is not None
    assert fake.grad.any()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"condition": None}, "draws images of label maps and has no condition"),
        ({"image_size": (9, 12)}, r"expected multiples of 2"),
        ({"image_size": (2, 12)}, "at least 4"),
    ],
)
def test_what_spade_cannot_draw_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        GENERATORS["spade"].check(replace(CONFIG, **changes))


def test_discriminators_that_would_see_single_pixels_are_refused() -> None:
    with pytest.raises(ModelError, match="expected sides of at least 32"):
        GENERATORS["spade"].objective(CONFIG, SpadeObjectiveOptions(), seed=0)
