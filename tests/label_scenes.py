"""Masks, and images' worth of labels, for tests that draw them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from datagen.label_shapes import instance_boxes
from datagen.labels import HIDDEN, VISIBLE, Keypoint, LabelledObject, Labels

NAMES = ("background", "disc", "box")


@st.composite
def masks(draw: st.DrawFn, max_side: int = 12) -> NDArray[np.bool_]:
    """(H, W) bool: noise of any density, so with holes, corners that touch, and full or empty."""
    height, width = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    density = draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random((height, width)) < density


def scene(seed: int, size: tuple[int, int] = (24, 32), num_shapes: int = 4) -> Labels:
    """Discs and boxes, some behind others, with a keypoint inside each and one at its left."""
    rng = np.random.default_rng(seed)
    height, width = size
    rows, columns = np.mgrid[:height, :width] + 0.5
    instances, kinds = np.zeros(size, np.uint16), np.zeros(num_shapes + 1, np.uint8)
    for value in range(1, num_shapes + 1):
        x, y = rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height
        a, b = rng.uniform(0.1, 0.25, 2) * min(size)
        kinds[value] = rng.integers(1, 3)
        if kinds[value] == 1:
            where = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 < 1
        else:
            where = (np.abs(columns - x) < a) & (np.abs(rows - y) < b)
        instances[where] = value
    mask = kinds[instances]
    values, places = np.unique(instances, return_inverse=True)
    if values[0] != 0:
        places = places + 1
    else:
        values = values[1:]
    instances = places.reshape(size).astype(np.uint16)
    objects = []
    for value, box in zip(values, instance_boxes(instances).values(), strict=True):
        x0, y0, x1, y1 = box
        keypoints = (
            Keypoint("middle", (x0 + x1) / 2, (y0 + y1) / 2, HIDDEN),
            Keypoint("left_side", x0, (y0 + y1) / 2, VISIBLE),
        )
        objects.append(LabelledObject(NAMES[kinds[value]], box, keypoints))
    return Labels(
        "scene", mask=mask, instances=instances, objects=tuple(objects), spacing_mm=(2.0, 0.5)
    )


def same_labels(first: Labels, second: Labels) -> bool:
    """Dataclasses of arrays do not compare."""
    arrays = [(first.mask, second.mask), (first.instances, second.instances)]
    return first.spatial_json() == second.spatial_json() and all(
        (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in arrays
    )
