"""What a generator family offers to the rest of datagen. Torch-free: `validate` imports this.

Called by resolve.py (specs), engine.py (samplers) and training/ (objectives).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from datagen.conditions import Condition, ConditionConfig, Conditioner, ConditionKind

if TYPE_CHECKING:
    import torch

# NHWC or HWC, uint8; from a sampler whose config has 16 bits, uint16.
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class ModelConfig:
    """The part of a model's config.json that every family shares.

    class_names: empty if the model takes any class. image_size: (height, width) in pixels, (0, 0)
    if it takes any size. channels: 0 if an option sets them. GeneratorSpec.fit fills these in.
    network: the family's own, checked by its spec. condition: what it takes beside the class; None
    for nothing. bits: of a pixel's channel, as a recipe wants them; in no config.json.
    """

    generator: str
    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    network: dict[str, Any]
    condition: ConditionConfig | None = None
    bits: int = 8


class Sampler(Protocol):
    """A loaded model that turns seeds and classes into images at one fixed batch shape."""

    batch_size: int

    def sample(self, seeds: Sequence[int], class_ids: Sequence[int]) -> Images:
        """Returns (N, H, W, C), of the config's bits, for N <= batch_size seeds.

        Image i depends on seeds[i] and class_ids[i] alone, bit for bit.
        """
        ...


class ConditionedSampler(Sampler, Protocol):
    """A sampler of a model whose config has a condition."""

    def sample_conditioned(
        self, seeds: Sequence[int], class_ids: Sequence[int], conditions: Sequence[Condition]
    ) -> Images:
        """As sample, one condition an image: image i depends on the i-th of the three alone."""
        ...


@dataclass(frozen=True)
class Update:
    """What the loop says of one step.

    images_seen: before it. rng: every draw of the step comes from it, on the CPU. max_grad_norm:
    None for the family's own. num_processes: that train together, on a part of the batch each;
    average: in place, gradients over them. condition: (N, K, H, W) float32 on the objective's
    device, of the images of the step, where the config has a condition (generators/encoding.py).
    """

    step: int
    images_seen: int
    learning_rate: float
    ema_decay: float
    rng: torch.Generator
    max_grad_norm: float | None = None
    num_processes: int = 1
    average: Callable[[list[torch.Tensor]], None] | None = None
    condition: torch.Tensor | None = None


class Objective(Protocol):
    """One training objective: networks, their optimizers, and one step.

    Every draw of a step comes from the generator passed in, which the loop seeds from
    (seed, step): a resumed run needs no stored random state.
    """

    def step(self, real: torch.Tensor, class_ids: torch.Tensor, update: Update) -> dict[str, float]:
        """One update. real: (N, C, H, W) float32 in [-1, 1], on the objective's device, like
        class_ids (N,). Returns named losses."""
        ...

    def init_from(
        self, weights: Mapping[str, torch.Tensor], class_rows: Sequence[int | None]
    ) -> None:
        """Starts from the shipped weights of a model: of the same family, or of one in its spec's
        init_generators. class_rows[i]: that model's class of the same name; None for a new one.

        Raises ModelError if the networks differ.
        """
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Everything a resumed run needs, flat, for safetensors."""
        ...

    def load_state(self, state: dict[str, torch.Tensor]) -> None: ...

    def ema_weights(self) -> dict[str, torch.Tensor]:
        """The weights to ship: the moving average of the generating network."""
        ...

    def ema_sampler(self, batch_size: int) -> Sampler: ...


class PerExampleObjective(Objective, Protocol):
    """One whose loss is a sum over examples, so that DP-SGD can bound what each contributes."""

    optimizer: torch.optim.Optimizer

    @property
    def network(self) -> torch.nn.Module: ...

    @property
    def ema(self) -> torch.nn.Module: ...

    def losses(
        self, real: torch.Tensor, class_ids: torch.Tensor, *, rng: torch.Generator
    ) -> torch.Tensor:
        """(N,), each of its own example alone. real: (N, C, H, W) float32 in [-1, 1]."""
        ...


