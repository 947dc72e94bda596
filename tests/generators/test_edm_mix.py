"""Latent mixing of the diffusion families: ends are exact, and an image is its own alone."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from datagen.conditions import Condition, Mix, MixKind
from datagen.generators import GENERATORS
from datagen.generators.interface import ConditionedSampler, Images, PromptedSpec
from datagen.labels import Labels
from tests.generators.tiny_models import TINY, save_random_model

FAMILIES = ("edm", "latent-edm")
SEEDS, IDS, OTHER = [5, 2**62 + 1, 77], [0, 1, 2], 2**63 - 9


@pytest.fixture(scope="module")
def samplers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ConditionedSampler]:
    folder, found = tmp_path_factory.mktemp("mixed"), {}
    for name in FAMILIES:
        model = save_random_model(folder / name, TINY[name])
        options = model.spec.options.model_validate(
            {"num_inference_steps": 2, "guidance_scale": 1.5}
        )
        loaded = model.spec.load(model.config, Path(str(model.weights)), options, batch_size=4)
        found[name] = cast(ConditionedSampler, loaded)
    return found


@pytest.fixture(params=FAMILIES)
def sampler(request: pytest.FixtureRequest, samplers: dict[str, ConditionedSampler]) -> object:
    return samplers[request.param]


def mixed(kind: MixKind, weight: float) -> list[Condition]:
    """Each with the next class."""
    return [
        Condition(Labels("x"), mix=Mix(kind, weight, OTHER + i, (IDS[i] + 1) % 3, "y"))
        for i in range(len(SEEDS))
    ]


def draw(sampler: ConditionedSampler, conditions: list[Condition]) -> Images:
    return sampler.sample_conditioned(SEEDS, IDS, conditions)


@pytest.mark.parametrize("kind", ["seeds", "classes"])
def test_weights_0_and_1_give_an_end_bit_for_bit(
    sampler: ConditionedSampler, kind: MixKind
) -> None:
    own = sampler.sample(SEEDS, IDS)
    if kind == "seeds":
        other = sampler.sample([OTHER + i for i in range(3)], IDS)
    else:
        other = sampler.sample(SEEDS, [1, 2, 0])
    assert (own != other).any()
    assert np.array_equal(draw(sampler, mixed(kind, 0.0)), own)
    assert np.array_equal(draw(sampler, mixed(kind, 1.0)), other)
    between = draw(sampler, mixed(kind, 0.5))
    for end, other_end, image in zip(own, other, between, strict=True):
        assert (image != end).any()
        assert (image != other_end).any()


def test_a_mixed_image_depends_on_its_own_mix_alone(sampler: ConditionedSampler) -> None:
    """Beside images of other mixes and of none, and at any place of the batch."""
    told = [mixed("classes", 0.3)[0], mixed("seeds", 0.6)[1], Condition(Labels("x"))]
    images = draw(sampler, told)
    assert np.array_equal(images[2], sampler.sample(SEEDS[2:], IDS[2:])[0])
    for row, condition in enumerate(told):
        alone = sampler.sample_conditioned([SEEDS[row]], [IDS[row]], [condition])
        assert np.array_equal(alone[0], images[row])
    turned = sampler.sample_conditioned(SEEDS[::-1], IDS[::-1], told[::-1])
    assert np.array_equal(turned[::-1], images)


def test_classes_that_are_mixed_lie_between_them(sampler: ConditionedSampler) -> None:
    weights = [0.0, 0.25, 0.5, 0.75, 1.0]
    images = [draw(sampler, mixed("classes", weight))[0].astype(float) for weight in weights]
    from_own = [np.abs(image - images[0]).mean() for image in images]
    assert from_own == sorted(from_own)
    assert from_own[1] < from_own[-1] / 2


@pytest.mark.parametrize("num", [0, 5])
def test_a_wrong_number_of_conditions_is_refused(sampler: ConditionedSampler, num: int) -> None:
    with pytest.raises(ValueError, match=f"{num} conditions, batch 4"):
        sampler.sample_conditioned([1] * num, [0] * num, [Condition(Labels("x"))] * num)


def test_families_say_what_they_mix() -> None:
    mixes = {}
    for name in (*FAMILIES, "ect"):
        spec = cast(PromptedSpec, GENERATORS[name])
        mixes[name] = spec.takes(TINY[name], spec.options())
    both = {"mix:seeds", "mix:classes"}
    assert mixes == {"edm": both, "latent-edm": both, "ect": frozenset()}
