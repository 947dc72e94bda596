"""Fits a layout to label maps. Called by spec.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError, ModelError
from datagen.generators.layout.distances import signed_distances
from datagen.generators.layout.model import Layout, Weights, digest_of
from datagen.generators.layout.pieces import Piece, pieces_of, without
from datagen.generators.layout.scattering import scattered_values
from datagen.labels import Mask
from datagen.recipe import suggest

Masks = NDArray[np.uint8]  # (N, H, W)

MIN_MAPS = 4
_MAX_SIDE = 128  # of distance maps; larger label maps are fitted in squares of several pixels
_MAX_MAPS = 2000
_MAX_VALUES = 1 << 27  # of the distance maps of all label maps, as float16
_MAX_MODE_VALUES = 1 << 23
_VARIANCE = 0.99
_CHUNK = 1 << 14
_NUM_TRIALS = 4


def fit_layout(
    masks: Masks,
    names: Sequence[str],
    groups: Sequence[str] | None,
    spacing_mm: NDArray[np.float64] | None,
    *,
    class_ids: NDArray[np.int64] | None = None,
    objects: Sequence[str] | None = None,
    max_modes: int = 64,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Returns what config.network and the weights hold.

    names: of the values. groups: (N,), of the maps. spacing_mm: (N, 2). class_ids: (N,), of their
    images. objects: the scattered classes; found where None. max_modes: of shape.

    Raises InputError if the maps are fewer than four, have values without a name, or hardly differ.
    """
    _check(masks, names, objects)
    if objects is None:
        scattered = scattered_values(masks, groups)
    else:
        scattered = tuple(sorted(names.index(name) for name in objects))
    if class_ids is None:
        class_ids = np.zeros(len(masks), np.int64)
    layout = _fitted(masks, scattered, class_ids, max_modes)
    _try(layout)
    spacing = _one_spacing(spacing_mm)
    network = {
        "objects": [names[value] for value in scattered],
        "names": list(names),
        "spacing_mm": None if spacing is None else list(spacing),
    }
    return network, layout.weights()


def _check(masks: Masks, names: Sequence[str], objects: Sequence[str] | None) -> None:
    if not masks.any():
        raise InputError("data: the label maps show only the background; expected classes in them")
    num = len({digest_of(mask) for mask in masks})
    if num < MIN_MAPS:
        raise InputError(
            f"data: {num} different label maps to fit a layout to; expected {MIN_MAPS} or more: "
            "add maps, or hold out fewer; a condition_set with deform takes one"
        )
    if int(masks.max()) >= len(names):
        raise InputError(
            f"data: the label maps hold the value {int(masks.max())}; expected values from 0 to "
            f"{len(names) - 1}, of {', '.join(names)}: name it in data.condition.names"
        )
    for name in objects or ():
        if name not in names[1:]:
            raise InputError(
                f"network.objects: {name!r}: expected one of {', '.join(names[1:])}"
                f"{suggest(name, list(names[1:]))}"
            )


