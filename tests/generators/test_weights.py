from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.interface import Sampler
from datagen.generators.weights import (
    channels_last,
    flatten_optimizer,
    from_uint8_nhwc,
    load_optimizer,
    pad_batch,
    to_uint8_nhwc,
)
from tests.generators.tiny_models import TINY, random_weights

GENERATORS_WITH_WEIGHTS = ["cgan", "edm"]


def weights_of(generator: str) -> dict[str, torch.Tensor]:
    weights = random_weights(TINY[generator])
    assert weights is not None
    return weights


def load(generator: str, path: Path, weights: dict[str, torch.Tensor]) -> Sampler:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    spec = GENERATORS[generator]
    return spec.load(TINY[generator], path, spec.options(), batch_size=2)


@pytest.mark.parametrize("generator", GENERATORS_WITH_WEIGHTS)
def test_loaded_weights_sample_as_the_objective_does(generator: str, tmp_path: Path) -> None:
    spec = GENERATORS[generator]
    options = spec.objective_options()
    objective = spec.objective(TINY[generator], options, seed=0)
    expected = objective.ema_sampler(2).sample([1, 2], [0, 1])
    found = load(generator, tmp_path / "w", objective.ema_weights()).sample([1, 2], [0, 1])
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("generator", GENERATORS_WITH_WEIGHTS)
def test_float16_weights_are_computed_with_as_float32(generator: str, tmp_path: Path) -> None:
    halves = {name: tensor.half() for name, tensor in weights_of(generator).items()}
    singles = {name: tensor.float() for name, tensor in halves.items()}
    a = load(generator, tmp_path / "a", halves).sample([1, 2], [0, 1])
    b = load(generator, tmp_path / "b", singles).sample([1, 2], [0, 1])
    assert np.array_equal(a, b)


@pytest.mark.parametrize("generator", GENERATORS_WITH_WEIGHTS)
def test_a_loaded_model_outlives_its_file(generator: str, tmp_path: Path) -> None:
    path = tmp_path / "w"
    sampler = load(generator, path, weights_of(generator))
    before = sampler.sample([1], [0])
    path.write_bytes(b"\0" * path.stat().st_size)
    assert np.array_equal(sampler.sample([1], [0]), before)


@pytest.mark.parametrize("generator", GENERATORS_WITH_WEIGHTS)
@pytest.mark.parametrize("fault", ["missing", "added", "transposed", "not finite"])
def test_weights_that_do_not_fit_are_refused(generator: str, fault: str, tmp_path: Path) -> None:
    weights = weights_of(generator)
    name = next(name for name, tensor in weights.items() if tensor.ndim == 4)
    if fault == "missing":
        del weights[name]
    elif fault == "added":
        name = "extra"
        weights[name] = torch.zeros(1)
    elif fault == "transposed":
        weights[name] = weights[name].reshape(1, -1)
    else:
        weights[name][0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=f"tensor {name}: "):
        load(generator, tmp_path / "w", weights)


@given(st.integers(1, 6), st.integers(1, 6))
def test_padding_repeats_the_first_request(num: int, batch_size: int) -> None:
    seeds, class_ids = list(range(10, 10 + num)), list(range(num))
    if num > batch_size:
        with pytest.raises(ValueError):
            pad_batch(seeds, class_ids, batch_size)
        return
    padded_seeds, padded_ids = pad_batch(seeds, class_ids, batch_size)
    assert padded_seeds == seeds + [10] * (batch_size - num)
    assert padded_ids == class_ids + [0] * (batch_size - num)


def test_every_pixel_value_survives_the_way_in_and_out() -> None:
    pixels = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(2, 16, 8, 3)
    assert np.array_equal(to_uint8_nhwc(from_uint8_nhwc(pixels)), pixels)


def test_values_out_of_range_are_clipped_not_wrapped() -> None:
    images = torch.tensor([-7.0, -1.001, -1, 0, 1, 1.001, 9]).view(1, 1, 1, 7)
    assert to_uint8_nhwc(images).ravel().tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_a_loaded_optimizer_goes_on_as_the_saved_one() -> None:
    """Values and memory order: other strides would pick other loops, and may round otherwise."""

    def network() -> torch.nn.Conv2d:
        torch.manual_seed(0)
        return channels_last(torch.nn.Conv2d(3, 5, 3))

    def steps(conv: torch.nn.Conv2d, adam: torch.optim.Adam, numbers: range) -> None:
        for number in numbers:
            x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(number))
            adam.zero_grad()
            conv(x).square().sum().backward()
            adam.step()

    first = network()
    adam = torch.optim.Adam(first.parameters())
    steps(first, adam, range(3))
    saved = {k: v.contiguous().clone() for k, v in flatten_optimizer("adam", adam).items()}

    second = network()
    second.load_state_dict(first.state_dict())
    resumed = torch.optim.Adam(second.parameters())
    load_optimizer("adam", resumed, saved)
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert adam.state[mine]["exp_avg"].stride() == resumed.state[theirs]["exp_avg"].stride()
    steps(first, adam, range(3, 6))
    steps(second, resumed, range(3, 6))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
