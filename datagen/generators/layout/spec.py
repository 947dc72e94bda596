"""The layout family: a statistical model of label maps, fitted at once, that draws conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from datagen.conditions import Conditioner, ConditionKind
from datagen.errors import InputError, ModelError
from datagen.generators.conditioning.options import EditingOptions
from datagen.generators.interface import ModelConfig, Objective, Sampler
from datagen.generators.layout.conditioner import LayoutConditions
from datagen.generators.layout.options import LayoutNetwork, NoOptions
from datagen.image_set import ImageSet

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class FittedLayout:
    """As training/fitting.py's Fitted."""

    network: dict[str, Any]
    weights: dict[str, torch.Tensor]
    lines: Sequence[str]


class LayoutSpec:
    name = "layout"
    options: type[BaseModel] = NoOptions
    condition_options: type[BaseModel] = EditingOptions
    network_options: type[BaseModel] = LayoutNetwork
    objective_options: type[BaseModel] = NoOptions
    needs_weights = True
    needs_init = False
    init_generators: tuple[str, ...] = ()
    batch_size = 256
    max_unit_size = 1024
    network_call_dtype = "float32"
    libraries: tuple[str, ...] = ("opencv-python-headless",)
    revision = 1
    makes_images = False

    def images_before_samples(self, options: BaseModel) -> int:
        return 0

    def num_network_calls(self, options: BaseModel) -> int:
        return 0

    def check(self, config: ModelConfig) -> None:
        if not LayoutNetwork.model_validate(config.network).names:
            raise ModelError("generator layout: network.names: expected the names of its values")

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
        raise ModelError(
            "generator layout: it draws label maps and makes no images; name it under "
            "conditioning, like {mask: {model: NAME}}, of a model that takes label maps"
        )

    def objective(
        self, config: ModelConfig, options: BaseModel, *, seed: int, device: str = "cpu"
    ) -> Objective:
        raise ModelError(
            "generator layout: it is fitted to label maps at once, without steps; use it with "
            "`datagen train`"
        )

    def fitted(
        self, images: ImageSet, options: BaseModel, *, kind: ConditionKind, seed: int
    ) -> FittedLayout:
        """See training/fitting.py. Nothing of it is random but for a trial, so that the seed does
        not count."""
        import torch

        from datagen.generators.layout.fit import fit_layout, summary

        assert isinstance(options, LayoutNetwork)
        if kind not in ("mask", "layout") or images.masks is None:
            raise InputError(
                f"data.condition.kind {kind}: a layout is fitted to label maps; expected mask"
            )
        for field in ("names", "spacing_mm"):
            if getattr(options, field):
                raise InputError(f"network.{field}: expected it left out: the data say it")
        network, weights = fit_layout(
            images.masks,
            images.mask_names,
            images.groups,
            images.spacing_mm,
            class_ids=images.class_ids,
            objects=options.objects,
            max_modes=options.max_modes,
        )
        network["max_modes"] = options.max_modes
        lines = summary(weights, network, num_maps=len(images))
        tensors = {name: torch.from_numpy(values.copy()) for name, values in weights.items()}
        return FittedLayout(network, tensors, lines)

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
        assert isinstance(options, EditingOptions)
        assert weights is not None
        if kind not in ("mask", "layout"):
            raise ModelError(
                f"generator layout draws conditions of kind mask and layout, not {kind}; use a "
                "model of generator condition_set, made of pictures"
            )
        if image_size != config.image_size:
            (height, width), (wanted_h, wanted_w) = config.image_size, image_size
            raise ModelError(
                f"its label maps are {height} x {width} pixels, and the images {wanted_h} x "
                f"{wanted_w}; expected the same: fit a layout with data.size of the images"
            )
        return LayoutConditions(
            LayoutNetwork.model_validate(config.network),
            weights,
            options,
            kind=kind,
            class_names=config.class_names,
            size=image_size,
        )
