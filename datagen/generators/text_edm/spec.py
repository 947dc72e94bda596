"""The text-edm family, torch-free: torch, diffusers and the text encoder are loaded by `load`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from datagen.errors import ModelError
from datagen.generators.edm.options import EdmNetwork, EdmObjectiveOptions
from datagen.generators.edm.spec import EdmSpec
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.text_edm.encoder import TEXT_DIM, check_encoder, token_ids
from datagen.generators.text_edm.options import TextEdmNetwork, TextEdmOptions


class TextEdmSpec(EdmSpec):
    """The UNet and its sizes are edm's. It draws what a prompt says: the class of a recipe is the
    claim of its prompt, so that a recipe may name any classes."""

    name = "text-edm"
    options: type[BaseModel] = TextEdmOptions
    network_options: type[BaseModel] = TextEdmNetwork
    objective_options: type[BaseModel] = EdmObjectiveOptions
    init_generators: tuple[str, ...] = ("text-edm",)
    # Its models have no classes, though they have weights.
    takes_any_class = True
    libraries: tuple[str, ...] = ("torch", "diffusers", "transformers", "tokenizers")
    revision = 1
    most_bits = 16

    def takes(self, config: ModelConfig, options: BaseModel) -> frozenset[str]:
        """A negative prompt only where images are guided away from it: below 1 they would be drawn
        to it."""
        assert isinstance(options, TextEdmOptions)
        takes = frozenset({"prompt", "mix:seeds", "mix:classes"})
        return takes | {"negative"} if options.guidance_scale >= 1 else takes

    def needs_prompt(self, config: ModelConfig, options: BaseModel) -> bool:
        return True

    def check_prompts(self, config: ModelConfig, options: BaseModel, texts: Sequence[str]) -> None:
        """Raises ModelError naming one that is longer than the encoder takes, and the limit."""
        network = TextEdmNetwork.model_validate(config.network)
        folder = check_encoder(network.encoder_sha256)
        for text in texts:
            token_ids(folder, text)

    def check(self, config: ModelConfig) -> None:
        network = TextEdmNetwork.model_validate(config.network)
        sizes = network.model_dump(include=set(EdmNetwork.model_fields))
        super().check(replace(config, network=sizes))
        for name, found, expected in (
            ("text_dim", network.text_dim, TEXT_DIM),
            ("augment_dim", network.augment_dim, 0),
        ):
            if found != expected:
                raise ModelError(f"generator {self.name}: network.{name} {found}: only {expected}")

    def fit(
        self,
        config: ModelConfig,
        options: BaseModel,
        *,
        class_names: Sequence[str],
        image_size: tuple[int, int],
    ) -> ModelConfig:
        return replace(config, class_names=tuple(class_names))

    def load(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        batch_size: int,
        device: str = "cpu",
    ) -> Sampler:
        from datagen.generators.text_edm.networks import TextDenoiser
        from datagen.generators.text_edm.sample import TextEdmSampler
        from datagen.generators.weights import load_network

        assert isinstance(options, TextEdmOptions)
        assert weights is not None
        self.check(config)
        network = TextEdmNetwork.model_validate(config.network)
        return TextEdmSampler(
            load_network(lambda: TextDenoiser(config, network), weights, device=device),
            batch_size=batch_size,
            image_shape=(config.channels, *config.image_size),
            options=options,
            encoder=check_encoder(network.encoder_sha256),
            bits=config.bits,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        """Steps take the vectors of captions: `datagen train`, which reads none, does not offer it;
        benchmarks/text_to_image.py drives it."""
        from datagen.generators.text_edm.networks import TextDenoiser
        from datagen.generators.text_edm.train import TextEdmObjective
        from datagen.generators.weights import check_num_parameters

        assert isinstance(options, EdmObjectiveOptions)
        self.check(config)
        network = TextEdmNetwork.model_validate(config.network)
        check_num_parameters(lambda: TextDenoiser(config, network))
        return TextEdmObjective(config, options, seed=seed, device=device)
