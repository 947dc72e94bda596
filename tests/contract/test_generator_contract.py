"""What every generator promises: image i is a function of its seed and its class, bit for bit."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from datagen.conditions import Condition, Prompt
from datagen.generators import GENERATORS
from datagen.generators.interface import (
    ConditionedSampler,
    Images,
    ModelConfig,
    Sampler,
    makes_images,
    most_bits,
)
from datagen.generators.model_directory import Model, load_model
from datagen.images import to_8_bits
from datagen.labels import Labels
from tests.generators.tiny_models import (
    SHIPPED_SIZE,
    TINY,
    TINY_CONDITIONED,
    condition_of,
    save_random_model,
)

BATCH_SIZE = 6
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
NUM_CLASSES = 3
SEEDS = [5, 2**63 - 1, 2**62 + 12345, 0, 77, 2**32 + 5]
CLASS_IDS = [0, 1, 2, 0, 1, 2]

_BY_STEPS = ("ect", "edm", "latent-edm", "lora", "text-edm")
# Of each kind of pipeline: tests/generators/test_pipeline_families.py; of styles:
# tests/generators/test_style_transfer.py.
_ELSEWHERE = {"pipeline", "style_transfer"}
_GUIDED = ("edm", "latent-edm", "lora", "text-edm")

# generator, options: every sampler and the two-call path of guidance count as a case.
CASES: list[tuple[str, dict[str, Any]]] = [
    ("cgan", {}),
    ("cgan", {"truncation": 0.7}),
    ("ect", {}),
    ("ect", {"num_inference_steps": 1}),
    ("ect", {"num_inference_steps": 4}),
    ("edm", {"num_inference_steps": 3}),
    ("edm", {"num_inference_steps": 3, "guidance_scale": 2.0}),
    ("edm", {"num_inference_steps": 2, "sampler": "heun"}),
    ("edm", {"num_inference_steps": 2, "sampler": "euler", "guidance_scale": 0.5}),
    ("lora", {"num_inference_steps": 2}),
    ("latent-edm", {"num_inference_steps": 2}),
    ("edm conditioned", {"num_inference_steps": 2, "guidance_scale": 2.0}),
    ("noise", {}),
    ("noise", {"channels": 1}),
    ("procedural", {}),
    ("procedural", {"channels": 1, "blur_px": 1.0, "noise": 0.05}),
    ("spade", {}),
    ("spade", {"truncation": 0.5}),
    ("text-edm", {"num_inference_steps": 2}),
    ("vae", {}),
    ("vae", {"temperature": 0.7}),
]
NAMES = [f"{name}-{json.dumps(options)}" for name, options in CASES]


class WithConditions:
    """A sampler of a model that takes conditions, with one that follows from the seed, or that
    needs prompts, with one that says the class, as in a job."""

    def __init__(self, sampler: Sampler, config: ModelConfig) -> None:
        self.inner, self.config = cast(ConditionedSampler, sampler), config
        self.batch_size = sampler.batch_size

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        if self.config.condition is None:
            names = [self.config.class_names[i] for i in class_ids]
            conditions = [Condition(Labels(n), prompt=Prompt(f"a {n}")) for n in names]
        else:
            conditions = [condition_of(seed, self.config) for seed in seeds]
        return self.inner.sample_conditioned(seeds, class_ids, conditions)


@dataclass(frozen=True)
class Case:
    """One model with options, loaded as the engine loads it."""

    model: Model
    options: dict[str, Any]
    config: ModelConfig

    def sampler(self, *, batch_size: int = BATCH_SIZE, device: str = "cpu") -> Sampler:
        options = self.model.spec.options.model_validate(self.options)
        sampler = self.model.spec.load(
            self.config, self.model.weights, options, batch_size=batch_size, device=device
        )
        return WithConditions(sampler, self.config) if takes_conditions(self) else sampler


def takes_conditions(case: Case) -> bool:
    needs_prompt = getattr(case.model.spec, "needs_prompt", lambda config, options: False)
    return case.config.condition is not None or needs_prompt(case.config, case.options)


def make_case(model: Model, options: dict[str, Any]) -> Case:
    checked = model.spec.options.model_validate(options)
    names = ["disc", "ring", "bar"]
    config = model.spec.fit(model.config, checked, class_names=names, image_size=(8, 12))
    return Case(model, options, config)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = tmp_path_factory.mktemp("models")
    conditioned = {f"{name} conditioned": config for name, config in TINY_CONDITIONED.items()}
    return {
        name: save_random_model(folder / name.replace(" ", "-"), config)
        for name, config in (TINY | conditioned).items()
    }


@pytest.fixture(params=CASES, ids=NAMES)
def case(request: pytest.FixtureRequest, models: dict[str, Model]) -> Case:
    generator, options = request.param
    return make_case(models[generator], options)


@pytest.fixture
def sampler(case: Case) -> Sampler:
    return case.sampler()


@pytest.fixture
def images(sampler: Sampler) -> Images:
    return sampler.sample(SEEDS, CLASS_IDS)


def assert_each_alone(sampler: Sampler, images: Images, seeds: list[int], ids: list[int]) -> None:
    for image, seed, class_id in zip(images, seeds, ids, strict=True):
        assert np.array_equal(sampler.sample([seed], [class_id])[0], image)


def test_every_generator_has_cases() -> None:
    assert (
        {name.partition(" ")[0] for name, _ in CASES}
        == {name for name, spec in GENERATORS.items() if makes_images(spec)} - _ELSEWHERE
        == set(TINY)
        == set(SHIPPED_SIZE)
    )


def test_images_are_nhwc_uint8_of_the_config(case: Case, images: Images) -> None:
    height, width = case.config.image_size
    assert images.dtype == np.uint8
    assert images.shape == (len(SEEDS), height, width, case.config.channels)
    assert images.flags.c_contiguous


def test_of_16_bits_it_is_the_same_image_on_a_finer_scale(case: Case, images: Images) -> None:
    """Those of noise are others: it draws bits, not brightnesses."""
    if most_bits(case.model.spec) == 8:
        return
    deep = replace(case, config=replace(case.config, bits=16)).sampler()
    found = deep.sample(SEEDS, CLASS_IDS)
    assert (found.dtype, found.shape) == (np.dtype(np.uint16), images.shape)
    assert len(np.unique(found)) > len(np.unique(to_8_bits(found)))
    if case.model.spec.name != "noise":
        # Halves of the coarse scale may be rounded the other way.
        apart = np.abs(to_8_bits(found).astype(int) - images)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01


def test_an_image_alone_equals_the_image_in_a_full_batch(sampler: Sampler, images: Images) -> None:
    assert_each_alone(sampler, images, SEEDS, CLASS_IDS)


def test_an_image_does_not_depend_on_its_position(sampler: Sampler, images: Images) -> None:
    for shift in range(BATCH_SIZE):
        order = np.roll(np.arange(BATCH_SIZE), shift)
        moved = sampler.sample([SEEDS[i] for i in order], [CLASS_IDS[i] for i in order])
        assert np.array_equal(moved, images[order])


def test_an_image_does_not_depend_on_its_neighbours(sampler: Sampler, images: Images) -> None:
    rng = random.Random(0)
    for position in range(BATCH_SIZE):
        seeds = [rng.getrandbits(63) for _ in SEEDS]
        class_ids = [rng.randrange(NUM_CLASSES) for _ in SEEDS]
        seeds[position], class_ids[position] = SEEDS[position], CLASS_IDS[position]
        assert np.array_equal(sampler.sample(seeds, class_ids)[position], images[position])


def test_the_order_of_calls_does_not_matter(case: Case, images: Images) -> None:
    sampler = case.sampler()
    for _ in range(2):
        sampler.sample([123], [1])
        assert np.array_equal(sampler.sample(SEEDS, CLASS_IDS), images)


def test_sampling_neither_uses_nor_moves_global_random_state(case: Case, images: Images) -> None:
    torch.manual_seed(99)
    np.random.seed(99)
    sampler = case.sampler()
    before = torch.get_rng_state()
    assert np.array_equal(sampler.sample(SEEDS, CLASS_IDS), images)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_seeds_give_other_images(images: Images) -> None:
    assert len({image.tobytes() for image in images}) == len(SEEDS)


def test_each_of_63_bits_of_the_seed_counts(case: Case) -> None:
    sampler = case.sampler()
    seen = set()
    for seed in [0, *(1 << bit for bit in range(63))]:
        seen.add(sampler.sample([seed], [0])[0].tobytes())
    assert len(seen) == 64


def test_the_class_counts(case: Case, sampler: Sampler) -> None:
    by_class = {sampler.sample([7], [c])[0].tobytes() for c in range(NUM_CLASSES)}
    # Of disc, ring and bar, procedural knows ring alone: the others show any shape.
    without_weights = {"noise": 1, "procedural": 2}
    assert len(by_class) == without_weights.get(case.model.config.generator, NUM_CLASSES)


@pytest.mark.parametrize(
    ("num_seeds", "num_ids"), [(0, 0), (BATCH_SIZE + 1, BATCH_SIZE + 1), (2, 1)]
)
def test_a_wrong_number_of_requests_is_refused(
    sampler: Sampler, num_seeds: int, num_ids: int
) -> None:
    with pytest.raises(ValueError):
        sampler.sample([1] * num_seeds, [0] * num_ids)


@pytest.mark.parametrize("generator", sorted(SHIPPED_SIZE))
def test_the_same_at_the_shipped_sizes_and_batch(generator: str, tmp_path: Path) -> None:
    """At the real widths and batch shape, where the fast kernels are."""
    model = save_random_model(tmp_path / generator, SHIPPED_SIZE[generator])
    case = make_case(model, {"num_inference_steps": 1} if generator in _BY_STEPS else {})
    size = model.spec.batch_size
    sampler = case.sampler(batch_size=size)
    rng = random.Random(1)
    seeds = [rng.getrandbits(63) for _ in range(size)]
    class_ids = [rng.randrange(NUM_CLASSES) for _ in range(size)]
    images = sampler.sample(seeds, class_ids)
    order = rng.sample(range(size), size)
    moved = sampler.sample([seeds[i] for i in order], [class_ids[i] for i in order])
    assert np.array_equal(moved, images[order])
    some = [0, size // 2, size - 1]
    assert_each_alone(sampler, images[some], [seeds[i] for i in some], [class_ids[i] for i in some])


_PROGRAM = """
import json, sys
from pathlib import Path
import torch
from tests.contract.test_generator_contract import digests_of
torch.set_num_threads(1)
print(json.dumps(digests_of({name: Path(path) for name, path in json.load(sys.stdin).items()})))
"""


def digests_of(folders: dict[str, Path]) -> dict[str, str]:
    """By generator, of the images of a model loaded from its folder."""
    found = {}
    for name, folder in folders.items():
        options = {"num_inference_steps": 2, "guidance_scale": 1.5} if name in _GUIDED else {}
        images = make_case(load_model(folder), options).sampler().sample(SEEDS, CLASS_IDS)
        found[name] = hashlib.sha256(images.tobytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def elsewhere(models: dict[str, Model]) -> dict[str, str]:
    """What one other process finds. It goes the other way round: each model is loaded after others
    than here."""
    folders = {name: str(models[name].path) for name in sorted(TINY, reverse=True)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(folders),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("generator", sorted(TINY))
def test_another_process_gives_the_same_images(
    generator: str, models: dict[str, Model], elsewhere: dict[str, str]
) -> None:
    here = digests_of({generator: models[generator].path})
    assert elsewhere[generator] == here[generator]


@pytest.mark.parametrize("device", DEVICES)
def test_the_promises_hold_on_every_device_here(case: Case, device: str) -> None:
    sampler = case.sampler(device=device)
    images = sampler.sample(SEEDS, CLASS_IDS)
    assert_each_alone(sampler, images, SEEDS, CLASS_IDS)
