"""The items of a set: how they lie in a weights file, and which split each belongs to."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.generators.condition_set.options import ConditionSetNetwork
from datagen.generators.interface import ModelConfig
from datagen.safetensors_header import read_safetensors

MAX_BYTES = 1 << 30  # of a weights file
TABLE = "table"  # a tensor: JSON text, since a config.json has room for a few thousand names alone
_REMEDY = "fit or copy the model again"


@dataclass(frozen=True)
class Items:
    """masks: (N, H, W) uint8. images: (N, H, W, C) uint8. names, groups: (N,). class_ids: (N,) into
    the set's classes. spacing_mm: (N,) of (rows, columns)."""

    masks: NDArray[np.uint8] | None
    images: NDArray[np.uint8] | None
    names: tuple[str, ...]
    groups: tuple[str, ...]
    class_ids: NDArray[np.int64]
    spacing_mm: tuple[tuple[float, float], ...] | None

    def __len__(self) -> int:
        return len(self.names)


def tensors_of(items: Items) -> dict[str, NDArray[np.uint8]]:
    table = {
        "names": items.names,
        "groups": items.groups,
        "class_ids": items.class_ids.tolist(),
        "spacing_mm": items.spacing_mm,
        "joined": joined_groups(items),  # for told_groups; nobody draws by it
    }
    tensors = {TABLE: np.frombuffer(json.dumps(table).encode(), np.uint8)}
    if items.masks is not None:
        tensors["masks"] = items.masks
    if items.images is not None:
        tensors["images"] = items.images
    return tensors


def load_items(path: Path, config: ModelConfig) -> Items:
    """Raises ModelError if the file cannot be read, or does not fit the config."""
    network = ConditionSetNetwork.model_validate(config.network)
    try:
        tensors = read_safetensors(path, types=("U8",), max_bytes=MAX_BYTES).tensors
    except OSError as error:
        raise ModelError(f"model file {path}: cannot be read ({error}); {_REMEDY}") from None
    shapes: dict[str, tuple[int, ...]] = {}
    if network.names:
        shapes["masks"] = (network.num_items, *config.image_size)
    if network.picture_channels:
        shapes["images"] = (network.num_items, *config.image_size, network.picture_channels)
    if tensors.keys() != {TABLE, *shapes} or any(tensors[k].shape != v for k, v in shapes.items()):
        found = ", ".join(f"{name} {list(t.shape)}" for name, t in sorted(tensors.items()))
        raise ModelError(
            f"model file {path}: tensors {found[:200]}; expected {TABLE} and "
            f"{', '.join(f'{name} {list(shape)}' for name, shape in shapes.items())}; {_REMEDY}"
        )
    masks, images = tensors.get("masks"), tensors.get("images")
    if masks is not None and int(masks.max(initial=0)) >= len(network.names):
        raise ModelError(
            f"model file {path}: a label map holds {int(masks.max())}; expected values below "
            f"{len(network.names)}, of its names; {_REMEDY}"
        )
    try:
        table = _table_of(json.loads(tensors[TABLE].tobytes()), config, network)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(
            f"model file {path}: {TABLE}: {str(error)[:200]}; expected names, groups, class_ids "
            f"and spacing_mm of {network.num_items} items; {_REMEDY}"
        ) from None
    return Items(masks, images, *table)


def _table_of(
    content: Any, config: ModelConfig, network: ConditionSetNetwork
) -> tuple[
    tuple[str, ...], tuple[str, ...], NDArray[np.int64], tuple[tuple[float, float], ...] | None
]:
    """Raises ValueError, TypeError or KeyError for anything else than tensors_of wrote."""
    names = tuple(checked_name(name) for name in content["names"])
    groups = tuple(checked_name(name) for name in content["groups"])
    class_ids = np.asarray(content["class_ids"], np.int64)
    spacing = None
    if network.has_spacing:
        spacing = tuple((float(rows), float(columns)) for rows, columns in content["spacing_mm"])
        if not all(0 < side < float("inf") for pair in spacing for side in pair):
            raise ValueError("a spacing that is no length")
    lengths = {len(names), len(groups), len(class_ids), len(spacing or names)}
    if lengths != {network.num_items} or class_ids.ndim != 1:
        raise ValueError(f"columns of {sorted(lengths)} items")
    if not ((class_ids >= 0) & (class_ids < len(config.class_names))).all():
        raise ValueError("a class number without a name")
    if len(set(groups)) != network.num_groups:
        raise ValueError(f"{len(set(groups))} groups, not {network.num_groups}")
    return names, groups, class_ids, spacing


def checked_name(value: Any) -> str:
    """Raises ValueError for what cannot stand in a line of a log or in a record."""
    name = str(value)
    if len(name) > 255 or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise ValueError(
            f"the name {name[:40]!a}: expected at most 255 characters, no control characters"
        )
    return name


def check_splits(num_groups: int, splits: Mapping[str, float]) -> None:
    """Raises ModelError if some split would have no group."""
    used = [name for name, ratio in splits.items() if ratio > 0]
    if num_groups < len(used):
        raise ModelError(
            f"a set of {num_groups} group{'' if num_groups == 1 else 's'}, which no two splits may "
            f"share, and splits.ratios has {len(used)} splits ({', '.join(used)}); fit the set to "
            "more groups, or have fewer splits"
        )


def joined_groups(items: Items) -> tuple[str, ...]:
    """(N,): each item's group; groups that share an equal item, by whatever name, are one, called
    like the first of them in alphabetical order. So no split holds an item of another."""
    parent = {group: group for group in items.groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    owner: dict[bytes, str] = {}
    for row, group in enumerate(items.groups):
        parts = [
            tensor[row].tobytes() for tensor in (items.masks, items.images) if tensor is not None
        ]
        first = owner.setdefault(hashlib.sha256(b"".join(parts)).digest(), group)
        low, high = sorted((root(first), root(group)))
        parent[high] = low
    return tuple(root(group) for group in items.groups)


def split_of_groups(groups: Sequence[str], splits: Mapping[str, float]) -> dict[str, str]:
    """Group -> split. The groups stand in the order of the sha256 of their names, and the splits,
    in the order of theirs, take as many as their ratios say and one at least.

    So a group's split follows from the names of all groups and the ratios alone.
    """
    ordered = sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    used = sorted((name, ratio) for name, ratio in splits.items() if ratio > 0)
    check_splits(len(ordered), splits)
    total = sum(ratio for _, ratio in used)
    bounds: list[int] = []
    reached = 0.0
    for place, (_, ratio) in enumerate(used, start=1):
        reached += ratio / total
        bound = round(reached * len(ordered))
        # One at least for this split, and one left for each that follows.
        least = (bounds[-1] if bounds else 0) + 1
        bounds.append(min(max(bound, least), len(ordered) - (len(used) - place)))
    dealt: dict[str, str] = {}
    first = 0
    for (name, _), bound in zip(used, bounds, strict=True):
        dealt.update(dict.fromkeys(ordered[first:bound], name))
        first = bound
    return dealt
