"""Pictures of a training: grids of samples, and the curves of its figures. Called by
training/loop.py and training/session.py."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import MachineError
from datagen.images import contact_sheet, encode_png

_COLUMNS, _SIDE_PX, _MAX_PIXELS = 10, 56, 4_000_000
_PANEL_PX, _MARGIN_PX, _PANELS_A_ROW = (360, 200), 34, 2
_INK, _GRID, _PAPER = (31, 78, 140), (222, 222, 222), (255, 255, 255)
_NO_CURVE = {"images", "kid_images"}


def sample_sheet(samples: Sequence[NDArray[np.uint8]]) -> bytes:
    """A PNG with a row of samples for each class, or for as many of the first as a page holds.

    samples: (N, H, W, C) of each class, of which 10 are shown.
    """
    height, width = samples[0].shape[1:3]
    scale = max(1, _SIDE_PX // max(height, width))
    num_rows = max(1, _MAX_PIXELS // (_COLUMNS * height * width * scale**2))
    images = [image for rows in samples[:num_rows] for image in rows[:_COLUMNS]]
    return encode_png(contact_sheet(images, columns=_COLUMNS, scale=scale))


def save_grid(path: Path, samples: Sequence[NDArray[np.uint8]]) -> None:
    """Whole or not at all. Raises MachineError if it cannot be written."""
    partial = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(sample_sheet(samples))
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise MachineError(
            f"grid {path} cannot be written ({error.strerror}); the last checkpoint is kept: make "
            "room, and give the same command again"
        ) from None


def curves_png(history: Sequence[dict[str, float]]) -> bytes | None:
    """A PNG with a panel for each figure, over the images seen; None below two evaluations."""
    if len(history) < 2:
        return None
    from PIL import Image, ImageDraw

    names = sorted({name for row in history for name in row} - _NO_CURVE)
    width, height = _PANEL_PX
    num_rows = -(-len(names) // _PANELS_A_ROW)
    page = Image.new("RGB", (width * _PANELS_A_ROW, height * num_rows), _PAPER)
    draw = ImageDraw.Draw(page)
    for index, name in enumerate(names):
        corner = (index % _PANELS_A_ROW * width, index // _PANELS_A_ROW * height)
        points = [(row["images"], row[name]) for row in history if name in row]
        _panel(draw, corner, name, points)
    out = io.BytesIO()
    page.save(out, "PNG", optimize=True)
    return out.getvalue()


def _panel(
    draw: object, corner: tuple[int, int], name: str, points: list[tuple[float, float]]
) -> None:
    """One curve in its frame, with the ends of both axes in figures."""
    from PIL import ImageDraw

    assert isinstance(draw, ImageDraw.ImageDraw)
    left, top = corner[0] + _MARGIN_PX, corner[1] + _MARGIN_PX
    right, bottom = corner[0] + _PANEL_PX[0] - _MARGIN_PX, corner[1] + _PANEL_PX[1] - _MARGIN_PX
    xs, ys = np.array(points, dtype=np.float64).T
    low, high = float(ys.min()), float(ys.max())
    across = (xs - xs[0]) / max(xs[-1] - xs[0], 1e-12)
    up = (ys - low) / max(high - low, 1e-12)
    draw.rectangle((left, top, right, bottom), outline=_GRID)
    line = [
        (left + x * (right - left), bottom - y * (bottom - top))
        for x, y in zip(across, up, strict=True)
    ]
    draw.line(line, fill=_INK, width=2)
    draw.text((left, top - 26), name, fill=_INK)
    draw.text((left, top - 13), f"{high:.4g}", fill="black")
    draw.text((left, bottom + 2), f"{low:.4g}", fill="black")
    draw.text((right, bottom + 2), f"{xs[-1]:,.0f} images", fill="black", anchor="ra")
