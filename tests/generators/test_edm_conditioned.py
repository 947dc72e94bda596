from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from datagen.conditions import Condition
from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.edm.networks import EdmDenoiser, with_presence
from datagen.generators.edm.options import EdmNetwork, EdmObjectiveOptions, EdmOptions
from datagen.generators.edm.sample import EdmSampler
from datagen.generators.edm.train import EdmObjective, denoising_losses
from datagen.generators.interface import Update
from tests.generators.tiny_models import (
    CONDITION,
    TINY,
    TINY_CONDITIONED,
    condition_of,
    random_weights,
)

CONFIG = TINY_CONDITIONED["edm"]
NETWORK = EdmNetwork.model_validate(CONFIG.network)


@pytest.fixture
def denoiser() -> EdmDenoiser:
    """Not as it starts, where the last layer is zero and nothing counts."""
    network = EdmDenoiser(CONFIG, NETWORK)
    weights = random_weights(CONFIG)
    assert weights is not None
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def planes_of(num: int) -> torch.Tensor:
    values = torch.arange(num * 8 * 12).view(num, 8, 12) // 5 % 3
    return torch.nn.functional.one_hot(values, 3).permute(0, 3, 1, 2).float()


def test_a_condition_adds_its_planes_and_one_of_presence() -> None:
    plain = EdmDenoiser(TINY["edm"], NETWORK).unet.conv_in.weight
    conditioned = EdmDenoiser(CONFIG, NETWORK).unet.conv_in.weight
    folded = NETWORK.patch_px**2
    assert conditioned.shape[1] - plain.shape[1] == (3 + 1) * folded


def test_no_condition_is_the_null_condition_and_no_label_map(denoiser: EdmDenoiser) -> None:
    noisy, sigma, ids = torch.randn(2, 3, 8, 12), torch.tensor([0.5, 2.0]), torch.tensor([0, 1])
    told = with_presence(planes_of(2))
    none = denoiser(noisy, sigma, ids)
    assert torch.equal(none, denoiser(noisy, sigma, ids, planes=torch.zeros_like(told)))
    assert not torch.equal(none, denoiser(noisy, sigma, ids, planes=told))
    # A map that is all 0 is a condition too.
    empty = with_presence(torch.zeros(2, 3, 8, 12))
    assert not torch.equal(none, denoiser(noisy, sigma, ids, planes=empty))


def test_guidance_leads_away_from_the_null_condition(denoiser: EdmDenoiser) -> None:
    drawn = [condition_of(seed, CONFIG) for seed in (1, 2)]

    def images(scale: float) -> Any:
        options = EdmOptions(num_inference_steps=1, guidance_scale=scale)
        sampler = EdmSampler(
            denoiser, batch_size=2, image_shape=(3, 8, 12), options=options, condition=CONDITION
        )
        return sampler.sample_conditioned([1, 2], [0, 1], drawn)

    unguided = EdmSampler(
        denoiser,
        batch_size=2,
        image_shape=(3, 8, 12),
        options=EdmOptions(num_inference_steps=1),
    )
    null = unguided.sample([1, 2], [denoiser.null_class] * 2)
    assert np.array_equal(images(0.0), null)
    assert not np.array_equal(images(1.0), null)


class Recorder:
    """Stands where the network stands, and keeps what it is told."""

    sigma_data = 0.5
    null_class = 3

    def __call__(
        self, noisy: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor, *rest: Any
    ) -> torch.Tensor:
        self.ids, self.told = ids, rest[1]
        return noisy


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        ({"condition_dropout": 0.0}, lambda absent, null: not absent.any() and null.any()),
        ({"condition_dropout": 0.5}, lambda absent, null: 150 < absent.sum() < 250),
        ({"condition_dropout": 0.5}, lambda absent, null: bool((absent != null).any())),
        ({"drop_together": True}, lambda absent, null: torch.equal(absent, null)),
    ],
)
def test_conditions_are_dropped_alone_or_with_the_class(
    options: dict[str, Any], holds: Callable[[torch.Tensor, torch.Tensor], bool]
) -> None:
    network = Recorder()
    denoising_losses(
        network,  # type: ignore[arg-type]
        torch.zeros(400, 3, 8, 12),
        torch.zeros(400, dtype=torch.long),
        None,
        options=EdmObjectiveOptions(class_dropout=0.3, **options),
        rng=torch.Generator().manual_seed(0),
        planes=planes_of(400),
    )
    absent = network.told.flatten(1).sum(1) == 0
    assert holds(absent, network.ids == network.null_class)


