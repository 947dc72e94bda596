"""The recipes of this folder: noise, since faults do not care what an image shows.

Recipes of different seeds share nothing in the attempt cache.
"""

from __future__ import annotations

from datagen.recipe import RecipeDocument
from tests.recipes import noise_recipe


def busy_recipe(name: str = "busy", *, seed: int = 7) -> RecipeDocument:
    """700 images: three units, then rounds, since a third is rejected; ten shards."""
    return noise_recipe(
        {
            "name": name,
            "seed": seed,
            "image_size": [16, 16],
            "classes": [{"name": "cat", "count": 420}, {"name": "dog", "count": 280}],
            "filters": [{"filter": "blank", "min_contrast": 0.2855}],
            "output": {"shard_size": 80},
        }
    )


def small_recipe(name: str = "small", *, seed: int = 7) -> RecipeDocument:
    """100 images in one unit and five shards."""
    return noise_recipe({"name": name, "seed": seed, "image_size": [16, 16]})
