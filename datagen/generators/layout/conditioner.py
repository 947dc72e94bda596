"""Label maps of a layout as conditions of another model. Called by spec.py."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from datagen.conditions import Condition, ConditionKind
from datagen.generators.conditioning.composition import Draft, check_editing, compose
from datagen.generators.conditioning.options import EditingOptions
from datagen.generators.conditioning.streams import condition_rng
from datagen.generators.layout.model import Layout, layout_of
from datagen.generators.layout.options import LayoutNetwork
from datagen.safetensors_header import read_safetensors

_MAX_BYTES = 1 << 30


class LayoutConditions:
    has_pools = False

    def __init__(
        self,
        network: LayoutNetwork,
        weights: Path,
        options: EditingOptions,
        *,
        kind: ConditionKind,
        class_names: Sequence[str],
        size: tuple[int, int],
    ) -> None:
        """kind: mask or layout. class_names: of the images whose label maps it was fitted to. size:
        (H, W). Raises ModelError for an edit that cannot be."""
        spacing = network.spacing_mm
        self.names: tuple[str, ...] = check_editing(
            options,
            network.names,
            has_spacing=spacing is not None,
            size=size,
            spacing_mm=spacing,
        )
        self.network = network
        self.weights = weights
        self.options = options
        self.kind: ConditionKind = kind
        self.class_ids = {name: index for index, name in enumerate(class_names)}
        self.size = size

    @property
    def label_kinds(self) -> frozenset[str]:
        return frozenset({"boxes"} if self.kind == "layout" else {"mask", "instances"})

    def draw(self, seed: int, class_name: str, split: str) -> Condition:
        """See Conditioner. The split does not matter. A class that the layout does not know gets
        the maps of any."""
        rng = condition_rng(seed)
        wanted, spacing = self.class_ids.get(class_name), self.network.spacing_mm
        return compose(
            lambda: Draft(mask=self._layout.draw(rng, wanted), spacing_mm=spacing),
            self.options,
            rng=rng,
            kind=self.kind,
            class_name=class_name,
            names=self.names,
        )

    @cached_property
    def _layout(self) -> Layout:
        tensors = read_safetensors(self.weights, max_bytes=_MAX_BYTES).tensors
        return layout_of(tensors, self.size, num_names=len(self.network.names))
