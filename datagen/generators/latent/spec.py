"""The latent-edm family, for images above 64 pixels: edm in the latents of an autoencoder that is
trained with it. Torch-free, like edm's."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from datagen.errors import ModelError
from datagen.generators.edm.options import EdmOptions
from datagen.generators.edm.spec import EdmSpec
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.latent.options import LatentNetwork, LatentObjectiveOptions


class LatentEdmSpec(EdmSpec):
    """Sampled like edm, with its options; num_network_calls leaves out the decoder's one."""

    name = "latent-edm"
    network_options: type[BaseModel] = LatentNetwork
    objective_options: type[BaseModel] = LatentObjectiveOptions
    init_generators: tuple[str, ...] = ("latent-edm",)
    # The decoder works at the size of the images: 64 of 256 pixels took gigabytes.
    batch_size = 16
    max_unit_size = 64
    revision = 1
    most_bits = 16

    def images_before_samples(self, options: BaseModel) -> int:
        assert isinstance(options, LatentObjectiveOptions)
        return options.autoencoder_images + options.statistics_images

    def check(self, config: ModelConfig) -> None:
        network = LatentNetwork.model_validate(config.network)
        widths = network.autoencoder_widths
        factor = 2 ** (len(widths) - 1)
        multiple = factor * network.patch_px * 2 ** (len(network.widths) - 1)
        if any(side % multiple for side in config.image_size):
            raise ModelError(
                f"generator {self.name}: image_size {list(config.image_size)}: expected multiples "
                f"of {multiple} ({len(widths)} autoencoder_widths, patch_px {network.patch_px}, "
                f"{len(network.widths)} widths); use fewer widths, or pad the images"
            )
        for field, sizes in (("autoencoder_widths", widths), ("widths", network.widths)):
            if any(width % network.norm_num_groups for width in sizes):
                raise ModelError(
                    f"generator {self.name}: network.{field} {list(sizes)}: "
                    f"expected multiples of norm_num_groups {network.norm_num_groups}"
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
        from datagen.generators.latent.networks import LatentDiffusion
        from datagen.generators.latent.sample import LatentSampler
        from datagen.generators.weights import load_network

        assert isinstance(options, EdmOptions)
        assert weights is not None
        self.check(config)
        network = LatentNetwork.model_validate(config.network)
        model = load_network(lambda: LatentDiffusion(config, network), weights, device=device)
        return LatentSampler(model, batch_size=batch_size, options=options, bits=config.bits)

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        from datagen.generators.latent.networks import LatentDiffusion
        from datagen.generators.latent.train import LatentObjective
        from datagen.generators.weights import check_num_parameters

        assert isinstance(options, LatentObjectiveOptions)
        self.check(config)
        network = LatentNetwork.model_validate(config.network)
        self.check_augmentation(network, options)
        check_num_parameters(lambda: LatentDiffusion(config, network))
        return LatentObjective(config, options, seed=seed, device=device)
