"""Where an inpainted image is made anew, and what its label map shows then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datagen.generators.condition_set.options import Region
from datagen.generators.conditioning.composition import Draft
from datagen.generators.conditioning.editing import draw_object
from datagen.generators.conditioning.options import Edit
from datagen.label_shapes import split_mask

Hole = NDArray[np.bool_]  # (H, W)

_TRIES = 24


@dataclass(frozen=True)
class Painting:
    """draft: its label map shows the object. hole: (H, W), what is made anew."""

    draft: Draft
    hole: Hole


def draw_painting(
    rng: np.random.Generator,
    draft: Draft,
    region: Region,
    *,
    painted: str | None,
    names: Sequence[str],
) -> Painting | None:
    """draft: moved already, with a picture. painted: the class of the object; None for what the
    label map shows. None if there is no room."""
    spot = _spot_of(rng, draft, region, names)
    if spot is None or not spot.any():
        return None
    hole = spot if region.margin_px is None else _box_around(spot, region.margin_px)
    if painted is not None:
        draft = _with_object(draft, spot, painted, names)
    return Painting(draft, hole)


def _spot_of(
    rng: np.random.Generator, draft: Draft, region: Region, names: Sequence[str]
) -> Hole | None:
    assert draft.image is not None
    size = draft.image.shape[:2]
    if region.from_class is not None:
        assert draft.mask is not None
        return np.asarray(draft.mask == names.index(region.from_class))
    allowed = np.ones(size, np.bool_)
    if region.inside is not None:
        assert draft.mask is not None
        allowed = draft.mask == names.index(region.inside)
    if region.shape == "box":
        return _draw_box(rng, region, allowed, draft.spacing_mm)
    edit = Edit(
        add="object", size_mm=region.size_mm, size_px=region.size_px, shape=region.shape or "blob"
    )
    return draw_object(rng, edit, allowed, draft.spacing_mm)


def _draw_box(
    rng: np.random.Generator,
    region: Region,
    allowed: Hole,
    spacing_mm: tuple[float, float] | None,
) -> Hole | None:
    """Whole and inside the frame, with its middle on an allowed pixel. Its sides are as 1 to 1 to
    2 to 1, either way."""
    least, most = region.size_px or region.size_mm or (1.0, 1.0)
    diameter = least + (most - least) * rng.random()
    stretch = 2 ** (rng.random() - 0.5)
    pixel = (1.0, 1.0) if region.size_px or spacing_mm is None else spacing_mm
    side = diameter * math.sqrt(math.pi) / 2
    sides = [
        max(1, round(side * part / step))
        for part, step in zip((stretch, 1 / stretch), pixel, strict=True)
    ]
    candidates = np.flatnonzero(allowed)
    picks = rng.random(_TRIES)
    if candidates.size == 0:
        return None
    for pick in picks:
        middle = divmod(int(candidates[int(pick * candidates.size)]), allowed.shape[1])
        first = [m - length // 2 for m, length in zip(middle, sides, strict=True)]
        ends = [start + length for start, length in zip(first, sides, strict=True)]
        if min(first) >= 0 and ends[0] <= allowed.shape[0] and ends[1] <= allowed.shape[1]:
            box = np.zeros(allowed.shape, np.bool_)
            box[first[0] : ends[0], first[1] : ends[1]] = True
            return box
    return None


def _box_around(spot: Hole, margin_px: int) -> Hole:
    rows, columns = np.flatnonzero(spot.any(axis=1)), np.flatnonzero(spot.any(axis=0))
    hole = np.zeros(spot.shape, np.bool_)
    hole[
        max(0, rows[0] - margin_px) : rows[-1] + margin_px + 1,
        max(0, columns[0] - margin_px) : columns[-1] + margin_px + 1,
    ] = True
    return hole


def _with_object(draft: Draft, spot: Hole, painted: str, names: Sequence[str]) -> Draft:
    """The object is one of its own, also where it touches another of its class."""
    mask = np.zeros(spot.shape, np.uint8) if draft.mask is None else draft.mask.copy()
    instances, objects = split_mask(mask, names)
    mask[spot] = names.index(painted)
    instances[spot] = len(objects) + 1
    called = (*(each.class_name for each in objects), painted)
    return replace(draft, mask=mask, instances=instances, instance_names=called)
