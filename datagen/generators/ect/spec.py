"""The ect family: an edm tuned to draw an image in one or two calls. Torch-free, like edm's."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from datagen.generators.ect.options import EctObjectiveOptions, EctOptions
from datagen.generators.edm.options import EdmNetwork
from datagen.generators.edm.spec import EdmSpec
from datagen.generators.interface import ModelConfig, Objective, Sampler


class EctSpec(EdmSpec):
    """The network, its sizes and its weights are edm's; options, sampler and objective are not."""

    name = "ect"
    options: type[BaseModel] = EctOptions
    objective_options: type[BaseModel] = EctObjectiveOptions
    needs_init = True
    init_generators: tuple[str, ...] = ("edm", "ect")
    revision = 1
    most_bits = 16

    def takes(self, config: ModelConfig, options: BaseModel) -> frozenset[str]:
        return frozenset()

    def num_network_calls(self, options: BaseModel) -> int:
        assert isinstance(options, EctOptions)
        return options.num_inference_steps

    def load(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        batch_size: int,
        device: str = "cpu",
    ) -> Sampler:
        from datagen.generators.ect.sample import EctSampler
        from datagen.generators.edm.networks import EdmDenoiser
        from datagen.generators.weights import load_network

        assert isinstance(options, EctOptions)
        assert weights is not None
        self.check(config)
        network = EdmNetwork.model_validate(config.network)
        return EctSampler(
            load_network(lambda: EdmDenoiser(config, network), weights, device=device),
            batch_size=batch_size,
            image_shape=(config.channels, *config.image_size),
            options=options,
            bits=config.bits,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        from datagen.generators.ect.train import EctObjective
        from datagen.generators.edm.networks import EdmDenoiser
        from datagen.generators.weights import check_num_parameters

        assert isinstance(options, EctObjectiveOptions)
        self.check(config)
        network = EdmNetwork.model_validate(config.network)
        check_num_parameters(lambda: EdmDenoiser(config, network))
        return EctObjective(config, options, seed=seed, device=device)
