"""A scene as a picture. Nothing here moves an edge: a pixel takes the colour of what its integer
says. Called by sample.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datagen.generators.procedural.options import Pattern, ProceduralOptions
from datagen.generators.procedural.scene import Scene

Plane = NDArray[np.float32]  # (h, w), a pattern in [-1, 1]

_CELLS = 5  # along a side of the grid that blobs are interpolated from


def paint(
    rng: np.random.Generator, scene: Scene, options: ProceduralOptions
) -> NDArray[np.float32]:
    """Returns (H, W, C) in [0, 1]."""
    height, width = scene.instances.shape
    brightness = float(rng.random())
    colour = _colour(rng, brightness, options.channels)
    canvas = _textured(rng, options.background, colour, (height, width), options)
    for number, each in enumerate(scene.objects, start=1):
        other = _apart(float(rng.random()), brightness, options.contrast)
        colour = _colour(rng, other, options.channels)
        rows, columns = each.cover.window
        seen = scene.instances[rows, columns] == number
        painted = _textured(rng, options.texture, colour, seen.shape, options)
        canvas[rows, columns][seen] = painted[seen]
    return _finish(rng, canvas, options)


def _apart(u: float, brightness: float, contrast: float) -> float:
    """Uniform over what is at least contrast from brightness. contrast <= 0.5: never empty."""
    below, above = max(0.0, brightness - contrast), max(0.0, 1 - brightness - contrast)
    at = u * (below + above)
    return at if at < below else brightness + contrast + (at - below)


def _colour(rng: np.random.Generator, brightness: float, channels: int) -> NDArray[np.float32]:
    """(C,) in [0, 1], of that mean."""
    if channels == 1:
        return np.array([brightness], np.float32)
    tint = rng.random(3) - 0.5
    tint -= tint.mean()
    room = min(brightness, 1 - brightness) / max(float(np.abs(tint).max()), 1e-9)
    return (brightness + tint * min(1.0, room)).astype(np.float32)


def _textured(
    rng: np.random.Generator,
    patterns: Sequence[Pattern],
    colour: NDArray[np.float32],
    size: tuple[int, int],
    options: ProceduralOptions,
) -> NDArray[np.float32]:
    """(h, w, C) around the colour."""
    pattern = patterns[int(rng.random() * len(patterns))]
    plane = np.float32(options.texture_contrast) * _PATTERNS[pattern](rng, *size)
    return colour + plane[..., None]


def _flat(rng: np.random.Generator, height: int, width: int) -> Plane:
    return np.zeros((height, width), np.float32)


def _ramp(rng: np.random.Generator, height: int, width: int) -> Plane:
    """Pixels along a drawn direction."""
    angle = 2 * math.pi * rng.random()
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    return np.float32(math.cos(angle)) * columns + np.float32(math.sin(angle)) * rows[:, None]


def _gradient(rng: np.random.Generator, height: int, width: int) -> Plane:
    ramp = _ramp(rng, height, width)
    low, high = float(ramp.min()), float(ramp.max())
    return (ramp - np.float32((low + high) / 2)) / np.float32(max(high - low, 1e-6) / 2)


def _noise(rng: np.random.Generator, height: int, width: int) -> Plane:
    return 2 * rng.random((height, width), np.float32) - 1


def _waves(rng: np.random.Generator, height: int, width: int) -> Plane:
    period = 4 + rng.random() * max(4.0, max(height, width) / 6)
    turns = _ramp(rng, height, width) * np.float32(2 * math.pi / period)
    waves: Plane = np.sin(turns + np.float32(2 * math.pi * rng.random()))
    return waves


def _checks(rng: np.random.Generator, height: int, width: int) -> Plane:
    period = 2 + int(rng.random() * max(4.0, max(height, width) / 8))
    shift_y, shift_x = (rng.random(2) * period).astype(int).tolist()
    rows, columns = (np.arange(height) + shift_y) // period, (np.arange(width) + shift_x) // period
    checks: Plane = (2 * ((rows[:, None] + columns) % 2) - 1).astype(np.float32)
    return checks


def _blobs(rng: np.random.Generator, height: int, width: int) -> Plane:
    import cv2

    grid = 2 * rng.random((_CELLS, _CELLS), np.float32) - 1
    enlarged = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(enlarged, -1, 1).astype(np.float32)


_PATTERNS = {
    "flat": _flat,
    "gradient": _gradient,
    "noise": _noise,
    "stripes": _waves,
    "checks": _checks,
    "blobs": _blobs,
}


def _finish(
    rng: np.random.Generator, canvas: NDArray[np.float32], options: ProceduralOptions
) -> NDArray[np.float32]:
    if options.blur_px:
        import cv2

        blurred = cv2.GaussianBlur(canvas, (0, 0), options.blur_px, borderType=cv2.BORDER_REFLECT)
        canvas = blurred.reshape(canvas.shape).astype(np.float32)
    if options.noise:
        canvas = canvas + np.float32(options.noise) * rng.standard_normal(canvas.shape, np.float32)
    return np.clip(canvas, 0, 1)