def _fitted(
    masks: Masks, scattered: Sequence[int], class_ids: NDArray[np.int64], max_modes: int
) -> Layout:
    digests = frozenset(digest_of(mask) for mask in masks)
    shown = np.flatnonzero(np.bincount(masks.ravel(), minlength=256))
    values = (0, *(int(value) for value in shown if value > 0 and value not in scattered))
    size = (masks.shape[1], masks.shape[2])
    stride = -(-max(size) // _MAX_SIDE)
    per_map = len(values) * -(-size[0] // stride) * -(-size[1] // stride)
    rows = _spread_rows(class_ids, min(_MAX_MAPS, _MAX_VALUES // per_map))
    masks = masks[rows]
    bases, pieces = [], list[Piece]()
    for row, mask in enumerate(masks):
        bases.append(without(mask, scattered))
        pieces += pieces_of(mask, bases[-1], scattered, row=row)
    shape, mean, modes, points = _components(bases, values, stride, max_modes)
    layout = Layout(
        size,
        values,
        mean.reshape(shape),
        modes=modes.reshape(-1, *shape),
        points=points,
        areas=_areas(bases, values),
        map_classes=class_ids[rows],
        histograms=np.stack([np.bincount(mask.ravel(), minlength=256) for mask in masks]),
        errors=np.zeros(len(masks), np.int64),
        digests=digests,
        pieces=tuple(pieces),
    )
    return _with_errors(layout, masks)


def _areas(bases: Sequence[Mask], values: Sequence[int]) -> NDArray[np.float64]:
    """(N, K) shares of the frame, as they are stored."""
    counts = np.stack([np.bincount(base.ravel(), minlength=256)[list(values)] for base in bases])
    return (counts / bases[0].size).astype(np.float32).astype(np.float64)


def _spread_rows(class_ids: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most so many maps, evenly over each class."""
    if class_ids.size <= most:
        return np.arange(class_ids.size)
    by_class = np.argsort(class_ids, kind="stable")
    places = np.linspace(0, class_ids.size - 1, most).astype(np.int64)
    return np.sort(by_class[places])


def _components(
    bases: Sequence[Mask], values: Sequence[int], stride: int, max_modes: int
) -> tuple[tuple[int, ...], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The shape of distance maps; their mean (D,), principal modes (M, D) of root mean square 1,
    and the maps' coefficients (N, M).

    By the eigenvectors of the maps' (N, N) inner products: Cootes et al. 1995, appendix A.
    """
    planes = [signed_distances(base, values, stride) for base in bases]
    shape, num = planes[0].shape, len(planes)
    flat = np.stack([plane.astype(np.float16).ravel() for plane in planes])
    del planes
    mean = flat.mean(axis=0, dtype=np.float32)
    products = np.zeros((num, num))
    chunks = [slice(at, at + _CHUNK) for at in range(0, flat.shape[1], _CHUNK)]
    for chunk in chunks:
        centred = flat[:, chunk].astype(np.float32) - mean[chunk]
        products += centred @ centred.T
    strengths, vectors = np.linalg.eigh(products)
    strengths, vectors = strengths[::-1], vectors[:, ::-1]
    kept = min(max_modes, _num_modes(strengths, flat.shape[1]))
    modes = np.empty((kept, flat.shape[1]), np.float32)
    lengths = np.sqrt(strengths[:kept])
    for chunk in chunks:
        centred = flat[:, chunk].astype(np.float32) - mean[chunk]
        modes[:, chunk] = (vectors[:, :kept] / lengths).T @ centred
    scale = np.sqrt(flat.shape[1])
    points = vectors[:, :kept] * (lengths / scale)
    return shape, mean, modes * np.float32(scale), points.astype(np.float32)


def _num_modes(strengths: NDArray[np.float64], num_values: int) -> int:
    """As few as hold most of the variance."""
    sound = strengths[strengths > 1e-7 * max(strengths[0], 1e-12)]
    if strengths[0] <= 0:
        return 0
    enough = int(np.searchsorted(np.cumsum(sound) / sound.sum(), _VARIANCE)) + 1
    most = max(1, _MAX_MODE_VALUES // num_values)
    return min(enough, int(sound.size), most)


def _with_errors(layout: Layout, masks: Masks) -> Layout:
    """As it will be read from its weights, which are rounded."""
    rounded = replace(
        layout,
        mean=layout.mean.astype(np.float16).astype(np.float32),
        modes=layout.modes.astype(np.float16).astype(np.float32),
        points=layout.points.astype(np.float32),
    )
    errors = [np.count_nonzero(rounded.rebuilt(row) != mask) for row, mask in enumerate(masks)]
    return replace(rounded, errors=np.asarray(errors, np.int64))


def _try(layout: Layout) -> None:
    """Raises InputError if it can draw nothing but copies."""
    rng = np.random.Generator(np.random.Philox(0))
    try:
        for _ in range(_NUM_TRIALS):
            layout.draw(rng)
    except ModelError as error:
        raise InputError(f"data: {error}") from None


def _one_spacing(spacing_mm: NDArray[np.float64] | None) -> tuple[float, float] | None:
    """That of all maps; None if they differ by more than a fiftieth."""
    if spacing_mm is None or not np.isfinite(spacing_mm).all():
        return None
    middle = np.median(spacing_mm, axis=0)
    if np.abs(spacing_mm / middle - 1).max() > 0.02:
        return None
    return float(middle[0]), float(middle[1])


def summary(weights: Weights, network: dict[str, Any], *, num_maps: int) -> list[str]:
    """For the card."""
    num_kept = len(weights["errors"])
    share = weights["errors"].sum() / max(1.0, float(weights["histograms"][:, 1:].sum()))
    num_modes = len(weights["modes"]) if "modes" in weights else 0
    lines = [
        f"Fitted to {num_kept:,} of {num_maps:,} label maps of {', '.join(network['names'])}: "
        f"{num_modes} modes of shape, which rebuild all but {share:.1%} of the pixels beside the "
        "background.",
        "It holds the maps' coefficients and the outlines of scattered objects: whoever has it can "
        "rebuild the maps that closely. No map that it draws is one of them.",
    ]
    if network["objects"]:
        num = len(weights["pieces"]) if "pieces" in weights else 0
        lines.append(f"Drawn one by one, of {num:,} pieces: {', '.join(network['objects'])}.")
    if network["spacing_mm"] is None:
        lines.append("Without a spacing in millimetres: the data have none, or differ in it.")
    return lines
