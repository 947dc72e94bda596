"""The spade family, torch-free: torch is imported by `load` and `objective` alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from datagen.conditions import ConditionConfig
from datagen.errors import ModelError
from datagen.generators.encoding import check_condition
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.spade.options import SpadeNetwork, SpadeObjectiveOptions, SpadeOptions


class SpadeSpec:
    name = "spade"
    options: type[BaseModel] = SpadeOptions
    network_options: type[BaseModel] = SpadeNetwork
    objective_options: type[BaseModel] = SpadeObjectiveOptions
    needs_weights = True
    needs_init = False
    init_generators: tuple[str, ...] = ("spade",)
    # Images above 64 pixels are usual: 16 of 256 take half a gigabyte.
    batch_size = 16
    max_unit_size = 256
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ("torch",)
    revision = 1
    most_bits = 16

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        return 1

    def check(self, config: ModelConfig) -> None:
        """A label map is needed; every width but the first doubles the sides."""
        _condition_of(config)
        network = SpadeNetwork.model_validate(config.network)
        multiple = 2 ** (len(network.widths) - 1)
        if any(side % multiple or side < 2 * multiple for side in config.image_size):
            raise ModelError(
                f"generator spade: image_size {list(config.image_size)}: expected multiples of "
                f"{multiple}, at least {2 * multiple} ({len(network.widths)} widths); use fewer "
                "widths, or pad the images"
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
        from datagen.generators.spade.networks import build_generator
        from datagen.generators.spade.sample import SpadeSampler
        from datagen.generators.weights import load_network

        assert isinstance(options, SpadeOptions)
        assert weights is not None
        self.check(config)
        network = SpadeNetwork.model_validate(config.network)
        return SpadeSampler(
            load_network(lambda: build_generator(config, network), weights, device=device),
            batch_size=batch_size,
            image_size=config.image_size,
            condition=_condition_of(config),
            truncation=options.truncation,
            bits=config.bits,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        from datagen.generators.spade.networks import build_discriminators, build_generator
        from datagen.generators.spade.train import SpadeObjective
        from datagen.generators.weights import check_num_parameters

        assert isinstance(options, SpadeObjectiveOptions)
        self.check(config)
        _check_discriminators(config, options)
        network = SpadeNetwork.model_validate(config.network)
        check_num_parameters(lambda: build_generator(config, network))
        check_num_parameters(lambda: build_discriminators(config, options))
        return SpadeObjective(config, options, seed=seed, device=device)


def _condition_of(config: ModelConfig) -> ConditionConfig:
    """Raises ModelError unless it is a label map."""
    check_condition("spade", config.condition)
    if config.condition is None:
        raise ModelError(
            "generator spade: it draws images of label maps and has no condition; expected one of "
            "kind mask: give data.condition, or use another generator"
        )
    return config.condition


def _check_discriminators(config: ModelConfig, options: SpadeObjectiveOptions) -> None:
    """Raises ModelError if the last features of the smallest scale would be under 2 pixels wide."""
    num_halvings = len(options.discriminator_widths) + options.num_scales - 1
    if min(config.image_size) >> num_halvings < 2:
        raise ModelError(
            f"generator spade: image_size {list(config.image_size)}: expected sides of at least "
            f"{2 << num_halvings} for {len(options.discriminator_widths)} "
            f"objective.discriminator_widths and {options.num_scales} objective.num_scales; lower "
            "their number"
        )
