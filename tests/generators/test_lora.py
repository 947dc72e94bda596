"""Tuning and sampling of a tiny pipeline, with diffusers' own pipeline as the reference."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.interface import ModelConfig, Sampler, Update
from datagen.generators.lora.sample import noise_levels
from datagen.generators.lora.train import LoraObjective
from datagen.generators.model_directory import load_model
from datagen.generators.seeded import seeded_normal
from datagen.training.session import train_model
from tests.generators.tiny_pipeline import save_tiny_pipeline
from tests.training.tiny_data import tiny_recipe, write_tiny_data

CLASS_NAMES = ("disc", "ring", "bar")
SPEC = GENERATORS["lora"]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_pipeline(tmp_path_factory.mktemp("pipelines") / "tiny")


def config_of(folder: Path, *, channels: int = 3, **network: Any) -> ModelConfig:
    given = {"pipeline": str(folder), "rank": 4} | network
    config = ModelConfig("lora", CLASS_NAMES, (8, 16), channels, given)
    return SPEC.fit(config, SPEC.options(), class_names=(), image_size=(0, 0))


def objective_of(folder: Path, *, channels: int = 3, **options: Any) -> LoraObjective:
    checked = SPEC.objective_options.model_validate(options)
    objective = SPEC.objective(config_of(folder, channels=channels), checked, seed=0)
    assert isinstance(objective, LoraObjective)
    return objective


def batch(num: int = 8, *, channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    return torch.rand(num, channels, 8, 16, generator=rng) * 2 - 1, torch.arange(num) % 3


def step(objective: LoraObjective, number: int, *, draw: int | None = None) -> float:
    rng = torch.Generator().manual_seed(number if draw is None else draw)
    update = Update(number, 8 * number, learning_rate=1e-2, ema_decay=0.8, rng=rng)
    return objective.step(*batch(), update)["denoising"]


def loaded(config: ModelConfig, path: Path, **options: Any) -> Sampler:
    checked = SPEC.options.model_validate({"num_inference_steps": 3} | options)
    return SPEC.load(config, path, checked, batch_size=4)


@pytest.fixture(scope="module")
def tuned(pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights after a few steps."""
    objective = objective_of(pipeline)
    for number in range(5):
        step(objective, number)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(objective.ema_weights(), path)
    return path


def test_tuning_learns_a_batch_and_leaves_the_pipeline_alone(pipeline: Path) -> None:
    objective = objective_of(pipeline, class_dropout=0.0)
    frozen = {n: p.clone() for n, p in objective.parts.unet.named_parameters() if "lora" not in n}
    losses = [step(objective, number, draw=number % 2) for number in range(50)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    after = dict(objective.parts.unet.named_parameters())
    assert all(torch.equal(after[name], tensor) for name, tensor in frozen.items())


def test_only_the_added_layers_ship(pipeline: Path) -> None:
    names = objective_of(pipeline).ema_weights().keys()
    assert len(names) == 2 * 4 * 8  # A and B of four targets in eight attention layers
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in names)


