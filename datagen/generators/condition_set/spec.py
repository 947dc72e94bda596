"""The condition_set family: label maps and pictures of a team, drawn as conditions of other models.
Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from datagen.conditions import Conditioner, ConditionKind
from datagen.errors import InputError, ModelError
from datagen.generators.condition_set.conditioner import SetConditions
from datagen.generators.condition_set.options import (
    ConditionSetNetwork,
    ConditionSetOptions,
    NoOptions,
)
from datagen.generators.interface import ModelConfig, Objective, Sampler

if TYPE_CHECKING:
    from datagen.generators.condition_set.fit import FittedSet
    from datagen.image_set import ImageSet

_NO_IMAGES = (
    "generator condition_set: it makes no images, it draws conditions; name it in `conditioning` "
    "of a recipe"
)


class ConditionSetSpec:
    name = "condition_set"
    options: type[BaseModel] = NoOptions
    condition_options: type[BaseModel] = ConditionSetOptions
    network_options: type[BaseModel] = ConditionSetNetwork
    objective_options: type[BaseModel] = NoOptions
    needs_weights = True
    needs_init = False
    init_generators: tuple[str, ...] = ()
    batch_size = 1
    max_unit_size = 1024
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ("opencv-python-headless", "scipy")
    revision = 1
    makes_images = False
    weight_types = ("U8",)

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        return 0

    def check(self, config: ModelConfig) -> None:
        network = ConditionSetNetwork.model_validate(config.network)
        if not network.names and not network.picture_channels:
            raise ModelError("a set holds label maps or pictures, or both; fit it again")
        if not 0 < network.num_groups <= network.num_items:
            raise ModelError(
                f"network.num_groups: {network.num_groups} of {network.num_items} items; expected "
                "one at least, and no more than items; fit the set again"
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
        raise ModelError(_NO_IMAGES)

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        raise ModelError(_NO_IMAGES)

    def fitted(
        self, images: ImageSet, options: BaseModel, *, kind: ConditionKind, seed: int
    ) -> FittedSet:
        """See FittingSpec. Nothing is drawn: every item is kept as it is."""
        from datagen.generators.condition_set.fit import fit_condition_set

        if options.model_fields_set:
            names = ", ".join(sorted(options.model_fields_set))
            raise InputError(
                f"network: {names}: of a condition_set nothing is set there, it follows from the "
                "data; leave it out"
            )
        return fit_condition_set(images, kind=kind)

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
        """See ConditioningSpec."""
        assert isinstance(options, ConditionSetOptions)
        assert weights is not None
        assert kind is not None
        if config.image_size != image_size:
            (height, width), (own_height, own_width) = image_size, config.image_size
            raise ModelError(
                f"a set of {own_height} x {own_width} pixels, and the images have {height} x "
                f"{width}; fit one with data.image_size: [{height}, {width}]"
            )
        return SetConditions(config, weights, options, kind=kind, splits=splits)
