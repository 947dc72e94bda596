"""The vae family, torch-free: torch is imported by `load` and `objective` alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.vae.options import VaeNetwork, VaeObjectiveOptions, VaeOptions


class VaeSpec:
    name = "vae"
    options: type[BaseModel] = VaeOptions
    network_options: type[BaseModel] = VaeNetwork
    objective_options: type[BaseModel] = VaeObjectiveOptions
    needs_weights = True
    needs_init = False
    init_generators: tuple[str, ...] = ("vae",)
    batch_size = 64
    max_unit_size = 1024
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ("torch",)
    revision = 1
    most_bits = 16

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        return 1

    def check(self, config: ModelConfig) -> None:
        """Each width halves the sides."""
        network = VaeNetwork.model_validate(config.network)
        multiple = 2 ** len(network.widths)
        if any(side % multiple for side in config.image_size):
            raise ModelError(
                f"generator vae: image_size {list(config.image_size)}: expected multiples of "
                f"{multiple} ({len(network.widths)} widths); use fewer widths, or pad the images"
            )

    def fit(
        self,
        config: ModelConfig,
        options: BaseModel,
        *,
        class_names: Sequence[str],
        image_size: tuple[int, int],
    ) -> ModelConfig:
        return config

    def load(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        batch_size: int,
        device: str = "cpu",
    ) -> Sampler:
        from datagen.generators.vae.networks import build_vae
        from datagen.generators.vae.sample import VaeSampler
        from datagen.generators.weights import load_network

        assert isinstance(options, VaeOptions)
        assert weights is not None
        self.check(config)
        network = VaeNetwork.model_validate(config.network)
        return VaeSampler(
            load_network(lambda: build_vae(config, network), weights, device=device),
            batch_size=batch_size,
            temperature=options.temperature,
            bits=config.bits,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        from datagen.generators.vae.networks import build_vae
        from datagen.generators.vae.train import VaeObjective
        from datagen.generators.weights import check_num_parameters

        assert isinstance(options, VaeObjectiveOptions)
        self.check(config)
        network = VaeNetwork.model_validate(config.network)
        check_num_parameters(lambda: build_vae(config, network))
        return VaeObjective(config, options, seed=seed, device=device)
