"""A small set of images with label maps beside them, and a model recipe for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from datagen.training.model_recipe import ModelRecipe, parse_model_recipe

NAMES = ["background", "bar", "dot"]

NETWORKS: dict[str, dict[str, Any]] = {
    "edm": {"widths": [8, 16], "norm_num_groups": 4},
    "spade": {"latent_dim": 4, "widths": [8, 4], "hidden_dim": 4},
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "edm": {"evaluation_steps": 2},
    "spade": {"discriminator_widths": [4], "num_scales": 1},
}


def tiny_pairs(num: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(num, 8, 8) images and label maps: a bright bar of 3 rows anywhere, and a brighter dot."""
    rng = np.random.default_rng(0)
    masks = np.zeros((num, 8, 8), np.uint8)
    for mask in masks:
        mask[(first := rng.integers(0, 6)) : first + 3] = 1
        mask[tuple(rng.integers(0, 8, 2))] = 2
    noise = rng.integers(0, 40, masks.shape, dtype=np.uint8)
    return (noise + masks * 100).astype(np.uint8), masks


def write_pairs(folder: Path, num: int = 48) -> Path:
    """Folders images and masks."""
    for name, pictures in zip(("images", "masks"), tiny_pairs(num), strict=True):
        (folder / name).mkdir(parents=True)
        for row, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(folder / name / f"{row:03d}.png")
    return folder


def pairs_content(
    generator: str, data: Path, *, condition: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """changes: of the schedule."""
    schedule = {
        "num_images": 32,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "warmup_images": 16,
        "ema_halflife_images": 100,
        "evaluate_every_images": 32,
        "checkpoint_every_images": 16,
    }
    return {
        "version": 1,
        "name": f"pairs-{generator}",
        "generator": generator,
        "seed": 3,
        "data": {
            "path": str(data),
            "class_names": ["slice"],
            "licence": "MIT",
            "source": "made up",
            "held_out": 12,
            "condition": condition or {"kind": "mask", "names": NAMES},
        },
        "network": NETWORKS[generator],
        "objective": OBJECTIVES[generator],
        "schedule": schedule | changes,
    }


def parsed(content: dict[str, Any]) -> ModelRecipe:
    return parse_model_recipe(yaml.safe_dump(content).encode(), source="pairs.yaml")


def pairs_recipe(generator: str, data: Path, **changes: Any) -> ModelRecipe:
    return parsed(pairs_content(generator, data, **changes))