def test_a_step_without_a_condition_draws_what_it_drew_before() -> None:
    """Else trainings from before there were any would not repeat."""
    objective = EdmObjective(TINY["edm"], EdmObjectiveOptions(), seed=0)
    rng, reference = (torch.Generator().manual_seed(4) for _ in range(2))
    objective.losses(torch.zeros(2, 3, 8, 12), torch.tensor([0, 1]), rng=rng)
    torch.rand(2, generator=reference)
    torch.randn(2, generator=reference)
    torch.randn(2, 3, 8, 12, generator=reference)
    assert torch.equal(rng.get_state(), reference.get_state())


def test_augmentations_move_the_condition_with_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the image is its label map, it is that afterwards too."""
    told: list[tuple[torch.Tensor, ...]] = []

    def losses(*given: Any, planes: torch.Tensor, **rest: Any) -> torch.Tensor:
        told.append((given[1], given[3], planes))
        return torch.zeros(len(planes))

    monkeypatch.setattr("datagen.generators.edm.train.denoising_losses", losses)
    config = replace(CONFIG, network={**CONFIG.network, "augment_dim": 9})
    options = EdmObjectiveOptions(augment_probability=0.8)
    objective = EdmObjective(config, options, seed=0)
    planes = planes_of(16)
    real = 2 * planes - 1
    rng = torch.Generator().manual_seed(0)
    objective.losses(real, torch.zeros(16, dtype=torch.long), rng=rng, planes=planes)
    ((images, labels, moved),) = told
    assert torch.allclose(images, 2 * moved - 1, atol=1e-5)
    assert (moved != planes).flatten(1).any(1).sum() > 8
    assert labels.abs().sum() > 0


def test_steps_learn_to_obey_label_maps() -> None:
    """The image is its label map: what noise hides, the condition tells."""
    objective = EdmObjective(CONFIG, EdmObjectiveOptions(condition_dropout=0.0, p_mean=1.0), seed=0)
    planes = planes_of(8)
    real = (planes.argmax(1, keepdim=True) - 1).float().expand(-1, 3, -1, -1) * 0.7
    losses = []
    for number in range(40):
        rng = torch.Generator().manual_seed(number)
        update = Update(number, 8 * number, 4e-3, ema_decay=0.9, rng=rng, condition=planes)
        losses.append(objective.step(real, torch.zeros(8, dtype=torch.long), update)["denoising"])
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_what_has_no_condition_or_another_is_refused(denoiser: EdmDenoiser) -> None:
    sampler = EdmSampler(
        denoiser, batch_size=2, image_shape=(3, 8, 12), options=EdmOptions(), condition=CONDITION
    )
    with pytest.raises(ModelError, match="takes a condition of kind mask"):
        sampler.sample([1], [0])
    small = Condition(condition_of(1, CONFIG).labels, mask=np.zeros((8, 8), np.uint8))
    with pytest.raises(ModelError, match=r"expected \(8, 12\)"):
        sampler.sample_conditioned([1], [0], [small])
    with pytest.raises(ValueError, match="3 conditions, batch 2"):
        sampler.sample_conditioned([1], [0], [small] * 3)


def test_consistency_models_take_no_condition() -> None:
    config = TINY_CONDITIONED["edm"]
    with pytest.raises(ModelError, match="generator ect: condition of kind mask: expected none"):
        GENERATORS["ect"].check(config)
