"""The contract of a sampler, of every family of pipelines and every task that it is put to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from datagen.conditions import Condition, Prompt
from datagen.errors import ModelError
from datagen.generators.interface import Images
from datagen.generators.pipeline.families import CALLS
from datagen.generators.pipeline.sample import PipelineSampler
from datagen.labels import Labels
from tests.generators.pipeline_cases import (
    BATCH_SIZE,
    CLASS_IDS,
    SEEDS,
    SPEC,
    Case,
    condition_for,
    draw,
    fitted,
    loaded,
    mixed,
    tiny_folders,
)

_LABELS = {"class_labels": {"disc": 3, "ring": 4, "bar": 999}}
_FOUR = ("sd", "xl", "sd3", "flux")


def _tasks_of(kind: str) -> list[Case]:
    control = {"task": "controlnet"}
    net = f"controlnet of {kind}"
    return [
        Case(kind),
        Case(kind, {"task": "image-to-image", "strength": 0.5, "num_inference_steps": 4}),
        Case(kind, {"task": "inpainting", "picture_channels": 1}),
        Case(kind, control | {"control": "edges"}, net),
        Case(kind, control | {"control": "segmentation"}, net),
    ]


FIRST = [
    *(case for kind in _FOUR for case in _tasks_of(kind)),
    Case("sd2", {"scheduler": "dpmpp_2m"}),
    Case("sd", {"scheduler": "euler_a"}),
    Case("upscale"),
    Case("latent upscale"),
    Case("super resolution"),
    Case("ddpm"),
    Case("ddim"),
    Case("dit", _LABELS),
]
# Those that diffusers runs by the same code, and that the issue asks for without promises.
SECOND = [
    Case("dit", _LABELS | {"scheduler": "ddpm"}),
    Case("pndm", {"num_inference_steps": 4}),
    Case("ldm", image_size=(32, 32)),
    Case("lcm"),
    Case("lcm", {"task": "image-to-image", "strength": 0.5, "num_inference_steps": 4}),
    Case("flux control"),
    Case("flux fill"),
    Case("pix2pix"),
    Case("pixart alpha"),
    Case("pixart sigma"),
    Case("sana", image_size=(32, 32)),
    Case("kandinsky"),
    Case("kandinsky", {"task": "image-to-image", "strength": 0.5, "num_inference_steps": 4}),
    Case("kandinsky inpaint"),
    Case("unclip"),
    Case("deepfloyd"),
    Case("deepfloyd", {"task": "image-to-image"}),
    Case("deepfloyd", {"task": "inpainting"}),
    Case("deepfloyd upscale"),
]
_PARAMS = [
    *(pytest.param(case, id=str(case)) for case in FIRST),
    *(pytest.param(case, id=str(case), marks=pytest.mark.slow) for case in SECOND),
]

# Of diffusers' own code, on which it calls us: numpy's new rule for copies.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def folders() -> Iterator[None]:
    with tiny_folders():
        yield


@pytest.fixture(scope="module", params=_PARAMS)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def sampler(case: Case) -> PipelineSampler:
    return loaded(case)


@pytest.fixture(scope="module")
def images(sampler: PipelineSampler) -> Images:
    return draw(sampler)


def test_images_are_whole_and_differ_by_seed(sampler: PipelineSampler, images: Images) -> None:
    assert images.shape == (3, *sampler.config.image_size, sampler.config.channels)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous
    assert len({image.tobytes() for image in images}) == 3
    same = [condition_for(0, sampler.config)] * 2
    by_seed = draw(sampler, [1, 1 + 2**32], [0, 0], same if _is_told(sampler) else None)
    assert not np.array_equal(*by_seed), "bits of the seed above the 32 that torch keeps count"


def test_an_image_depends_on_its_own_request_alone(
    sampler: PipelineSampler, images: Images
) -> None:
    """At any position, with any neighbours, alone in a padded batch, after any other call; and
    nothing is drawn from the process's own generators."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    order = [2, 0, 1, 2]
    moved = draw(sampler, [SEEDS[i] for i in order], order)
    assert np.array_equal(moved, images[order])
    among_others = draw(sampler, [77, 76, 78, SEEDS[1]], [2, 0, 2, 1])
    assert np.array_equal(among_others[3], images[1])
    assert np.array_equal(draw(sampler, SEEDS[2:], CLASS_IDS[2:])[0], images[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_what_it_is_told_counts(sampler: PipelineSampler, images: Images) -> None:
    if not _is_told(sampler):
        has_classes = not sampler.opened.call.batch_argument
        by_class = draw(sampler, [5, 5], [0, 1])
        assert np.array_equal(*by_class) != has_classes
        return
    base = condition_for(0, sampler.config)
    told = []
    if sampler.opened.call.words != "none":
        told.append(condition_for(0, sampler.config, text="zebra crossing"))
    if sampler.config.condition is not None:
        other = condition_for(4, sampler.config)
        told.append(Condition(base.labels, other.mask, other.image, other.region, base.prompt))
    drawn = draw(sampler, [SEEDS[0]] * len(told), [0] * len(told), told)
    assert len({image.tobytes() for image in (images[0], *drawn)}) == 1 + len(told)


def _is_told(sampler: PipelineSampler) -> bool:
    return sampler.opened.call.words != "none" or sampler.config.condition is not None


def test_an_inpainted_image_is_its_picture_outside_the_region(
    sampler: PipelineSampler, images: Images
) -> None:
    if sampler.config.condition is None or sampler.config.condition.kind != "inpaint":
        return
    conditions = [condition_for(i, sampler.config) for i in CLASS_IDS]
    for image, condition in zip(images, conditions, strict=True):
        assert condition.image is not None
        assert condition.region is not None
        same = (image == condition.image).all(axis=2)
        assert same[~condition.region].all()
        assert not same[condition.region].all()


def test_ends_of_a_mix_are_exact(sampler: PipelineSampler, images: Images) -> None:
    """Weight 0 is the image itself, weight 1 that of the other end, a half neither."""
    config, call = sampler.config, sampler.opened.call
    takes = SPEC.takes(config, sampler.opened.options)
    assert {f"mix:{kind}" for kind in call.mixes} == takes - {"prompt", "negative"}
    own, other = condition_for(0, config), condition_for(1, config)
    ends: dict[str, tuple[int, int, Condition]] = {
        "seeds": (99, 0, own),
        "classes": (5, 1, replace(own, prompt=Prompt("a ring"))),
        "images": (5, 0, replace(own, image=other.image)),
    }
    for kind in sorted(call.mixes):
        seed, class_id, end = ends[kind]
        image = {"image": other.image} if kind == "images" else {}
        told = [mixed(own, kind, weight, **image) for weight in (0.0, 0.5, 1.0)]
        drawn = draw(sampler, [5, 5, 5, seed], [0, 0, 0, class_id], [*told, end])
        assert np.array_equal(drawn[0], images[0]), kind
        assert np.array_equal(drawn[2], drawn[3]), kind
        assert len({image.tobytes() for image in drawn}) == 3, kind


def test_memory_is_estimated_before_it_is_taken(sampler: PipelineSampler) -> None:
    estimate = SPEC.memory_bytes(sampler.config, sampler.opened.options)
    assert estimate == pytest.approx(sampler.memory_bytes, rel=0.05)


def test_every_class_that_is_run_has_a_case() -> None:
    """Or runs by the code of a family that has one."""
    seen = {fitted_class(case) for case in (*FIRST, *SECOND)}
    by_the_same_code = {"SanaControlNetPipeline", "AuraFlowPipeline"}
    assert set(CALLS) - seen == by_the_same_code


def fitted_class(case: Case) -> str:
    config, options = fitted(case)
    return SPEC._open(config, options).pipeline_class


def test_wrong_numbers_of_requests_are_programming_errors() -> None:
    sampler = loaded(Case("ddim"))
    for num_seeds, num_ids in ((0, 0), (BATCH_SIZE + 1, BATCH_SIZE + 1), (2, 1)):
        with pytest.raises(ValueError, match="seeds"):
            sampler.sample([1] * num_seeds, [0] * num_ids)


@pytest.mark.slow
def test_what_the_pipeline_says_against_its_options_is_told() -> None:
    with pytest.raises(ModelError, match=r"PNDMPipeline: cannot draw .* \(operands could not be"):
        draw(loaded(Case("pndm")))


def test_an_image_without_what_it_needs_is_refused() -> None:
    with pytest.raises(ModelError, match="draws nothing without its prompt"):
        loaded(Case("sd")).sample([1], [0])
    sampler = loaded(Case("sd", {"task": "image-to-image"}))
    with pytest.raises(ModelError, match="without a picture"):
        sampler.sample_conditioned([1], [0], [Condition(Labels("disc"))])
