"""A parser of YOLO's text labels, written from their published rules: data.yaml gives the folders
of images, `images` in a path becomes `labels`, and each row is a class and its numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

# key -> (class name, numbers) of each object
Rows = dict[str, list[tuple[str, list[float]]]]


def read_rows(folder: Path, split: str) -> Rows:
    content = yaml.safe_load((folder / "data.yaml").read_text())
    assert sorted(content["names"]) == list(range(len(content["names"])))
    rows: Rows = {}
    for image in sorted((folder / content[split]).glob("*.png")):
        parts = image.relative_to(folder).parts
        text = (folder / "labels" / Path(*parts[1:])).with_suffix(".txt").read_text()
        rows[image.stem] = []
        for line in text.splitlines():
            number, *values = line.split(" ")
            numbers = [float(value) for value in values]
            assert all(0 <= value <= 1 for value in numbers)
            rows[image.stem].append((content["names"][int(number)], numbers))
    return rows


def even_odd(corners: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether a ray to the right, from the centre of each pixel, meets the outline oddly often."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        meets = (y1 <= rows) != (y2 <= rows)
        inside ^= meets & (columns < x1 + (rows - y1) / (y2 - y1) * (x2 - x1))
    return inside
