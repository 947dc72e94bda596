"""Draws items of a set as conditions: of the split's pool, moved and edited. Called by spec.py."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.conditions import Condition, ConditionKind
from datagen.errors import ModelError
from datagen.generators.condition_set.inpainting import Painting, draw_painting
from datagen.generators.condition_set.items import (
    Items,
    check_splits,
    joined_groups,
    split_of_groups,
)
from datagen.generators.condition_set.kept import SetFile, kept_items, told_groups
from datagen.generators.condition_set.options import ConditionSetNetwork, ConditionSetOptions
from datagen.generators.conditioning.composition import (
    MAX_TRIES,
    Draft,
    change,
    change_one,
    check_editing,
    condition_of,
    label,
)
from datagen.generators.conditioning.editing import check_fits
from datagen.generators.conditioning.streams import condition_rng
from datagen.generators.interface import ModelConfig
from datagen.real_images.derived import derived
from datagen.recipe import suggest

Rows = NDArray[np.int64]


class SetConditions:
    """See Conditioner. The items are read by the first draw."""

    has_pools = True

    def __init__(
        self,
        config: ModelConfig,
        weights: Path,
        options: ConditionSetOptions,
        *,
        kind: ConditionKind,
        splits: Mapping[str, float],
    ) -> None:
        """Raises ModelError for what the set does not have, or options that do not fit the kind."""
        self.network = ConditionSetNetwork.model_validate(config.network)
        check_options(options, self.network, kind)
        if options.region is not None and options.region.size_px is not None:
            check_fits("region.size_px", options.region.size_px[0], config.image_size, (1.0, 1.0))
        check_splits(self.network.num_groups, splits)
        self.config = config
        self.weights = weights
        self.options = options
        self.kind: ConditionKind = kind
        self.splits = dict(splits)
        self.names: tuple[str, ...] = _names_of(options, self.network, config.image_size)

    @property
    def label_kinds(self) -> frozenset[str]:
        if self.kind == "layout":
            return frozenset({"boxes"})
        return frozenset({"mask", "instances"} if self.names else set())

    def check_pools(self, splits_of: Mapping[str, Collection[str]]) -> None:
        """Before anything is drawn. splits_of: class => the splits that its images lie in. Raises
        ModelError for too few groups, or a split without an item of a class, as far as the set's
        table tells."""
        told = told_groups(self.weights, self.config)
        if told is None:
            return
        dealt = split_of_groups([group for group, _ in told], self.splits)
        present = {(class_name, dealt[group]) for group, class_name in told}
        for class_name, splits in splits_of.items():
            if not self.options.same_class or class_name not in self.config.class_names:
                continue
            for split in sorted(splits):
                if (class_name, split) not in present:
                    raise _no_item(class_name, split)

    @cached_property
    def _file(self) -> SetFile:
        return SetFile.of(self.weights, self.config)

    @property
    def items(self) -> Items:
        return kept_items(self._file)

    @cached_property
    def pools(self) -> dict[str, Rows]:
        """Split -> rows of its items. An inpainting of a class has items that show it alone."""
        groups = joined_groups(self.items)
        dealt = split_of_groups(groups, self.splits)
        usable = np.ones(len(self.items), np.bool_)
        region = self.options.region
        shown = None if region is None else region.from_class or region.inside
        if shown is not None:
            assert self.items.masks is not None
            value = self.names.index(shown)
            usable = np.array([bool((mask == value).any()) for mask in self.items.masks])
        split_of = np.array([dealt[group] for group in groups])
        return {
            split: np.flatnonzero((split_of == split) & usable) for split in set(dealt.values())
        }

    def draw(self, seed: int, class_name: str, split: str) -> Condition:
        """See Conditioner. Raises ModelError if the split has no item that would do."""
        rng = condition_rng(seed)
        rows = self._rows_of(class_name, split)
        if self.kind == "inpaint":
            return self._draw_inpaint(rng, rows, class_name)
        changed = self._with_room(rng, rows, class_name)
        condition = condition_of(
            changed, self.options, kind=self.kind, class_name=class_name, names=self.names
        )
        if self.kind == "mask":
            return replace(condition, image=None)
        derive = self.options.derive
        if self.kind != "image" or derive == "none" or condition.image is None:
            return condition
        picture = derived(condition.image[None], derive, factor=self.options.factor)[0]
        return replace(condition, image=picture)

    def _rows_of(self, class_name: str, split: str) -> Rows:
        rows = self.pools[split]
        if self.options.same_class and class_name in self.config.class_names:
            wanted = self.config.class_names.index(class_name)
            rows = rows[self.items.class_ids[rows] == wanted]
        if len(rows) == 0:
            raise _no_item(class_name, split)
        return rows

    def _draft(self, rng: np.random.Generator, rows: Rows) -> Draft:
        items = self.items
        row = int(rows[int(rng.integers(len(rows)))])
        return Draft(
            mask=None if items.masks is None else items.masks[row],
            image=None if items.images is None else items.images[row],
            spacing_mm=None if items.spacing_mm is None else items.spacing_mm[row],
            source=items.names[row],
        )

    def _with_room(self, rng: np.random.Generator, rows: Rows, class_name: str) -> Draft:
        """An item, moved and edited, that has room for what edits add: a class that stands for a
        lesion would be false of an image without one."""
        return change_one(
            lambda: self._draft(rng, rows),
            self.options,
            rng=rng,
            class_name=class_name,
            names=self.names,
        )

    def _draw_inpaint(self, rng: np.random.Generator, rows: Rows, class_name: str) -> Condition:
        options = self.options
        assert options.region is not None
        painting: Painting | None = None
        for _ in range(MAX_TRIES):
            draft = self._draft(rng, rows)
            moved = change(draft, options, rng=rng, class_name=class_name, names=self.names)
            painting = draw_painting(
                rng, moved, options.region, painted=options.object, names=self.names
            )
            if painting is not None:
                break
        else:
            raise ModelError(
                f"region: {MAX_TRIES} items drawn for class {class_name!r} have no room for it; "
                "make it smaller, or let it lie inside another class"
            )
        labels = label(
            painting.draft,
            class_name=class_name,
            names=self.names,
            objects=options.objects,
            shows=() if options.object is None else (options.object,),
        )
        return Condition(
            labels, mask=painting.draft.mask, image=painting.draft.image, region=painting.hole
        )


def _no_item(class_name: str, split: str) -> ModelError:
    return ModelError(
        f"condition set: no item of class {class_name!r} that would do is in the pool of split "
        f"{split!r}; fit the set to more groups with such items, ask for fewer splits, or set "
        "same_class: false"
    )


def check_options(
    options: ConditionSetOptions, network: ConditionSetNetwork, kind: ConditionKind
) -> None:
    """Raises ModelError naming the option."""
    if kind in ("mask", "layout") and not network.names:
        raise ModelError(
            f"the set holds no label maps, which kind {kind} needs; fit one with data.condition "
            "{kind: mask}"
        )
    if kind in ("image", "inpaint") and not network.picture_channels:
        raise ModelError(
            f"the set holds no pictures, which kind {kind} needs; fit one with data.condition "
            f"{{kind: {kind}}}"
        )
    faults = (
        (options.region is not None and kind != "inpaint", "region", "is of kind inpaint alone"),
        (options.object is not None and kind != "inpaint", "object", "is of kind inpaint alone"),
        (options.region is None and kind == "inpaint", "region", "is missing: say where images "
         "are made anew, like {shape: ellipse, size_px: [6, 12]}"),
        (options.derive != "none" and kind != "image", "derive", "is of kind image alone"),
        (options.factor != 4 and options.derive != "low_resolution", "factor", "is of derive: "
         "low_resolution alone"),
        (bool(options.edits) and kind in ("image", "inpaint"), "edits", "are of kinds mask and "
         "layout: the picture would not show them; inpaint has region and object"),
        (bool(options.objects) and not network.names and options.object is None, "objects", "are "
         "classes of label maps, and the set holds none"),
    )  # fmt: skip
    for wrong, field, told in faults:
        if wrong:
            raise ModelError(f"{field}: {field} {told}")
    if options.region is not None:
        _check_region(options, network)


def _check_region(options: ConditionSetOptions, network: ConditionSetNetwork) -> None:
    region = options.region
    assert region is not None
    for field, name in (("from", region.from_class), ("inside", region.inside)):
        if name is not None and name not in network.names:
            known = ", ".join(network.names[:40]) or "none: the set holds no label maps"
            raise ModelError(
                f"region.{field}: {name!r}: expected one of {known}{suggest(name, network.names)}"
            )
    if region.size_mm is not None and not network.has_spacing:
        raise ModelError(
            "region.size_mm: the set has no spacing in millimetres; give size_px instead"
        )
    if options.object is not None and options.object == (network.names or ("background",))[0]:
        raise ModelError(f"object: {options.object!r}: expected a class, not the background")


def _names_of(
    options: ConditionSetOptions, network: ConditionSetNetwork, size: tuple[int, int]
) -> tuple[str, ...]:
    """A class that is painted or added and that the label maps do not show comes last."""
    names = network.names
    if options.object is not None:
        names = names or ("background",)
        names = names if options.object in names else (*names, options.object)
    if not names:
        return ()
    return check_editing(options, names, has_spacing=network.has_spacing, size=size)
