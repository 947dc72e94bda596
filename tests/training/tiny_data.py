"""A small set of real-looking images, written as IDX, and a model recipe for it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from datagen.training.model_recipe import ModelRecipe, parse_model_recipe

CLASS_NAMES = ("left", "right", "dark")

NETWORKS: dict[str, dict[str, Any]] = {
    "cgan": {"latent_dim": 4, "widths": [8, 4], "num_blocks": 1},
    "edm": {"widths": [8, 16], "norm_num_groups": 4},
    "lora": {},  # the test names a pipeline
    "vae": {"latent_dim": 4, "widths": [4, 8]},
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "cgan": {"penalty_every": 2},
    "edm": {"evaluation_steps": 2},
    "lora": {"evaluation_steps": 2},
    "vae": {"kl_warmup_images": 32},
}


def tiny_images(num: int, *, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(num, 8, 8) images, bright on the left, on the right or nowhere, and their labels."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(num) % len(CLASS_NAMES)).astype(np.uint8)
    images = rng.integers(0, 60, (num, 8, 8), dtype=np.uint8)
    images[labels == 0, :, :4] += 180
    images[labels == 1, :, 4:] += 180
    return images, labels


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def write_tiny_data(folder: Path, num: int = 240) -> Path:
    """The training part only: whoever asks for the test part fails."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = tiny_images(num)
    write_idx(folder / "train-images-idx3-ubyte.gz", images)
    write_idx(folder / "train-labels-idx1-ubyte.gz", labels)
    return folder


def tiny_recipe_text(generator: str, data: Path, **changes: Any) -> str:
    """changes: of the schedule."""
    schedule = {
        "num_images": 96,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "warmup_images": 16,
        "ema_halflife_images": 100,
        "evaluate_every_images": 32,
        "checkpoint_every_images": 16,
    }
    content = {
        "version": 1,
        "name": f"tiny-{generator}",
        "generator": generator,
        "seed": 3,
        "description": "A test.",
        "data": {
            "format": "idx",
            "path": str(data),
            "class_names": list(CLASS_NAMES),
            "licence": "MIT",
            "source": "made up",
            "held_out": 60,
        },
        "network": NETWORKS[generator],
        "objective": OBJECTIVES[generator],
        "schedule": schedule | changes,
    }
    return str(yaml.safe_dump(content))


def tiny_recipe(generator: str, data: Path, **changes: Any) -> ModelRecipe:
    text = tiny_recipe_text(generator, data, **changes)
    return parse_model_recipe(text.encode(), source="tiny.yaml")