class GeneratorSpec(Protocol):
    """One family: its options, its sizes, and how to load or train it. Imports no torch.

    batch_size: images per network call, fixed, since the shape decides an image's bits.
    max_unit_size: attempts per unit of work, so that a unit takes seconds to a few minutes.
    network_call_dtype: of weights and activations while sampling; part of the fingerprint.
    libraries: distributions, besides numpy, whose version decides an image's bits; likewise.
    init_generators: families whose weights a training may start from; needs_init: it must.
    revision: raised by one when a change of our code changes the images of equal weights; likewise.
    """

    name: str
    options: type[BaseModel]
    network_options: type[BaseModel]
    objective_options: type[BaseModel]
    needs_weights: bool
    needs_init: bool
    init_generators: tuple[str, ...]
    batch_size: int
    max_unit_size: int
    network_call_dtype: str
    libraries: tuple[str, ...]
    revision: int

    def num_network_calls(self, options: BaseModel) -> int:
        """Network calls per image."""
        ...

    def images_before_samples(self, options: BaseModel) -> int:
        """Images to be shown in a training, of these objective options, before its weights can
        draw."""
        ...

    def check(self, config: ModelConfig) -> None:
        """Raises ModelError if the family cannot be built at these sizes."""
        ...

    def fit(
        self,
        config: ModelConfig,
        options: BaseModel,
        *,
        class_names: Sequence[str],
        image_size: tuple[int, int],
    ) -> ModelConfig:
        """The config to load with: the recipe's classes and size where the model takes any."""
        ...

    def load(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        batch_size: int,
        device: str = "cpu",
    ) -> Sampler:
        """weights: a safetensors file. Raises ModelError if it does not fit the config."""
        ...

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        """Raises ModelError if the family cannot be trained."""
        ...


class ConditioningSpec(GeneratorSpec, Protocol):
    """A family whose models draw conditions, or labels of what its own sampler draws."""

    # What a recipe may set where the model conditions; `options` are of the images it makes.
    condition_options: type[BaseModel]
    # Whether it has a sampler as well.
    makes_images: bool

    def conditioner(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        kind: ConditionKind | None,
        image_size: tuple[int, int],
        splits: Mapping[str, float],
    ) -> Conditioner:
        """kind: that the conditioned model takes; None for the labels of the images that this
        family's own sampler draws, of `options`. image_size: (height, width) of the images.
        splits: the recipe's ratios, among which a set is shared out by groups.

        Raises ModelError if the model can not draw that kind, or has fewer groups than splits.
        """
        ...


class PromptedSpec(GeneratorSpec, Protocol):
    """A family whose models take words, mixes, or sources of their own; each of these is asked for
    by name, and left out by the others. Where the sampler is handed conditions, by
    sample_conditioned, their prompt, mix and pool are set accordingly."""

    def takes(self, config: ModelConfig, options: BaseModel) -> frozenset[str]:
        """Of prompt, negative (prompts), mix:seeds, mix:classes, mix:images, and pool: it draws
        from a set of its own, of which a split has a share."""
        ...

    def needs_prompt(self, config: ModelConfig, options: BaseModel) -> bool: ...

    def check_prompts(self, config: ModelConfig, options: BaseModel, texts: Sequence[str]) -> None:
        """Raises ModelError naming one that is longer than the model takes, and the limit."""
        ...

    def probe_batch_size(self, config: ModelConfig, options: BaseModel, *, device: str) -> int:
        """Images per network call that suit the device, measured by loading and running it."""
        ...

    def memory_bytes(self, config: ModelConfig, options: BaseModel) -> int:
        """Of the weights in memory, read off the files."""
        ...

    def pin_options(
        self, config: ModelConfig, options: BaseModel, *, allow_network: bool = False
    ) -> BaseModel:
        """With the digest of every file that they name. allow_network: to fetch them. Raises
        ModelError."""
        ...

    def licences_of(
        self, config: ModelConfig, options: BaseModel
    ) -> tuple[tuple[str, str | None], ...]:
        """Part and licence of all that it did not make itself, as stated there."""
        ...


def takes_any_class(spec: GeneratorSpec) -> bool:
    """Whether its models know no classes of their own: a recipe may name any."""
    return bool(getattr(spec, "takes_any_class", False))


def most_bits(spec: GeneratorSpec) -> int:
    """Of a pixel's channel, 8 or 16: what its sampler can give. A family whose sampler heeds the
    config's bits has `most_bits = 16`."""
    return int(getattr(spec, "most_bits", 8))


def makes_images(spec: GeneratorSpec) -> bool:
    """Whether the family has a sampler; one that has none draws conditions alone."""
    return bool(getattr(spec, "makes_images", True))
