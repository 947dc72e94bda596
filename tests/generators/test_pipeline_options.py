"""Options of a recipe against what a pipeline takes, and what each of them does to the images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from datagen.conditions import Condition, ConditionConfig, Prompt
from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig
from datagen.generators.pipeline.options import SCHEDULERS, PipelineOptions
from datagen.generators.pipeline.pictures import palette, pictures_of
from datagen.generators.pipeline.randomness import no_other_draws, seeded_generators
from datagen.generators.pipeline.sample import PipelineSampler
from datagen.labels import Labels
from tests.generators.pipeline_cases import (
    CLASS_NAMES,
    SPEC,
    Case,
    condition_for,
    draw,
    fitted,
    loaded,
    options_of,
    tiny,
    tiny_folders,
)
from tests.generators.tiny_pipelines import CLIP_WIDTH

_CONTROL = Case("sd", {"task": "controlnet"}, "controlnet of sd")
_EMPTY = ModelConfig("pipeline", (), (0, 0), 0, {})

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def folders() -> Iterator[None]:
    with tiny_folders():
        yield


@pytest.fixture(scope="module")
def plain() -> PipelineSampler:
    return loaded(Case("sd"))


@pytest.mark.parametrize(
    "options",
    [
        *({"num_inference_steps": wrong} for wrong in (0, 10_000, True, 2.0, "20")),
        *({"guidance_scale": wrong} for wrong in (-1.0, float("nan"), 1000.0)),
        *({"strength": wrong} for wrong in (0.0, 1.5)),
        {"scheduler": "torch.load"},
        {"dtype": "float64"},
        {"quantization": "int4"},
        {"loras": [{"source": "a", "weight": "strong"}]},
        {"revision": "main"},
        {"textual_inversions": [{"source": "a", "token": "two words"}]},
        {"custom_pipeline": "x"},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PipelineOptions.model_validate({"source": "somewhere"} | options)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        (Case("sd"), {"strength": 0.5}, r"StableDiffusionPipeline \(text-to-image\) takes no str"),
        (Case("sd"), {"max_sequence_length": 64}, "takes no max_sequence_length"),
        (Case("sd"), {"controlnet_conditioning_scale": 1.0}, "takes no controlnet_conditioning"),
        (Case("sd"), {"class_labels": {"disc": 1}}, "takes no class_labels"),
        (Case("sd"), {"control": "edges"}, "task text-to-image has no control"),
        (Case("sd"), {"picture_channels": 1}, "is shown no picture"),
        (Case("ddim"), {"guidance_scale": 2.0}, "DDIMPipeline .* takes no guidance_scale"),
        (Case("ddim"), {"vae_tiling": True}, "has no VAE"),
        (
            Case("sd"),
            {"scheduler": "flow_match_euler"},
            "scheduler flow_match_euler: .* takes ddim",
        ),
        (Case("flux"), {"scheduler": "dpmpp_2m"}, "FluxPipeline takes flow_match_euler"),
        (Case("unclip"), {"scheduler": "ddim"}, "takes none but its own"),
        (Case("xl", {"task": "image-to-image"}), {}, r"strength 0\.3: of 2 steps that leaves none"),
        (Case("sd", {"task": "controlnet"}), {}, "options.controlnet is missing"),
        (Case("sd"), {"controlnet": "net", "task": "inpainting"}, "task inpainting has none"),
        (Case("sd", image_size=(12, 16)), {}, r"multiples of 8; expected such as \[16, 16\]"),
        (Case("ddpm", image_size=(32, 32)), {}, r"makes \[16, 16\] alone"),
        (Case("upscale", image_size=(20, 16)), {}, "multiples of 8"),
        (Case("dit"), {}, "class disc: the model has no label 'disc'"),
        (Case("dit"), {"class_labels": {"disc": 1000}}, "number from 0 to 999"),
        (Case("dit"), {"class_labels": {"cube": 1}}, "'cube' is no class of the recipe"),
        (Case("kandinsky"), {"quantization": "float8"}, "use int8"),
        (
            Case("sd"),
            {"cpu_offload": "model", "quantization": "int8"},
            "exclude each other",
        ),
    ],
    ids=lambda value: value.replace(" ", "_")[:40] if isinstance(value, str) else str(value)[:60],
)
def test_what_a_pipeline_does_not_take_is_refused_by_name(
    case: Case, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        fitted(case, **changes)


def test_a_gpu_is_needed_to_offload() -> None:
    with pytest.raises(ModelError, match=r"cpu_offload model: .* this worker runs on cpu"):
        loaded(Case("sd"), cpu_offload="model")


def test_the_source_is_named_once() -> None:
    with pytest.raises(ModelError, match=r"options\.source is missing"):
        SPEC.pin_options(_EMPTY, PipelineOptions())
    options = options_of(Case("sd"))
    network = {
        "source": options.source,
        "sha256": "0" * 64,
        "pipeline_class": "StableDiffusionPipeline",
        "task": "text-to-image",
    }
    with pytest.raises(ModelError, match=r"options\.source .*: the model names its pipeline"):
        SPEC.pin_options(replace(_EMPTY, network=network), options)
    with pytest.raises(ModelError, match=r"sha256 .* expected 0000"):
        SPEC.pin_options(replace(_EMPTY, network=network), PipelineOptions())


def test_digests_of_all_files_are_pinned(tmp_path: Path) -> None:
    lora = save_lora(tmp_path / "lora.safetensors")
    _, options = fitted(_CONTROL, loras=[{"source": str(lora)}])
    assert options.sha256 is not None
    assert options.controlnet_sha256 is not None
    assert options.loras[0].sha256 is not None
    assert SPEC.pin_options(_EMPTY, options) == options
    save_file({k: v + 1 for k, v in lora_state().items()}, lora)
    with pytest.raises(ModelError, match="sha256"):
        SPEC.pin_options(_EMPTY, options)


@pytest.mark.parametrize(
    ("case", "condition"),
    [
        (Case("sd"), None),
        (_CONTROL, ConditionConfig("image", (), 3)),
        (replace(_CONTROL, options=_CONTROL.options | {"control": "edges"}), 1),
        (
            replace(_CONTROL, options=_CONTROL.options | {"control": "segmentation"}),
            ConditionConfig("mask", (), 0),
        ),
        (Case("sd", {"task": "inpainting"}), ConditionConfig("inpaint", (), 3)),
        (Case("upscale"), ConditionConfig("image", (), 3)),
    ],
    ids=str,
)
def test_the_task_decides_what_images_are_made_to_fit(case: Case, condition: Any) -> None:
    config, options = fitted(case)
    expected = ConditionConfig("image", (), 1) if condition == 1 else condition
    assert config.condition == expected
    assert config.class_names == CLASS_NAMES
    assert SPEC.needs_prompt(config, options) == (expected is None)


def test_labels_of_a_class_conditional_model_are_found_by_name(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("dit"), tmp_path / "dit"))
    index = json.loads((folder / "model_index.json").read_text())
    index["id2label"] = {"7": "disc, flat plate", "8": "ring", "9": "bar"}
    (folder / "model_index.json").write_text(json.dumps(index))
    sampler = loaded(Case("dit"), source=str(folder), class_labels={"bar": "Flat_Plate"})
    assert list(sampler.class_numbers) == [7, 8, 7]
    with pytest.raises(ModelError, match="no label 'mug'; it has disc, flat plate, ring, bar"):
        loaded(Case("dit"), source=str(folder), class_labels={"bar": "mug"})


def test_a_prompt_that_an_encoder_would_cut_is_refused() -> None:
    config, options = fitted(Case("sd3"))
    SPEC.check_prompts(config, options, ["abcdefghij klm"])
    too_long = "a" * 23
    with pytest.raises(ModelError, match=r"'a{23}' has 25 tokens; the tokenizer .* at most 24"):
        SPEC.check_prompts(config, options, ["fine", too_long])
    # Where the recipe says how much T5 reads, CLIP's is a summary of the start.
    config, options = fitted(Case("sd3"), max_sequence_length=30)
    SPEC.check_prompts(config, options, [too_long])
    with pytest.raises(ModelError, match="the tokenizer_3 of the pipeline takes at most 30"):
        SPEC.check_prompts(config, options, ["a" * 40])


def test_negative_prompts_are_of_their_own_image(plain: PipelineSampler) -> None:
    told = [condition_for(0, plain.config, negative=text) for text in ("", "blur", "grain")]
    images = draw(plain, [5] * 3, [0] * 3, told)
    assert len({image.tobytes() for image in images}) == 3
    assert np.array_equal(draw(plain, [5], [0], told[:1])[0], images[0])
    xl = loaded(Case("xl"))
    zeros, empty = draw(xl, [5] * 2, [0] * 2, told[:2])
    assert np.array_equal(draw(xl, [5], [0], told[:1])[0], zeros), "whatever its neighbours have"
    assert not np.array_equal(zeros, empty)


def test_a_negative_prompt_that_is_not_taken_is_refused() -> None:
    told = [condition_for(0, fitted(Case("flux"))[0], negative="blur")]
    with pytest.raises(ModelError, match="FluxPipeline takes no negative prompt"):
        draw(loaded(Case("flux")), [5], [0], told)
    images = draw(loaded(Case("flux"), true_cfg_scale=3.0), [5] * 2, [0] * 2, told * 2)
    assert np.array_equal(*images)


@pytest.mark.parametrize("scheduler", sorted(set(SCHEDULERS) - {"flow_match_euler"}))
def test_every_scheduler_gives_an_image_of_its_own_request(scheduler: str) -> None:
    """Two calls with one sampler: schedulers keep state, and some draw noise at every step."""
    sampler = loaded(Case("sd"), scheduler=scheduler, num_inference_steps=3, batch_size=2)
    first = draw(sampler, [5, 6], [0, 1])
    again = draw(sampler, [6, 5], [1, 0])
    assert np.array_equal(again[::-1], first)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 20),
        ({"guidance_scale": 1.0}, 10),
        ({"scheduler": "heun", "guidance_scale": 1.0}, 19),
        ({"strength": 0.5}, 10),
    ],
)
def test_network_calls_are_steps_and_guided_ones_twice(options: dict[str, Any], calls: int) -> None:
    checked = PipelineOptions.model_validate({"num_inference_steps": 10} | options)
    assert SPEC.num_network_calls(checked) == calls


def test_guidance_and_steps_count(plain: PipelineSampler) -> None:
    base = draw(plain, [5], [0])
    for changes in ({"guidance_scale": 1.0}, {"num_inference_steps": 3}, {"scheduler": "unipc"}):
        assert not np.array_equal(draw(loaded(Case("sd"), **changes), [5], [0]), base), changes


def lora_state(*, seed: int = 0, rank: int = 2) -> dict[str, torch.Tensor]:
    """Of the query of every attention of the tiny UNet, as diffusers saves it."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(tiny("sd"), subfolder="unet")
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for name, module in unet.named_modules():
        if name.endswith("to_q"):
            for part, shape in (
                ("lora_A", (rank, module.in_features)),
                ("lora_B", (module.out_features, rank)),
            ):
                state[f"unet.{name}.{part}.weight"] = torch.randn(shape, generator=rng)
    return state


