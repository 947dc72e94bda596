"""What a generator family offers to the rest of datagen. Torch-free: `validate` imports this.

Called by resolve.py (specs), engine.py (samplers) and training/ (objectives).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

if TYPE_CHECKING:
    import torch

Images = NDArray[np.uint8]  # NHWC or HWC, uint8


@dataclass(frozen=True)
class ModelConfig:
    """The part of a model's config.json that every family shares.

    image_size: (height, width) in pixels. network: the family's own, checked by its spec.
    """

    generator: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    network: dict[str, Any]


class Sampler(Protocol):
    """A loaded model that turns seeds and classes into images at one fixed batch shape."""

    batch_size: int

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C) uint8 for N <= batch_size seeds.

        Image i depends on seeds[i] and class_ids[i] alone, bit for bit.
        """
        ...


class Objective(Protocol):
    """One training objective: networks, their optimizers, and one step.

    Every draw of a step comes from the generator passed in, which the loop seeds from
    (seed, step): a resumed run needs no stored random state.
    """

    def step(
        self,
        real: torch.Tensor,
        class_ids: torch.Tensor,
        *,
        step: int,
        learning_rate: float,
        ema_decay: float,
        rng: torch.Generator,
    ) -> dict[str, float]:
        """One update. real: (N, C, H, W) float32 in [-1, 1]. Returns named losses."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Everything a resumed run needs, flat, for safetensors."""
        ...

    def load_state(self, state: dict[str, torch.Tensor]) -> None: ...

    def ema_weights(self) -> dict[str, torch.Tensor]:
        """The weights to ship: the moving average of the generating network."""
        ...

    def ema_sampler(self, batch_size: int) -> Sampler: ...


class GeneratorSpec(Protocol):
    """One family: its options, its label kinds, and how to load or train it."""

    name: str
    options: type[BaseModel]
    network_options: type[BaseModel]
    objective_options: type[BaseModel]
    needs_weights: bool
    num_network_calls: int

    def load(
        self, config: ModelConfig, weights: Path | None, options: BaseModel, *, batch_size: int
    ) -> Sampler: ...

    def objective(self, config: ModelConfig, options: BaseModel, *, seed: int) -> Objective: ...
