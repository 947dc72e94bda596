from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from datagen.errors import ModelError
from datagen.generators import GENERATORS
from datagen.generators.cgan.options import CganOptions
from datagen.generators.edm.options import EdmOptions
from datagen.generators.interface import ModelConfig
from datagen.generators.weights import MAX_PARAMETERS
from tests.generators.tiny_models import TINY, save_random_model


@pytest.mark.parametrize(
    ("generator", "options"),
    [
        ("cgan", {}),
        ("ect", {"num_inference_steps": 1}),
        ("ect", {"num_inference_steps": 3}),
        ("edm", {"num_inference_steps": 4}),
        ("edm", {"num_inference_steps": 4, "guidance_scale": 1.5}),
        ("edm", {"num_inference_steps": 4, "sampler": "heun"}),
        ("edm", {"num_inference_steps": 4, "sampler": "heun", "guidance_scale": 0}),
        ("edm", {"num_inference_steps": 1, "sampler": "euler"}),
        ("latent-edm", {"num_inference_steps": 4, "guidance_scale": 1.5}),
        ("lora", {"num_inference_steps": 3}),
        ("lora", {"num_inference_steps": 3, "guidance_scale": 1.0, "sampler": "ddim"}),
        ("vae", {}),
    ],
)
def test_num_network_calls_is_the_number_of_calls(
    generator: str, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = GENERATORS[generator]
    model = save_random_model(tmp_path_factory.mktemp("models") / generator, TINY[generator])
    checked = spec.options.model_validate(options)
    sampler: Any = spec.load(model.config, model.weights, checked, batch_size=2)
    shapes = []
    sampler.network.register_forward_hook(lambda _, inputs, __: shapes.append(inputs[0].shape))
    sampler.sample([1], [0])
    assert len(shapes) == spec.num_network_calls(checked)
    assert len(set(shapes)) == 1, "guidance too runs at the one batch shape"


@pytest.mark.parametrize(
    ("generator", "options"),
    [
        ("ect", {"num_inference_steps": 5}),
        ("ect", {"guidance_scale": 1.0}),
        ("edm", {"num_inference_steps": True}),
        ("edm", {"num_inference_steps": 0}),
        ("edm", {"num_inference_steps": 10**12}),
        ("edm", {"num_inference_steps": 18.0}),
        ("edm", {"guidance_scale": float("nan")}),
        ("edm", {"guidance_scale": -1}),
        ("edm", {"sampler": "ddim"}),
        ("edm", {"sigma_max": float("inf")}),
        ("edm", {"guidance": 1.0}),
        ("cgan", {"truncation": 0}),
        ("cgan", {"truncation": "0.5"}),
        ("lora", {"sampler": "heun"}),
        ("lora", {"num_inference_steps": 1001}),
        ("noise", {"channels": 2}),
        ("noise", {"channels": True}),
        ("vae", {"temperature": 0}),
        ("vae", {"temperature": float("inf")}),
    ],
)
def test_bad_sampling_options_are_refused(generator: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GENERATORS[generator].options.model_validate(options)


def test_whole_numbers_serve_as_options_that_are_real_numbers() -> None:
    assert EdmOptions.model_validate({"guidance_scale": 1}) == EdmOptions()
    assert CganOptions.model_validate({"truncation": 1}) == CganOptions()


def test_noise_takes_the_classes_and_size_of_the_recipe() -> None:
    spec = GENERATORS["noise"]
    options = spec.options.model_validate({"channels": 1})
    fitted = spec.fit(TINY["noise"], options, class_names=["a", "b"], image_size=(9, 33))
    assert (fitted.class_names, fitted.image_size, fitted.channels) == (("a", "b"), (9, 33), 1)
    assert spec.load(fitted, None, options, batch_size=4).sample([1], [1]).shape == (1, 9, 33, 1)


def test_a_trained_model_keeps_its_classes_and_size() -> None:
    for generator in ("cgan", "ect", "edm"):
        spec, config = GENERATORS[generator], TINY[generator]
        fitted = spec.fit(config, spec.options(), class_names=["x"], image_size=(64, 64))
        assert fitted == config


def config_of(generator: str, image_size: tuple[int, int], **network: Any) -> ModelConfig:
    return ModelConfig(generator, ("a", "b"), image_size, 1, network)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (config_of("cgan", (30, 28)), "multiples of 4"),
        (config_of("ect", (30, 28), widths=[16, 16]), "generator ect: .* multiples of 4"),
        (config_of("edm", (30, 28), widths=[16, 16]), "multiples of 4"),
        (config_of("edm", (28, 28), widths=[16, 16, 16]), "multiples of 8"),
        (config_of("edm", (28, 28), widths=[24]), "multiples of norm_num_groups 16"),
        (config_of("latent-edm", (28, 28)), "generator latent-edm: .* multiples of 8"),
        (
            config_of("latent-edm", (32, 32), autoencoder_widths=[16, 24]),
            "autoencoder_widths .* multiples of norm_num_groups 16",
        ),
        (config_of("vae", (28, 28), widths=[16, 16, 16]), "generator vae: .* multiples of 8"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(config: ModelConfig, message: str) -> None:
    spec = GENERATORS[config.generator]
    with pytest.raises(ModelError, match=message):
        spec.check(config)
    with pytest.raises(ModelError, match=message):
        spec.objective(config, spec.objective_options(), seed=0)


@pytest.mark.parametrize(
    "config",
    [
        config_of("cgan", (1024, 1024), latent_dim=1024, widths=[1024, 1024], num_blocks=16),
        config_of("edm", (1024, 1024), widths=[1024] * 6, layers_per_block=8),
        config_of("latent-edm", (1024, 1024), widths=[1024] * 6, layers_per_block=8),
        config_of("vae", (1024, 1024), widths=[1024] * 6, num_blocks=16),
    ],
)
def test_huge_networks_are_refused_before_they_are_allocated(config: ModelConfig) -> None:
    spec = GENERATORS[config.generator]
    with pytest.raises(ModelError, match=f"at most {MAX_PARAMETERS:,}"):
        spec.objective(config, spec.objective_options(), seed=0)


def test_noise_cannot_be_trained() -> None:
    spec = GENERATORS["noise"]
    with pytest.raises(ModelError, match="use cgan or edm"):
        spec.objective(TINY["noise"], spec.objective_options(), seed=0)


@pytest.mark.parametrize("generator", ["cgan", "edm"])
def test_building_an_objective_leaves_global_random_state_alone(generator: str) -> None:
    spec = GENERATORS[generator]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    spec.objective(TINY[generator], spec.objective_options(), seed=0)
    assert torch.equal(torch.get_rng_state(), before)
