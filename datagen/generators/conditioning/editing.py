"""Edits of label maps: objects added inside a region, classes removed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.errors import ModelError
from datagen.generators.conditioning.options import Edit
from datagen.labels import Mask
from datagen.recipe import suggest

Region = NDArray[np.bool_]  # (H, W)

_TRIES = 24
_LEAST_INSIDE = 0.95  # of an object's pixels, else another place is tried
_HARMONICS = 4


@dataclass(frozen=True)
class EditedMap:
    """added: the pixels of each object and its class, in order; later ones lie over earlier.
    is_complete: whether every edit that happened added as many objects as its least."""

    mask: Mask
    added: tuple[tuple[Region, str], ...]
    is_complete: bool = True


def check_edits(
    edits: Sequence[Edit],
    objects: Sequence[str] | None,
    names: Sequence[str],
    *,
    has_spacing: bool,
    size: tuple[int, int] | None = None,
    spacing_mm: tuple[float, float] | None = None,
) -> tuple[str, ...]:
    """The names with those added last. Raises ModelError; see composition.check_editing."""
    known = list(names)
    for index, edit in enumerate(edits):
        for field, name in (("region", edit.region), ("remove", edit.remove)):
            if name is not None:
                _require_known(f"edits[{index}].{field}", name, known)
        if edit.size_mm is not None and not has_spacing:
            raise ModelError(
                f"edits[{index}].size_mm: the label maps have no spacing in millimetres; give "
                "size_px"
            )
        sizes = {"size_px": edit.size_px, "size_mm": edit.size_mm}
        for field, given in sizes.items():
            pixel = (1.0, 1.0) if field == "size_px" else spacing_mm
            if size is not None and given is not None and pixel is not None:
                check_fits(f"edits[{index}].{field}", given[0], size, pixel)
        if edit.add == known[0] or edit.remove == known[0]:
            raise ModelError(f"edits[{index}]: {known[0]!r}: expected a class, not the background")
        if edit.add is not None and edit.add not in known:
            known.append(edit.add)
    for name in objects or ():
        _require_known("objects", name, known[1:])
    return tuple(known)


def _require_known(field: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ModelError(
            f"{field}: {name!r}: expected one of {', '.join(known[:40])}{suggest(name, known)}"
        )


def check_fits(field: str, least: float, size: tuple[int, int], pixel: tuple[float, float]) -> None:
    """Raises ModelError if not even the least object, of that diameter, has fewer pixels than an
    image of that size. pixel: its sides, (rows, columns), in the diameter's unit."""
    if num_pixels_of(least, pixel) > math.prod(size):
        unit = field[-2:]
        sides = " x ".join(f"{side * step:g}" for side, step in zip(size, pixel, strict=True))
        raise ModelError(
            f"{field}: an object {least:g} {unit} wide has more pixels than an image of {sides} "
            f"{unit}: it fits nowhere; make it smaller"
        )


def num_pixels_of(diameter: float, pixel: tuple[float, float]) -> int:
    """Of a circle; pixel: as check_fits."""
    return max(1, round(math.pi * diameter**2 / 4 / (pixel[0] * pixel[1])))


def edit_map(
    mask: Mask,
    edits: Sequence[Edit],
    *,
    rng: np.random.Generator,
    class_name: str,
    names: Sequence[str],
    spacing_mm: tuple[float, float] | None,
) -> EditedMap:
    """mask: (H, W), values into names. An object for which the region has no room is left out."""
    mask = mask.copy()
    added: list[tuple[Region, str]] = []
    is_complete = True
    for edit in edits:
        happens = rng.random() < edit.probability
        if not happens or (edit.classes and class_name not in edit.classes):
            continue
        if edit.remove is not None:
            mask[mask == names.index(edit.remove)] = 0
            continue
        assert edit.add is not None
        allowed = mask > 0 if edit.region is None else mask == names.index(edit.region)
        num_before = len(added)
        for _ in range(int(rng.integers(edit.num[0], edit.num[1] + 1))):
            spot = draw_object(rng, edit, allowed, spacing_mm)
            if spot is not None:
                mask[spot] = names.index(edit.add)
                allowed &= ~spot
                added.append((spot, edit.add))
        is_complete = is_complete and len(added) - num_before >= edit.num[0]
    return EditedMap(mask, tuple(added), is_complete)


