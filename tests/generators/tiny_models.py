"""Small models of every family with random weights, for tests of everything but quality."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import torch

from datagen.generators import GENERATORS
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import Model, save_model
from datagen.generators.model_facts import ModelFacts
from tests.generators.tiny_pipeline import save_tiny_pipeline

CLASS_NAMES = ("disc", "ring", "bar")
FACTS = ModelFacts(licence="Apache-2.0", source="random weights of a test")

_TINY_UNET = {"patch_px": 2, "widths": [8, 16], "norm_num_groups": 4, "sigma_data": 0.5}

# Made by save_random_model, when a lora is first asked for.
_PIPELINE = Path(tempfile.gettempdir()) / f"datagen-tiny-pipeline-{os.getpid()}"
_TINY_LORA = ModelConfig(
    "lora", CLASS_NAMES, (8, 12), 3, {"pipeline": str(_PIPELINE), "rank": 4, "alpha": 32}
)

TINY = {
    "cgan": ModelConfig(
        "cgan", CLASS_NAMES, (8, 12), 3, {"latent_dim": 4, "widths": [8, 4], "num_blocks": 1}
    ),
    "ect": ModelConfig("ect", CLASS_NAMES, (8, 12), 3, _TINY_UNET),
    "edm": ModelConfig("edm", CLASS_NAMES, (8, 12), 3, _TINY_UNET),
    "latent-edm": ModelConfig(
        "latent-edm",
        CLASS_NAMES,
        (8, 12),
        3,
        _TINY_UNET | {"patch_px": 1, "autoencoder_widths": [4, 8]},
    ),
    "lora": _TINY_LORA,
    "noise": ModelConfig("noise", (), (0, 0), 0, {}),
    "vae": ModelConfig("vae", CLASS_NAMES, (8, 12), 3, {"latent_dim": 4, "widths": [4, 8]}),
}

# The sizes of the shipped models: the libraries choose other kernels for larger layers.
SHIPPED_SIZE = {
    "cgan": ModelConfig(
        "cgan", CLASS_NAMES, (28, 28), 1, {"latent_dim": 64, "widths": [160, 96], "num_blocks": 1}
    ),
    "ect": ModelConfig(
        "ect", CLASS_NAMES, (28, 28), 1, {"patch_px": 2, "widths": [64, 128], "sigma_data": 0.7}
    ),
    "edm": ModelConfig(
        "edm", CLASS_NAMES, (28, 28), 1, {"patch_px": 2, "widths": [64, 128], "sigma_data": 0.7}
    ),
    "latent-edm": ModelConfig(
        "latent-edm",
        CLASS_NAMES,
        (28, 28),
        1,
        {"widths": [64, 128], "autoencoder_widths": [32, 64]},
    ),
    "lora": _TINY_LORA,
    "noise": ModelConfig("noise", (), (0, 0), 0, {}),
    "vae": ModelConfig("vae", CLASS_NAMES, (28, 28), 1, {"latent_dim": 32, "widths": [64, 128]}),
}


def random_weights(config: ModelConfig, *, seed: int = 0) -> dict[str, torch.Tensor] | None:
    """Initial weights plus noise: layers that start at zero would hide the classes."""
    spec = GENERATORS[config.generator]
    if not spec.needs_weights:
        return None
    weights = spec.objective(config, spec.objective_options(), seed=seed).ema_weights()
    rng = torch.Generator().manual_seed(seed)
    return {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=rng)
        for name, tensor in weights.items()
    }


def save_random_model(folder: Path, config: ModelConfig, *, seed: int = 0) -> Model:
    config = _with_pipeline(config)
    return save_model(folder, config, random_weights(config, seed=seed), FACTS, card="# a test\n")


def _with_pipeline(config: ModelConfig) -> ModelConfig:
    """What a training adds to the config of a lora: the digest of its pipeline."""
    if config.generator != "lora":
        return config
    if not _PIPELINE.exists():
        atexit.register(shutil.rmtree, _PIPELINE, ignore_errors=True)
        save_tiny_pipeline(_PIPELINE)
    spec = GENERATORS["lora"]
    return spec.fit(config, spec.options(), class_names=(), image_size=(0, 0))
