"""A denoiser in training beside its moving average: what the objectives of edm and ect share."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch

from datagen.generators.edm.networks import EdmDenoiser
from datagen.generators.edm.options import EdmNetwork
from datagen.generators.interface import ModelConfig
from datagen.generators.optimization import transferred
from datagen.generators.weights import flatten_optimizer, load_optimizer, take_prefix


class AveragedDenoiser:
    """network is trained by `optimizer`, which the objective builds; ema is what ships."""

    optimizer: torch.optim.Optimizer

    def __init__(self, config: ModelConfig, *, seed: int, device: str) -> None:
        self.device = torch.device(device)
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = self.build(config)
        self.network = network.to(self.device)
        self.ema = copy.deepcopy(self.network).requires_grad_(False)

    def build(self, config: ModelConfig) -> EdmDenoiser:
        """A new network, its weights drawn from torch's own generator."""
        return EdmDenoiser(config, EdmNetwork.model_validate(config.network))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.config.channels, *self.config.image_size)

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        """The null class stays the last row. See interface.Objective."""
        table = self.network.class_table
        null_row = len(weights[table]) - 1 if table in weights else None
        state = transferred(
            self.ema.state_dict(),
            weights,
            class_rows=[*class_rows, null_row],
            class_tensors=[table],
        )
        self.network.load_state_dict(state)
        self.ema.load_state_dict(state)

    def state(self) -> dict[str, torch.Tensor]:
        return (
            {f"denoiser.{k}": v for k, v in self.network.state_dict().items()}
            | {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
            | flatten_optimizer("optimizer", self.optimizer)
        )

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self.network.load_state_dict(take_prefix(state, "denoiser."))
        self.ema.load_state_dict(take_prefix(state, "ema."))
        load_optimizer("optimizer", self.optimizer, state)

    def ema_weights(self) -> dict[str, torch.Tensor]:
        return dict(self.ema.state_dict())
