"""The cgan family, torch-free: torch is imported by `load` and `objective` alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from datagen.errors import ModelError
from datagen.generators.cgan.options import CganNetwork, CganObjectiveOptions, CganOptions
from datagen.generators.interface import ModelConfig, Objective, Sampler


class CganSpec:
    name = "cgan"
    options: type[BaseModel] = CganOptions
    network_options: type[BaseModel] = CganNetwork
    objective_options: type[BaseModel] = CganObjectiveOptions
    needs_weights = True
    needs_init = False
    init_generators: tuple[str, ...] = ("cgan",)
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
        """Two stages and a pixel shuffle: the sides are multiples of 4."""
        if any(side % 4 for side in config.image_size):
            raise ModelError(
                f"generator cgan: image_size {list(config.image_size)}: "
                "expected multiples of 4; pad or resize the images"
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
        from datagen.generators.cgan.networks import build_generator
        from datagen.generators.cgan.sample import CganSampler
        from datagen.generators.weights import load_network

        assert isinstance(options, CganOptions)
        assert weights is not None
        self.check(config)
        network = CganNetwork.model_validate(config.network)
        return CganSampler(
            load_network(lambda: build_generator(config, network), weights, device=device),
            batch_size=batch_size,
            truncation=options.truncation,
            bits=config.bits,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        from datagen.generators.cgan.networks import build_discriminator, build_generator
        from datagen.generators.cgan.train import CganObjective
        from datagen.generators.weights import check_num_parameters

        assert isinstance(options, CganObjectiveOptions)
        self.check(config)
        _check_together(options)
        network = CganNetwork.model_validate(config.network)
        check_num_parameters(lambda: build_generator(config, network))
        check_num_parameters(lambda: build_discriminator(config, network, options))
        return CganObjective(config, options, seed=seed, device=device)


def _check_together(options: CganObjectiveOptions) -> None:
    """Raises ModelError for what each option allows and together does nothing."""
    if options.augment_target and not (
        options.translation_px or options.color or options.cutout_share
    ):
        raise ModelError(
            f"generator cgan: objective.augment_target {options.augment_target}: expected an "
            "augmentation to adapt; set translation_px, color or cutout_share, or leave it out"
        )
    if options.minibatch_stddev == 1:
        raise ModelError(
            "generator cgan: objective.minibatch_stddev 1: expected 0 (off) or a group of 2 images "
            "or more; 4 is usual"
        )