def save_lora(path: Path, *, seed: int = 0) -> Path:
    save_file(lora_state(seed=seed), path)
    return path


def test_adapters_change_images_by_their_weights(plain: PipelineSampler, tmp_path: Path) -> None:
    one = str(save_lora(tmp_path / "one.safetensors"))
    two = str(save_lora(tmp_path / "two.safetensors", seed=1))
    first = {"source": one, "weight": 1.0}
    wanted: list[list[dict[str, Any]]] = [
        [first | {"weight": 0.0}],
        [first],
        [first | {"weight": 3.0}],
        [first, {"source": two, "weight": 1.5}],
    ]
    base = draw(plain, [5], [0])
    drawn = [draw(loaded(Case("sd"), loras=loras), [5], [0]) for loras in wanted]
    assert np.array_equal(drawn[0], base)
    assert len({image.tobytes() for image in drawn}) == 4


def test_a_learned_embedding_is_called_by_its_token(plain: PipelineSampler, tmp_path: Path) -> None:
    path = tmp_path / "embedding.safetensors"
    save_file({"emb_params": torch.randn(2, CLIP_WIDTH) * 20}, path)
    inversion = {"source": str(path), "token": "<lesion>"}
    taught = loaded(Case("sd"), textual_inversions=[inversion])
    told = [
        Condition(Labels("disc"), prompt=Prompt(text)) for text in ("a disc", "a <lesion> disc")
    ]
    images = draw(taught, [5] * 2, [0] * 2, told)
    assert not np.array_equal(*images)
    assert np.array_equal(images[0], draw(plain, [5], [0], told[:1])[0])
    # Two vectors, and what else is said: one token more than the text shows.
    options = taught.opened.options
    SPEC.check_prompts(taught.config, options, ["<lesion> " + "a" * 20])
    with pytest.raises(ModelError, match="25 tokens"):
        SPEC.check_prompts(taught.config, options, ["<lesion> " + "a" * 21])