def draw_object(
    rng: np.random.Generator,
    edit: Edit,
    allowed: Region,
    spacing_mm: tuple[float, float] | None,
) -> Region | None:
    """(H, W): the pixels of one object, all of them allowed; None if there is no room.

    Its area is that of the drawn diameter, to half a pixel's area where it lies wholly inside.
    """
    least, most = edit.size_px or edit.size_mm or (1.0, 1.0)
    diameter = least + (most - least) * rng.random()
    pixel = (1.0, 1.0) if edit.size_px or spacing_mm is None else spacing_mm
    form = _draw_form(rng, edit.shape)
    candidates = np.flatnonzero(allowed)
    picks = rng.random(_TRIES)
    if candidates.size == 0:
        return None
    num_pixels = num_pixels_of(diameter, pixel)
    for pick in picks:
        centre = divmod(int(candidates[int(pick * candidates.size)]), allowed.shape[1])
        spot = _grow(form, centre, num_pixels, pixel, allowed.shape)
        if spot is None:
            continue
        inside = spot & allowed
        if np.count_nonzero(inside) >= _LEAST_INSIDE * num_pixels:
            return inside
    return None


@dataclass(frozen=True)
class _Form:
    """The radius around the centre, by angle: a Fourier series of its logarithm."""

    cosines: NDArray[np.float64]
    sines: NDArray[np.float64]
    aspect: float
    angle: float

    def reach(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far out each offset lies: below t, inside the form of size t."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along, across = cos * x + sin * y, (cos * y - sin * x) / self.aspect
        turn = np.arctan2(across, along)
        orders = np.arange(2, 2 + len(self.cosines))[:, None, None]
        wave = self.cosines[:, None, None] * np.cos(orders * turn)
        wave = wave + self.sines[:, None, None] * np.sin(orders * turn)
        reach: NDArray[np.float64] = np.hypot(along, across) / np.exp(wave.sum(axis=0))
        return reach


def _draw_form(rng: np.random.Generator, shape: str) -> _Form:
    """The same draws for either shape."""
    cosines, sines = rng.standard_normal((2, _HARMONICS))
    aspect, angle = 0.6 + 0.4 * rng.random(), math.pi * rng.random()
    weight = (0.16 if shape == "blob" else 0.0) / np.arange(1, _HARMONICS + 1)
    return _Form(cosines * weight, sines * weight, aspect, angle)


def _grow(
    form: _Form,
    centre: tuple[int, int],
    num_pixels: int,
    pixel: tuple[float, float],
    size: tuple[int, ...],
) -> Region | None:
    """The num_pixels pixels that the form reaches first: its area is exact. None if they would
    leave the frame."""
    radius = 3.0 * math.sqrt(num_pixels * pixel[0] * pixel[1] / math.pi) + max(pixel)
    if num_pixels > math.prod(size):
        return None
    halves = [math.ceil(radius / step) for step in pixel]
    offsets = [
        np.arange(-half, half + 1, dtype=np.float64) * step
        for half, step in zip(halves, pixel, strict=True)
    ]
    # Beyond the frame too: a form that the frame cuts would grow along its edge instead.
    reach = form.reach(offsets[0][:, None], offsets[1][None, :])
    order = np.argsort(reach, axis=None, kind="stable")[:num_pixels]
    rows, columns = np.unravel_index(order, reach.shape)
    rows, columns = rows + centre[0] - halves[0], columns + centre[1] - halves[1]
    if min(rows.min(), columns.min()) < 0 or rows.max() >= size[0] or columns.max() >= size[1]:
        return None
    spot = np.zeros(size, np.bool_)
    spot[rows, columns] = True
    return spot
