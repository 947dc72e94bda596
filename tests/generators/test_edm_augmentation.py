from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.edm.augmentation import NUM_LABELS, _resample, _rotation, augment
from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.edm.options import EdmNetwork, EdmObjectiveOptions, EdmOptions, Transform
from datagen.generators.edm.sample import EdmSampler
from datagen.generators.edm.train import EdmObjective
from datagen.generators.interface import ModelConfig, Update
from datagen.generators.weights import from_uint8_nhwc
from tests.generators.tiny_models import TINY, random_weights
from tests.training.tiny_data import tiny_images

EVERY = get_args(Transform)
PLAIN = TINY["edm"]
TOLD = replace(PLAIN, network={**PLAIN.network, "augment_dim": NUM_LABELS})


def pictures(num: int, height: int = 8, width: int = 12) -> torch.Tensor:
    return torch.rand(num, 3, height, width, generator=torch.Generator().manual_seed(2))


def augmented(
    images: torch.Tensor, *transforms: Transform, probability: float = 1.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return augment(images, probability=probability, transforms=transforms, rng=rng)


@pytest.mark.parametrize(("name", "axis", "label"), [("x_flip", 3, 0), ("y_flip", 2, 1)])
def test_a_flip_is_one_and_is_told(name: Transform, axis: int, label: int) -> None:
    images = pictures(64)
    moved, labels = augmented(images, name)
    flipped = labels[:, label] == 1
    assert 16 < int(flipped.sum()) < 48, "a flip has two outcomes"
    assert torch.allclose(moved[flipped], images[flipped].flip(axis), atol=1e-5)
    assert torch.equal(moved[~flipped], images[~flipped])
    assert int((labels != 0).sum()) == int(flipped.sum()), "nothing else is told"


def test_a_quarter_turn_is_one() -> None:
    images = pictures(1, 9, 9)
    turned = _resample(images, _rotation(torch.tensor([math.pi / 2])), torch.zeros(1, 2))
    assert torch.allclose(turned, images.rot90(1, (2, 3)), atol=1e-4)


def test_pixels_stay_square_where_images_are_not() -> None:
    """A point right of the centre goes the same number of pixels below it."""
    images = torch.zeros(1, 1, 9, 21)
    images[0, 0, 4, 13] = 1
    turned = _resample(images, _rotation(torch.tensor([-math.pi / 2])), torch.zeros(1, 2))
    assert int(turned.flatten().argmax()) == 7 * 21 + 10


def test_a_shift_is_in_shares_of_the_sides() -> None:
    images = pictures(1)
    shift = torch.tensor([[3 / 12, 2 / 8]])
    moved = _resample(images, torch.eye(2).unsqueeze(0), shift)
    assert torch.allclose(moved[..., 2:, 3:], images[..., :-2, :-3], atol=1e-4)
    assert torch.allclose(moved[..., 2:, :3], images[..., :-2, :3].flip(3), atol=1e-4), "mirrored"


def test_a_positive_scale_is_larger() -> None:
    images = -torch.ones(64, 1, 16, 16)
    images[..., 6:10, 6:10] = 1
    moved, labels = augmented(images, "scale")
    areas = (moved > 0).sum((1, 2, 3)).float()
    assert float(areas[labels[:, 2] > 1].mean()) > 16 > float(areas[labels[:, 2] < -1].mean())


def test_a_stretch_keeps_the_area() -> None:
    images = -torch.ones(64, 1, 32, 32)
    images[..., 12:20, 12:20] = 1
    moved, labels = augmented(images, "stretch")
    assert bool((labels[:, 5:7] != 0).all())
    areas = (moved + 1).sum((1, 2, 3)) / 2
    assert float(areas.mean()) == pytest.approx(64, rel=0.05)
    assert not torch.allclose(moved, images, atol=0.5)


@pytest.mark.parametrize("name", EVERY)
def test_each_transform_is_told_by_its_own_numbers(name: Transform) -> None:
    own = {
        "x_flip": {0},
        "y_flip": {1},
        "scale": {2},
        "rotation": {3, 4},
        "stretch": {5, 6},
        "translation": {7, 8},
    }[name]
    moved, labels = augmented(pictures(64), name, probability=0.5)
    assert set(torch.nonzero(labels.abs().sum(0)).flatten().tolist()) == own
    touched = (labels != 0).any(1)
    assert 0 < int(touched.sum()) < 64
    assert torch.equal(moved[~touched], pictures(64)[~touched])
    assert bool((moved[touched] != pictures(64)[touched]).flatten(1).any(1).all())


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    images = pictures(8)
    others = torch.cat([images[:1], pictures(8).flip(0)[1:]])
    assert torch.equal(augmented(images, *EVERY)[0][0], augmented(others, *EVERY)[0][0])


def test_equal_draws_give_equal_images() -> None:
    torch.manual_seed(1)
    first = augmented(pictures(8), *EVERY)
    torch.manual_seed(2)
    again = augmented(pictures(8), *EVERY)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], augmented(pictures(8), *EVERY, seed=1)[0])


