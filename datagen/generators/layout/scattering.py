"""Which classes of label maps are scattered objects, and which are structures. Called by fit.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AGREEMENT = 0.5  # of scattered objects with those of other maps, at most
_LEAST_HOST = 0.7  # of what is beside objects; rims and folds have two sides, about half each
_MAX_COMPARED = 1000
_UNTOLD = 255  # stands for pixels that are left out; a label map of 256 names compares one less


def scattered_values(masks: NDArray[np.uint8], groups: Sequence[str] | None) -> tuple[int, ...]:
    """The values of objects, each mostly in one other class, that the rest of a map does not tell:
    of half of the maps that show one, less than half of its pixels agree with those of the maps (of
    other groups, where several show it) whose rest is most like theirs.

    Agreement is to a 64th of the longer side. Pixels of values found to be scattered are not part
    of the rest: a core does not stay for its shell.
    """
    every = slice(None, None, -(-len(masks) // _MAX_COMPARED))
    masks, names = masks[every], np.asarray(groups or range(len(masks)))[every]
    step = -(-max(masks.shape[1:]) // 64)
    found: list[int] = []
    while True:
        rest = np.where(np.isin(masks, found), _UNTOLD, masks)[:, ::step, ::step]
        more = [
            value
            for value in range(1, int(masks.max()) + 1)
            if value not in found and _is_scattered(masks, rest, value, names)
        ]
        if not more:
            return tuple(sorted(found))
        found += more


def _is_scattered(
    masks: NDArray[np.uint8], rest: NDArray[np.uint8], value: int, names: NDArray[Any]
) -> bool:
    rows = np.flatnonzero((masks == value).any(axis=(1, 2)))
    if rows.size == 0:
        return False
    if _share_of_host(masks[rows[:: max(1, rows.size // 32)]], value) < _LEAST_HOST:
        return False
    hidden = np.where(rest[rows] == value, _UNTOLD, rest[rows]).reshape(rows.size, -1)
    agreements = _agreements(masks[rows] == value, hidden, names[rows])
    return bool(np.median(agreements) < _AGREEMENT)


def _share_of_host(masks: NDArray[np.uint8], value: int) -> float:
    """Of the pixels beside a connected part of the value, those of the class that most are of;
    the mean, weighted by the pixels of the parts: 1 for objects that lie in one thing."""
    import cv2

    kernel, shares, weights = np.ones((3, 3), np.uint8), [], []
    for mask in masks:
        padded = np.pad(mask, 1)
        shown = (padded == value).astype(np.uint8)
        num, parts, stats, _ = cv2.connectedComponentsWithStats(shown, connectivity=8)
        for number in range(1, num):
            x, y, width, height, area = (int(each) for each in stats[number])
            window = slice(y - 1, y + height + 1), slice(x - 1, x + width + 1)
            part = (parts[window] == number).astype(np.uint8)
            beside = (cv2.dilate(part, kernel) > 0) & (shown[window] == 0)
            counts = np.bincount(padded[window][beside], minlength=1)
            shares.append(counts.max() / max(1, counts.sum()))
            weights.append(area)
    return float(np.average(shares, weights=weights))


def _agreements(
    shown: NDArray[np.bool_], rest: NDArray[np.uint8], names: NDArray[Any]
) -> list[float]:
    """Of up to 32 of the maps, with those three whose rest differs least. shown: (N, H, W). rest:
    (N, P)."""
    import cv2

    reach = 2 * max(1, max(shown.shape[1:]) // 64) + 1
    kernel = np.ones((reach, reach), np.uint8)
    flat = shown.reshape(len(shown), -1)
    wide = np.stack([cv2.dilate(each.astype(np.uint8), kernel).ravel() > 0 for each in shown])
    areas = flat.sum(axis=1)
    found = []
    for row in range(0, len(shown), max(1, len(shown) // 32)):
        others = np.flatnonzero(names != names[row])
        if others.size == 0:
            others = np.flatnonzero(np.arange(len(shown)) != row)
        told = (rest[others] != _UNTOLD) & (rest[row] != _UNTOLD)
        gaps = np.count_nonzero((rest[others] != rest[row]) & told, axis=1)
        others = others[np.argsort(gaps, kind="stable")[:3]]
        ours = wide[np.ix_(others, np.flatnonzero(flat[row]))].mean(axis=1)
        theirs = flat[np.ix_(others, np.flatnonzero(wide[row]))].sum(axis=1) / areas[others]
        found.append(float(((ours + theirs) / 2).mean()) if others.size else 0.0)
    return found
