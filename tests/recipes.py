"""Small recipes that many tests run: the noise model needs no weights and no time."""

from __future__ import annotations

from typing import Any

from datagen.recipe import RecipeDocument, canonical_json, parse_recipe


def noise_recipe(changes: dict[str, Any] | None = None) -> RecipeDocument:
    """100 noise images of two classes in three splits, with `changes` to its top level."""
    content: dict[str, Any] = {
        "version": 1,
        "name": "small",
        "seed": 7,
        "image_size": [8, 12],
        "classes": [
            {"name": "cat", "count": 60},
            {"name": "dog", "count": 40, "attributes": {"age": 3}},
        ],
        "generator": {"model": "noise", "channels": 1},
        "splits": {"ratios": {"train": 0.8, "val": 0.15, "test": 0.05}},
        "output": {"shard_size": 32},
    }
    content |= changes or {}
    return parse_recipe(canonical_json(content), source="small.json")