@pytest.mark.parametrize(("quantization", "share"), [("int8", 0.8), ("float8", 0.7)])
def test_quantised_weights_take_less_memory(
    plain: PipelineSampler, quantization: str, share: float
) -> None:
    small = loaded(Case("sd"), quantization=quantization)
    assert small.memory_bytes < share * plain.memory_bytes
    images, whole = draw(small), draw(plain)
    difference = np.abs(images.astype(int) - whole).mean()
    assert 0 < difference < 12, "near what whole weights draw"
    assert np.array_equal(draw(small, [2**63 - 1], [1])[0], images[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["xl", "flux", "kandinsky"])
def test_other_families_compute_with_weights_of_eight_bits(kind: str) -> None:
    small = loaded(Case(kind), quantization="int8")
    images = draw(small)
    assert np.abs(images.astype(int) - draw(loaded(Case(kind)))).mean() < 12


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_takes_half_the_memory(plain: PipelineSampler, dtype: str) -> None:
    half = loaded(Case("sd"), dtype=dtype, vae_tiling=True)
    assert half.memory_bytes == pytest.approx(plain.memory_bytes / 2, rel=0.01)
    images = draw(half)
    assert np.array_equal(draw(half, [2**63 - 1], [1])[0], images[1])
    assert np.abs(images.astype(int) - draw(plain)).mean() < 12


def test_pixels_that_are_no_numbers_are_told() -> None:
    sampler = loaded(Case("sd"))
    with torch.no_grad():
        sampler.pipe.vae.decoder.conv_out.bias.fill_(torch.nan)
    with pytest.raises(ModelError, match="no numbers in float32"):
        draw(sampler)


def test_a_picture_of_another_size_is_refused() -> None:
    sampler = loaded(_CONTROL)
    odd = replace(condition_for(0, sampler.config), image=np.zeros((24, 16, 3), np.uint8))
    with pytest.raises(ModelError, match="control image of 24 x 16 pixels; expected 16 x 16"):
        draw(sampler, [5], [0], [odd])


def test_upscaling_starts_from_the_mean_of_the_pixels() -> None:
    picture = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    condition = Condition(Labels("disc"), image=picture)
    (small,) = pictures_of([condition], image_size=(16, 16), factor=4)
    expected = picture.reshape(4, 4, 4, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 0.5
    (same,) = pictures_of([replace(condition, image=small)], image_size=(16, 16), factor=4)
    assert np.array_equal(same, small)


def test_regions_have_colours_of_their_own() -> None:
    colours = palette()
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in colours.tolist()}) == 256


def test_each_of_63_bits_of_a_seed_counts() -> None:
    seeds = [0, *(1 << bit for bit in range(63))]
    drawn = {tuple(torch.randn(4, generator=g).tolist()) for g in seeded_generators(seeds)}
    assert len(drawn) == 64


def test_draws_of_a_seed_are_normal_and_unlike_those_of_the_next() -> None:
    first, second = (torch.randn(20_000, generator=g) for g in seeded_generators([1, 2]))
    assert abs(float(first.mean())) < 0.03
    assert abs(float(first.std()) - 1) < 0.03
    assert abs(float((first * second).mean())) < 0.03


def test_a_draw_from_the_process_is_refused() -> None:
    before = torch.get_rng_state()
    refused = pytest.raises(ModelError, match="draws numbers that are not of the image's seed")
    with refused, no_other_draws("pipeline X"):
        torch.randn(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_draw_before_a_failure_is_undone() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ModelError, match="other"), no_other_draws("pipeline X"):
        _draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)


def _draw_and_fail() -> None:
    torch.randn(3)
    raise ModelError("other")
