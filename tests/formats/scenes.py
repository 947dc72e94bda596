"""Labels of small scenes, for versions that have them: parts, holes, objects that touch, none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datagen.labels import HIDDEN, Keypoint, LabelledObject, Labels
from tests.formats.small_version import SmallVersion, publish_small_version

# Not in alphabetical order, and "wheel" is never seen.
NAMES = ("background", "plate", "wheel", "bolt")
SIZE = (24, 32)


def draw_scene(ordinal: int, class_name: str, size: tuple[int, int] = SIZE) -> Labels:
    """Every fourth scene is empty; the others hold a plate with a hole and a bolt inside, and one
    bolt in two parts that touches the plate at a corner."""
    rng = np.random.default_rng(ordinal)
    mask = np.zeros(size, np.uint8)
    instances = np.zeros(size, np.uint16)
    objects: list[LabelledObject] = []
    if ordinal % 4 != 3:
        x, y = int(rng.integers(0, 8)), int(rng.integers(0, 4))
        instances[y : y + 12, x : x + 14] = 1
        instances[y + 3 : y + 9, x + 3 : x + 11] = 0
        instances[y + 5 : y + 7, x + 5 : x + 8] = 2
        instances[y + 12 : y + 15, x + 14 : x + 17] = 3
        instances[y + 18 : y + 20, x + 1 : x + 24] = 3
        mask[instances == 1] = NAMES.index("plate")
        mask[instances > 1] = NAMES.index("bolt")
        points = (Keypoint("corner", x + 0.5, y + 0.25), Keypoint("middle", x + 7, y + 6, HIDDEN))
        objects = [
            LabelledObject("plate", _box(instances, 1), points[ordinal % 2 :]),
            LabelledObject("bolt", _box(instances, 2)),
            LabelledObject("bolt", _box(instances, 3)),
        ]
    return Labels(
        class_name,
        also=("metal",) if ordinal % 2 else (),
        caption=f"scène {ordinal}" if ordinal % 3 else None,
        mask=mask,
        instances=instances,
        objects=tuple(objects),
        spacing_mm=(0.5, 0.25),
    )


def _box(instances: np.ndarray, k: int) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(instances == k)
    return float(columns.min()), float(rows.min()), columns.max() + 1.0, rows.max() + 1.0


def boxes_alone(ordinal: int, class_name: str) -> Labels:
    """As a layout gives them: no masks, and sides of a half more than a whole number."""
    labels = draw_scene(ordinal, class_name)
    moved = [
        LabelledObject(each.class_name, (x1 + 0.25, y1 + 0.125, x2 - 0.25, y2))
        for each in labels.objects or ()
        for x1, y1, x2, y2 in [each.box_xyxy]
    ]
    return Labels(class_name, objects=tuple(moved))


def publish_scenes(root: Path, **changes: Any) -> SmallVersion:
    """changes: arguments of publish_small_version."""
    size = changes.get("image_size", SIZE)
    scene = partial(draw_scene, size=size)
    return publish_small_version(
        root, **{"image_size": size, "scene": scene, "names": NAMES, **changes}
    )