@pytest.mark.parametrize(
    ("prediction_type", "is_xl"), [("epsilon", False), ("v_prediction", False), ("epsilon", True)]
)
def test_samples_equal_those_of_diffusers_pipeline_with_the_same_layers(
    prediction_type: str, is_xl: bool, tmp_path: Path
) -> None:
    """Its DDIM, its guidance, its loader of LoRA files, its VAE; our noise."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

    folder = save_tiny_pipeline(tmp_path / "tiny", prediction_type=prediction_type, is_xl=is_xl)
    objective = objective_of(folder)
    for number in range(10):
        step(objective, number)
    path = tmp_path / "model.safetensors"
    save_file(objective.ema_weights(), path)
    sampler = loaded(config_of(folder), path, sampler="ddim", guidance_scale=3.0)
    found = sampler.sample([7], [1])
    kind: Any = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
    reference = kind.from_pretrained(folder)
    reference.set_progress_bar_config(disable=True)
    reference.scheduler = DDIMScheduler.from_config(
        reference.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )

    def reference_image() -> np.ndarray[Any, Any]:
        made = reference(
            "a photo of a ring",
            height=8,
            width=16,
            num_inference_steps=3,
            guidance_scale=3.0,
            latents=torch.from_numpy(seeded_normal([7], (4, 4, 8))),
            output_type="np",
        )
        return np.asarray(made.images)

    untuned = reference_image()
    reference.load_lora_weights(path)
    assert np.abs(reference_image() * 255 - found).max() < 1.01
    assert np.abs(untuned * 255 - found).max() > 2, "the tuning must show"


def test_an_image_does_not_depend_on_its_place_in_the_batch(pipeline: Path, tuned: Path) -> None:
    sampler = loaded(config_of(pipeline), tuned)
    seeds, class_ids = [3, 2**63 - 1, 11, 12], [0, 1, 2, 1]
    images = sampler.sample(seeds, class_ids)
    assert images.shape == (4, 8, 16, 3)
    for position in range(4):
        order = np.roll(np.arange(4), position)
        moved = sampler.sample([seeds[i] for i in order], [class_ids[i] for i in order])
        assert np.array_equal(moved, images[order])
        alone = sampler.sample([seeds[position]], [class_ids[position]])
        assert np.array_equal(alone[0], images[position])


def test_a_prompt_is_what_makes_a_class(pipeline: Path, tuned: Path) -> None:
    """Neither its name nor its number, nor what other classes there are."""
    config = config_of(pipeline)
    prompts = {"x": "a photo of a bar", "y": "a photo of a disc"}
    network = config.network | {"prompts": prompts}
    other = ModelConfig("lora", ("x", "y"), config.image_size, 3, network)
    images = loaded(config, tuned).sample([5, 5, 5], [0, 1, 2])
    assert np.array_equal(loaded(other, tuned).sample([5, 5], [1, 0]), images[[0, 2]])
    assert len({image.tobytes() for image in images}) == 3


def test_the_average_samples_while_the_layers_are_trained(pipeline: Path) -> None:
    objective = objective_of(pipeline, evaluation_steps=2)
    for number in range(3):
        step(objective, number)
    before = objective.state()
    images = objective.ema_sampler(4).sample([1, 2], [0, 1])
    after = objective.state()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(
        next(iter(objective.adapter.values())), next(iter(objective.average.values()))
    )
    objective.init_from(objective.ema_weights(), [0, None])
    assert np.array_equal(objective.ema_sampler(4).sample([1, 2], [0, 1]), images)


def test_a_resumed_tuning_goes_on_bit_for_bit(pipeline: Path) -> None:
    whole, second = objective_of(pipeline), objective_of(pipeline)
    for number in range(2):
        step(whole, number)
    second.load_state({name: tensor.clone() for name, tensor in whole.state().items()})
    assert step(whole, 2) == step(second, 2)
    assert all(torch.equal(t, second.state()[name]) for name, t in whole.state().items())


def test_saving_memory_changes_little(pipeline: Path) -> None:
    """Gradient checkpointing nothing at all, bfloat16 its rounding."""
    plain = objective_of(pipeline)
    expected = [step(plain, number) for number in range(2)]
    saving = objective_of(pipeline, gradient_checkpointing=True)
    assert [step(saving, number) for number in range(2)] == expected
    rounded = objective_of(pipeline, precision="bfloat16")
    losses = [step(rounded, number) for number in range(2)]
    assert losses != expected
    assert losses == pytest.approx(expected, rel=0.02)


def test_a_checkpoint_of_another_pipeline_is_refused(pipeline: Path, tmp_path: Path) -> None:
    state = objective_of(pipeline).state()
    other = objective_of(save_tiny_pipeline(tmp_path / "other", seed=1))
    with pytest.raises(ModelError, match="made on another pipeline"):
        other.load_state(state)


def test_class_dropout_trains_the_empty_prompt(pipeline: Path) -> None:
    objective = objective_of(pipeline, class_dropout=0.5)
    seen: list[torch.Tensor] = []
    objective.parts.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    for number in range(8):
        step(objective, number)
    empty = (torch.cat(seen) == objective.parts.prompts.hidden[-1]).all(dim=(1, 2))
    assert 16 < int(empty.sum()) < 48


@pytest.mark.parametrize(
    ("is_velocity", "gamma", "expected"),
    [
        (False, 5.0, [1.0, 1.0, 5 / 9]),  # of signal to noise ratios 0, 1 and 9
        (True, 5.0, [0.0, 1 / 2, 5 / 10]),
        (True, None, [1.0, 1.0, 1.0]),
    ],
)
def test_min_snr_weights(
    pipeline: Path, is_velocity: bool, gamma: float | None, expected: list[float]
) -> None:
    objective = objective_of(pipeline, min_snr_gamma=gamma)
    object.__setattr__(objective.parts, "is_velocity", is_velocity)
    weights = objective._weights(torch.tensor([0.0, 0.5, 0.9]))
    assert weights.tolist() == pytest.approx(expected)


def test_noise_levels_start_at_pure_noise_and_fall() -> None:
    alphas = torch.linspace(0.999, 0, 1000)
    levels = noise_levels(alphas, 4)
    assert list(levels.values()) == [999, 749, 499, 249]
    sigmas = list(levels)
    assert sigmas[0] == pytest.approx(4096, rel=1e-3)
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[-1] ** 2 == pytest.approx((1 - float(alphas[249])) / float(alphas[249]))


def test_a_grey_model_draws_grey_images(pipeline: Path, tmp_path: Path) -> None:
    objective = objective_of(pipeline, channels=1)
    update = Update(0, 0, 1e-2, 0.5, torch.Generator().manual_seed(0))
    objective.step(*batch(channels=1), update)
    save_file(objective.ema_weights(), tmp_path / "w")
    config = config_of(pipeline, channels=1)
    assert loaded(config, tmp_path / "w").sample([1], [0]).shape == (1, 8, 16, 1)


def test_a_swapped_or_pickled_pipeline_is_refused(
    pipeline: Path, tuned: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pipeline, tmp_path / "pipeline"))
    config = config_of(folder)
    expected = loaded(config_of(pipeline), tuned).sample([1], [0])
    assert np.array_equal(loaded(config, tuned).sample([1], [0]), expected)
    shutil.rmtree(folder)
    save_tiny_pipeline(folder, seed=1)
    with pytest.raises(ModelError, match="not the files that the model was tuned on"):
        loaded(config, tuned)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="is a pickle"):
        loaded(config, tuned)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("unet.mid_block.x.lora_A.weight", (2, 2)), (None, (4, 9)), (None, None), (None, (4, 8))],
)
def test_weights_that_do_not_fit_are_refused(
    pipeline: Path, tuned: Path, tmp_path: Path, name: str | None, shape: tuple[int, ...] | None
) -> None:
    """One too many, one of another shape, one missing, one that is not finite."""
    weights = load_file(tuned)
    name = name or next(n for n, t in weights.items() if tuple(t.shape) == (4, 8))
    if shape is None:
        del weights[name]
    else:
        weights[name] = torch.full(shape, torch.nan)
    save_file(weights, tmp_path / "w")
    with pytest.raises(ModelError, match=f"tensor {name}: .* copy the model again"):
        loaded(config_of(pipeline), tmp_path / "w")


def test_base_weights_that_do_not_fit_their_configuration_are_refused(
    pipeline: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pipeline, tmp_path / "pipeline"))
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["decoder.conv_in.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"vae: 1 tensors are missing .* decoder.conv_in.weight"):
        objective_of(folder)
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="vae: cannot be loaded"):
        objective_of(folder)
    tokenizer = folder / "tokenizer" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"id": 53', '"id": 99').replace("53", "99"))
    with pytest.raises(ModelError, match="tokens above 54, which the text encoder"):
        objective_of(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (8, 11)}, r"\[8, 11\]: expected multiples of 2, the pixels of a latent"),
        ({"channels": 2}, "2 channels: expected 1 or 3"),
        ({"prompts": "a photo"}, "expected {class} in it"),
        ({"prompts": {"disc": "a", "ring": "b"}}, "'bar' has no prompt"),
        ({"prompts": dict.fromkeys((*CLASS_NAMES, "cube"), "a")}, "'cube' is no class"),
        ({"prompts": "a very very very very long photo of a {class}"}, "tokens; expected at most"),
        ({"pipeline": ""}, "network.pipeline is missing"),
    ],
)
def test_configs_that_cannot_be_tuned_are_refused(
    pipeline: Path, changes: dict[str, Any], message: str
) -> None:
    sizes = {"image_size": (8, 16), "channels": 3}
    network = {"pipeline": str(pipeline)} | {k: v for k, v in changes.items() if k not in sizes}
    given = sizes | {k: v for k, v in changes.items() if k in sizes}
    config = ModelConfig("lora", CLASS_NAMES, network=network, **given)
    with pytest.raises(ModelError, match=message):
        SPEC.objective(config, SPEC.objective_options(), seed=0)


def test_the_extra_that_is_missing_is_named(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModelError, match=r"peft not installed; `pip install 'datagen\[lora\]'`"):
        objective_of(pipeline)


def test_a_model_that_names_no_digest_is_refused(pipeline: Path, tuned: Path) -> None:
    config = ModelConfig("lora", CLASS_NAMES, (8, 16), 3, {"pipeline": str(pipeline), "rank": 4})
    with pytest.raises(ModelError, match="pipeline_sha256 is missing"):
        loaded(config, tuned)


def test_a_trained_model_names_the_digest_of_its_pipeline(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a model recipe to images, through the one loop."""
    monkeypatch.setattr("datagen.training.judge.MAX_PER_CLASS", 8)
    recipe = tiny_recipe("lora", write_tiny_data(tmp_path / "data"), num_images=32).model_copy(
        update={"network": {"pipeline": str(pipeline), "rank": 2}}
    )
    trained = train_model(recipe, out=tmp_path / "tiny", work=tmp_path / "work")
    model = load_model(trained.path)
    digest = config_of(pipeline).network["pipeline_sha256"]
    assert model.config.network["pipeline_sha256"] == digest
    assert model.weights is not None
    assert model.weights.stat().st_size < 50_000, "the added layers alone"
    sampler = model.spec.load(model.config, model.weights, model.spec.options(), batch_size=2)
    assert sampler.sample([1, 2], [0, 2]).shape == (2, 8, 8, 1)
