"""The procedural family: no weights, any class, any size, and the labels of all that it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from datagen.conditions import Conditioner, ConditionKind
from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.procedural.conditioner import SceneConditions, SceneLabels
from datagen.generators.procedural.options import (
    NoNetwork,
    ProceduralConditionOptions,
    ProceduralOptions,
)
from datagen.generators.procedural.sample import ProceduralSampler


class ProceduralSpec:
    name = "procedural"
    options: type[BaseModel] = ProceduralOptions
    condition_options: type[BaseModel] = ProceduralConditionOptions
    network_options: type[BaseModel] = NoNetwork
    objective_options: type[BaseModel] = NoNetwork
    needs_weights = False
    needs_init = False
    init_generators: tuple[str, ...] = ()
    batch_size = 256
    max_unit_size = 1024
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ("opencv-python-headless",)
    revision = 1
    most_bits = 16
    makes_images = True

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
        assert isinstance(options, ProceduralOptions)
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
        """Ignores the device: numpy draws the scenes."""
        assert isinstance(options, ProceduralOptions)
        return ProceduralSampler(
            options,
            batch_size=batch_size,
            class_names=config.class_names,
            size=config.image_size,
            bits=config.bits,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        raise ModelError("generator procedural: there is nothing to train; use cgan or edm")

    def conditioner(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        kind: ConditionKind | None,
        image_size: tuple[int, int],
        splits: Mapping[str, float],
    ) -> Conditioner:
        """See ConditioningSpec."""
        if isinstance(options, ProceduralOptions):
            return SceneLabels(options, size=image_size)
        assert isinstance(options, ProceduralConditionOptions)
        if kind not in ("mask", "layout"):
            raise ModelError(
                f"generator procedural draws conditions of kind mask and layout, not {kind}; use a "
                "model of generator condition_set, made of pictures"
            )
        return SceneConditions(options, kind=kind, size=image_size)
