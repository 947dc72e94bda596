"""Conditions of no meaning, to run a model that takes some. Called by half_precision.py."""

from __future__ import annotations

import numpy as np

from datagen.conditions import Condition
from datagen.generators.interface import ModelConfig
from datagen.labels import LabelledObject, Labels

_CELLS = 4  # a side: pieces large enough to be drawn as something


def random_condition(config: ModelConfig, seed: int) -> Condition:
    """What the model takes, of random pieces. The config has a condition."""
    taken = config.condition
    assert taken is not None
    rng = np.random.Generator(np.random.Philox(seed))
    height, width = config.image_size

    def enlarged(cells: np.ndarray) -> np.ndarray:
        step_y, step_x = -(-height // _CELLS), -(-width // _CELLS)
        return cells.repeat(step_y, 0).repeat(step_x, 1)[:height, :width]

    num_names = max(1, len(taken.names))
    mask = enlarged(rng.integers(0, num_names, (_CELLS, _CELLS)).astype(np.uint8))
    image = region = objects = None
    if taken.kind in ("image", "inpaint"):
        cells = rng.integers(0, 256, (_CELLS, _CELLS, taken.channels)).astype(np.uint8)
        image = enlarged(cells)
    if taken.kind == "inpaint":
        region = enlarged(rng.random((_CELLS, _CELLS)) < 0.25)
    if taken.kind == "layout":
        name = taken.names[int(rng.integers(1, num_names))] if num_names > 1 else "object"
        objects = (LabelledObject(name, (0.0, 0.0, width / 2, height / 2)),)
    return Condition(Labels("", mask=mask, objects=objects), mask, image, region)
