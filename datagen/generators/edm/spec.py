"""The edm family, torch-free: torch and diffusers are imported by `load` and `objective` alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from datagen.errors import ModelError
from datagen.generators.edm.options import EdmNetwork, EdmObjectiveOptions, EdmOptions
from datagen.generators.encoding import check_condition
from datagen.generators.interface import ModelConfig, Objective, Sampler


class EdmSpec:
    name = "edm"
    options: type[BaseModel] = EdmOptions
    network_options: type[BaseModel] = EdmNetwork
    objective_options: type[BaseModel] = EdmObjectiveOptions
    needs_weights = True
    needs_init = False
    init_generators: tuple[str, ...] = ("edm",)
    batch_size = 64
    max_unit_size = 256
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ("torch", "diffusers")
    revision = 1
    most_bits = 16

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        assert isinstance(options, EdmOptions)
        steps = options.num_inference_steps
        calls = 2 * steps - 1 if options.sampler == "heun" else steps
        return calls if options.guidance_scale == 1 else 2 * calls

    def takes(self, config: ModelConfig, options: BaseModel) -> frozenset[str]:
        """A mix of classes calls the network once more for each of its calls."""
        return frozenset({"mix:seeds", "mix:classes"})

    def check(self, config: ModelConfig) -> None:
        """Every level but the first halves the folded sides; groups divide each width."""
        check_condition(self.name, config.condition)
        network = EdmNetwork.model_validate(config.network)
        multiple = network.patch_px * 2 ** (len(network.widths) - 1)
        if any(side % multiple for side in config.image_size):
            raise ModelError(
                f"generator {self.name}: image_size {list(config.image_size)}: expected "
                f"multiples of {multiple} (patch_px {network.patch_px}, {len(network.widths)} "
                "widths); use fewer widths, or pad the images"
            )
        if any(width % network.norm_num_groups for width in network.widths):
            raise ModelError(
                f"generator {self.name}: network.widths {list(network.widths)}: "
                f"expected multiples of norm_num_groups {network.norm_num_groups}"
            )

    def check_augmentation(self, network: EdmNetwork, options: EdmObjectiveOptions) -> None:
        """Raises ModelError if a network would not be told of augmentations."""
        if options.augment_probability and not network.augment_dim:
            raise ModelError(
                f"generator {self.name}: network.augment_dim 0: expected 9 where "
                "objective.augment_probability is above 0, or the augmentations would be learned"
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
        from datagen.generators.edm.networks import EdmDenoiser
        from datagen.generators.edm.sample import EdmSampler
        from datagen.generators.weights import load_network

        assert isinstance(options, EdmOptions)
        assert weights is not None
        self.check(config)
        network = EdmNetwork.model_validate(config.network)
        return EdmSampler(
            load_network(lambda: EdmDenoiser(config, network), weights, device=device),
            batch_size=batch_size,
            image_shape=(config.channels, *config.image_size),
            options=options,
            condition=config.condition,
            bits=config.bits,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        from datagen.generators.edm.networks import EdmDenoiser
        from datagen.generators.edm.train import EdmObjective
        from datagen.generators.weights import check_num_parameters

        assert isinstance(options, EdmObjectiveOptions)
        self.check(config)
        network = EdmNetwork.model_validate(config.network)
        self.check_augmentation(network, options)
        check_num_parameters(lambda: EdmDenoiser(config, network))
        return EdmObjective(config, options, seed=seed, device=device)
