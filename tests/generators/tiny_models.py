"""Small models of every family with random weights, for tests of everything but quality."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datagen.conditions import Condition, ConditionConfig
from datagen.generators import GENERATORS
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import Model, save_model
from datagen.generators.model_facts import ModelFacts
from datagen.labels import Labels
from tests.generators.tiny_pipeline import save_tiny_pipeline

CLASS_NAMES = ("disc", "ring", "bar")
FACTS = ModelFacts(licence="Apache-2.0", source="random weights of a test")

CONDITION = ConditionConfig("mask", ("background", "left", "right"))

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
    "procedural": ModelConfig("procedural", (), (0, 0), 0, {}),
    "spade": ModelConfig(
        "spade",
        CLASS_NAMES,
        (8, 12),
        3,
        {"latent_dim": 4, "widths": [8, 4], "hidden_dim": 4},
        CONDITION,
    ),
    "text-edm": ModelConfig("text-edm", (), (8, 12), 3, _TINY_UNET),
    "vae": ModelConfig("vae", CLASS_NAMES, (8, 12), 3, {"latent_dim": 4, "widths": [4, 8]}),
}

# Of families whose condition may be left out, models that take one.
TINY_CONDITIONED = {"edm": replace(TINY["edm"], condition=CONDITION)}

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
    "procedural": ModelConfig("procedural", (), (0, 0), 0, {}),
    "spade": ModelConfig("spade", CLASS_NAMES, (32, 32), 1, {"widths": [64, 64, 32]}, CONDITION),
    "text-edm": ModelConfig(
        "text-edm", (), (28, 28), 1, {"patch_px": 2, "widths": [64, 128], "sigma_data": 0.7}
    ),
    "vae": ModelConfig("vae", CLASS_NAMES, (28, 28), 1, {"latent_dim": 32, "widths": [64, 128]}),
}

# Of an objective, where its defaults are for larger images.
TINY_OBJECTIVES: dict[str, dict[str, Any]] = {
    "spade": {"discriminator_widths": [4], "num_scales": 1}
}


def random_weights(config: ModelConfig, *, seed: int = 0) -> dict[str, torch.Tensor] | None:
    """Initial weights plus noise: layers that start at zero would hide the classes."""
    spec = GENERATORS[config.generator]
    if not spec.needs_weights:
        return None
    options = spec.objective_options.model_validate(TINY_OBJECTIVES.get(config.generator, {}))
    weights = spec.objective(config, options, seed=seed).ema_weights()
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


def condition_of(seed: int, config: ModelConfig) -> Condition:
    """A label map that is a function of the seed: bars of 2 pixels."""
    assert config.condition is not None
    height, width = config.image_size
    rng = np.random.default_rng(seed)
    bars = rng.integers(0, len(config.condition.names), -(-width // 2), dtype=np.uint8)
    mask = np.broadcast_to(bars.repeat(2)[:width], (height, width))
    return Condition(Labels("disc"), mask=np.ascontiguousarray(mask))
