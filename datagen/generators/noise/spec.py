"""The noise family: no weights, any class, any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.noise.options import NoiseOptions, NoNetwork
from datagen.generators.noise.sample import NoiseSampler


class NoiseSpec:
    name = "noise"
    options: type[BaseModel] = NoiseOptions
    network_options: type[BaseModel] = NoNetwork
    objective_options: type[BaseModel] = NoNetwork
    needs_weights = False
    needs_init = False
    init_generators: tuple[str, ...] = ()
    batch_size = 256
    max_unit_size = 1024
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ()
    revision = 1
    most_bits = 16

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        return 0

    def check(self, config: ModelConfig) -> None:
        """Nothing to check: there is no network."""

    def fit(
        self,
        config: ModelConfig,
        options: BaseModel,
        *,
        class_names: Sequence[str],
        image_size: tuple[int, int],
    ) -> ModelConfig:
        assert isinstance(options, NoiseOptions)
        return replace(
            config,
            class_names=tuple(class_names),
            image_size=image_size,
            channels=options.channels,
        )

    def load(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        batch_size: int,
        device: str = "cpu",
    ) -> Sampler:
        """Ignores the device: numpy draws the noise."""
        return NoiseSampler(
            batch_size=batch_size,
            image_shape=(*config.image_size, config.channels),
            bits=config.bits,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        raise ModelError("generator noise: there is nothing to train; use cgan or edm")