@torch.no_grad()
def test_the_network_is_told() -> None:
    """And hears nothing at sampling: no labels are labels of zero."""
    denoiser = EdmDenoiser(TOLD, EdmNetwork.model_validate(TOLD.network))
    weights = random_weights(TOLD)
    assert weights is not None
    denoiser.load_state_dict(weights)
    noisy, sigma, ids = pictures(2), torch.ones(2), torch.tensor([0, 1])
    untold = denoiser(noisy, sigma, ids)
    assert torch.equal(untold, denoiser(noisy, sigma, ids, torch.zeros(2, NUM_LABELS)))
    for label in range(NUM_LABELS):
        labels = torch.zeros(2, NUM_LABELS)
        labels[0, label] = 1
        told = denoiser(noisy, sigma, ids, labels)
        assert not torch.allclose(told[0], untold[0], atol=1e-4)
        assert torch.equal(told[1], untold[1])


def test_a_network_that_is_not_told_has_the_tensors_of_before() -> None:
    plain, told = (
        set(EdmObjective(config, EdmObjectiveOptions(), seed=0).ema_weights())
        for config in (PLAIN, TOLD)
    )
    assert told - plain == {"class_embedding.weight", "augment_embedding.weight"}
    assert plain - told == {"unet.class_embedding.weight"}


def test_off_a_step_draws_what_it_drew_before() -> None:
    objective = EdmObjective(PLAIN, EdmObjectiveOptions(), seed=0)
    rng = torch.Generator().manual_seed(3)
    objective.losses(pictures(8), torch.zeros(8, dtype=torch.long), rng=rng)
    expected = torch.Generator().manual_seed(3)
    torch.rand(8, generator=expected)
    torch.randn(8, generator=expected)
    torch.randn(8, 3, 8, 12, generator=expected)
    assert torch.equal(rng.get_state(), expected.get_state())


def test_augmenting_a_network_that_is_not_told_is_refused() -> None:
    options = EdmObjectiveOptions(augment_probability=0.1)
    with pytest.raises(ModelError, match=r"network\.augment_dim 0: expected 9"):
        GENERATORS["edm"].objective(PLAIN, options, seed=0)
    GENERATORS["edm"].objective(TOLD, options, seed=0)


def test_a_told_model_can_be_started_from_and_tuned() -> None:
    weights = random_weights(TOLD)
    assert weights is not None
    for generator in ("edm", "ect"):
        spec = GENERATORS[generator]
        objective = spec.objective(TOLD, spec.objective_options(), seed=1)
        objective.init_from(weights, [2, 1, 0])
        table = objective.ema_weights()["class_embedding.weight"]
        assert torch.equal(table, weights["class_embedding.weight"][[2, 1, 0, 3]])


def trained(config: ModelConfig, options: EdmObjectiveOptions) -> EdmObjective:
    """On images whose left half is bright."""
    images, labels = tiny_images(300)
    real = from_uint8_nhwc(images[labels == 0][..., None])
    objective = EdmObjective(config, options, seed=0)
    for number in range(120):
        rng = torch.Generator().manual_seed(number)
        rows = torch.randint(len(real), (32,), generator=rng)
        update = Update(number, number * 32, 3e-3, min(0.9, number / 20), rng)
        objective.step(real[rows], torch.zeros(32, dtype=torch.long), update)
    return objective


def share_bright_on_the_left(objective: EdmObjective) -> float:
    options = EdmOptions(num_inference_steps=8)
    sampler = EdmSampler(objective.ema, batch_size=100, image_shape=(1, 8, 8), options=options)
    images = sampler.sample(list(range(100)), [0] * 100).astype(np.float64)
    return float((images[:, :, :4].mean((1, 2, 3)) > images[:, :, 4:].mean((1, 2, 3))).mean())


@pytest.mark.soak
def test_what_is_told_does_not_leak_into_samples() -> None:
    """Half of the images are shown flipped. Told so, the network draws none; it draws them flipped
    if it is told to; and a network that cannot hear draws many."""
    network = {"widths": [16, 32], "norm_num_groups": 4, "attention": False}
    plain = ModelConfig("edm", ("left",), (8, 8), 1, network)
    told = replace(plain, network={**network, "augment_dim": NUM_LABELS})
    options = EdmObjectiveOptions(augment_probability=1.0, augment_with=("x_flip",))
    assert 0.2 < share_bright_on_the_left(trained(plain, options)) < 0.8
    objective = trained(told, options)
    assert share_bright_on_the_left(objective) > 0.97
    forward = objective.ema.forward
    flip = torch.eye(NUM_LABELS)[:1].expand(100, -1)
    objective.ema.forward = lambda x, sigma, ids: forward(x, sigma, ids, flip)  # type: ignore[method-assign]
    assert share_bright_on_the_left(objective) < 0.03
