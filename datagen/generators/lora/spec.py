"""The lora family, torch-free: its libraries are imported by `load` and `objective` alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel

from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.lora.options import LoraNetwork, LoraObjectiveOptions, LoraOptions
from datagen.generators.lora.pipeline_files import PipelineFiles, open_pipeline


class LoraSpec:
    name = "lora"
    options: type[BaseModel] = LoraOptions
    network_options: type[BaseModel] = LoraNetwork
    objective_options: type[BaseModel] = LoraObjectiveOptions
    needs_weights = True
    needs_init = False
    init_generators: tuple[str, ...] = ("lora",)
    batch_size = 4
    max_unit_size = 16
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ("torch", "diffusers", "transformers", "peft")
    revision = 1

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        """Of the UNet."""
        assert isinstance(options, LoraOptions)
        steps = options.num_inference_steps
        return steps if options.guidance_scale == 1 else 2 * steps

    def check(self, config: ModelConfig) -> None:
        """What needs no file; the pipeline is read by `fit`, `load` and `objective`."""
        network = LoraNetwork.model_validate(config.network)
        if not network.pipeline:
            raise ModelError(
                "generator lora: network.pipeline is missing: give the folder of the text-to-image "
                "pipeline to tune, or a hub id with network.revision"
            )
        if config.channels not in (1, 3):
            raise ModelError(
                f"generator lora: {config.channels} channels: expected 1 or 3, grey or RGB"
            )
        network.class_prompts(config.class_names)

    def fit(
        self,
        config: ModelConfig,
        options: BaseModel,
        *,
        class_names: Sequence[str],
        image_size: tuple[int, int],
    ) -> ModelConfig:
        """Before a training: with the pipeline's digest, so that it is part of the model's."""
        network = LoraNetwork.model_validate(config.network)
        if network.pipeline_sha256 is not None:
            return config
        found = {"pipeline_sha256": self._open(config, network).sha256}
        if network.revision is None:
            found["pipeline"] = str(Path(network.pipeline).resolve())
        return replace(config, network=network.model_copy(update=found).model_dump(mode="json"))

    def load(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        batch_size: int,
        device: str = "cpu",
    ) -> Sampler:
        _require_libraries()
        from datagen.generators.lora.networks import load_tuned
        from datagen.generators.lora.sample import LoraSampler

        assert isinstance(options, LoraOptions)
        assert weights is not None
        network = LoraNetwork.model_validate(config.network)
        if network.pipeline_sha256 is None:
            raise ModelError(
                "generator lora: network.pipeline_sha256 is missing: nothing says which pipeline "
                "the model belongs to; train or copy the model again"
            )
        files = self._open(config, network)
        prompts = network.class_prompts(config.class_names)
        return LoraSampler(
            load_tuned(
                files, network, prompts, weights, image_size=config.image_size, device=device
            ),
            batch_size=batch_size,
            image_shape=(config.channels, *config.image_size),
            latent_shape=files.configs.latent_shape(config.image_size),
            options=options,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        _require_libraries()
        from datagen.generators.lora.train import LoraObjective

        assert isinstance(options, LoraObjectiveOptions)
        files = self._open(config, LoraNetwork.model_validate(config.network))
        return LoraObjective(config, options, files, seed=seed, device=device)

    def _open(self, config: ModelConfig, network: LoraNetwork) -> PipelineFiles:
        self.check(config)
        files = open_pipeline(network)
        factor = files.configs.vae.factor
        if any(side % factor for side in config.image_size):
            raise ModelError(
                f"generator lora: image_size {list(config.image_size)}: expected multiples of "
                f"{factor}, the pixels of a latent of {files.folder}; set data.image_size, or pad "
                "the images"
            )
        return files


def _require_libraries() -> None:
    missing = [name for name in ("transformers", "peft") if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"generator lora: {' and '.join(missing)} not installed; `pip install 'datagen[lora]'`"
        )
