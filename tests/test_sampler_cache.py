"""Models that alternate in one worker: the weights that are alive never outgrow the budget."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

from datagen.engine import load_sampler
from datagen.errors import ModelError
from datagen.generators.interface import Sampler
from datagen.resolve import ResolvedRecipe, resolve
from datagen.sampler_cache import MAX_MODELS, SamplerCache, expected_bytes
from datagen.settings import Settings, load_settings
from tests.generators.tiny_models import TINY, save_random_model
from tests.recipes import noise_recipe

CONFIG = TINY["edm"]
NUM_MODELS = 5


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings({}, home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def recipes(settings: Settings) -> list[ResolvedRecipe]:
    for number in range(NUM_MODELS):
        save_random_model(settings.models_dir / f"tiny-{number}", CONFIG, seed=number)
    classes = [{"name": CONFIG.class_names[0], "count": 4}]
    return [
        resolve(
            noise_recipe(
                {
                    "image_size": list(CONFIG.image_size),
                    "classes": classes,
                    "generator": {"model": f"tiny-{number}", "num_inference_steps": 2},
                }
            ),
            [settings.models_dir],
        )
        for number in range(NUM_MODELS)
    ]


def alive_bytes() -> int:
    """Of every parameter in the process."""
    gc.collect()
    return sum(p.nbytes for p in gc.get_objects() if issubclass(type(p), torch.nn.Parameter))


class Loads:
    """Loads samplers through a cache, and keeps what was alive at each."""

    def __init__(self, cache: SamplerCache, settings: Settings) -> None:
        self.cache = cache
        self.settings = settings
        self.loaded: list[str] = []
        self.most_alive = 0

    def get(self, recipe: ResolvedRecipe) -> Sampler:
        def load() -> Sampler:
            self.loaded.append(recipe.model.name)
            sampler = load_sampler(recipe, self.settings)
            self.most_alive = max(self.most_alive, alive_bytes())
            return sampler

        return self.cache.get(recipe, recipe.batch_size, load)


def test_five_models_alternate_under_a_budget_for_two(
    recipes: list[ResolvedRecipe], settings: Settings
) -> None:
    before = alive_bytes()
    one = expected_bytes(recipes[0])
    loads = Loads(SamplerCache(int(2.5 * one)), settings)
    for recipe in recipes * 3:
        images = loads.get(recipe).sample([1], [0])
        assert images.shape == (1, *CONFIG.image_size, CONFIG.channels)
        assert loads.cache.num_bytes <= 2.5 * one
        assert alive_bytes() - before <= 2.5 * one
    assert loads.most_alive - before <= 2.5 * one
    assert loads.loaded == [r.model.name for r in recipes * 3]  # round robin is LRU's worst


def test_the_models_last_used_stay(recipes: list[ResolvedRecipe], settings: Settings) -> None:
    loads = Loads(SamplerCache(int(2.5 * expected_bytes(recipes[0]))), settings)
    order = [0, 1, 0, 1, 0, 2, 0, 1]
    for number in order:
        loads.get(recipes[number])
    assert loads.loaded == ["tiny-0", "tiny-1", "tiny-2", "tiny-1"]


def test_without_a_budget_the_two_last_used_stay(
    recipes: list[ResolvedRecipe], settings: Settings
) -> None:
    loads = Loads(SamplerCache(), settings)
    for number in (0, 1, 2, 1, 0):
        loads.get(recipes[number])
    assert MAX_MODELS == 2
    assert loads.loaded == ["tiny-0", "tiny-1", "tiny-2", "tiny-0"]


def test_a_model_above_the_whole_budget_is_refused_before_it_is_loaded(
    recipes: list[ResolvedRecipe], settings: Settings
) -> None:
    loads = Loads(SamplerCache(expected_bytes(recipes[0]) // 2), settings)
    with pytest.raises(ModelError, match=r"tiny-0 holds .* GB of weights; DATAGEN_MODEL_MEMORY_GB"):
        loads.get(recipes[0])
    assert loads.loaded == []


def test_weights_are_held_as_large_as_expected_or_less(
    recipes: list[ResolvedRecipe], settings: Settings, tmp_path: Path
) -> None:
    loads = Loads(SamplerCache(), settings)
    loads.get(recipes[0])
    assert 0 < loads.cache.num_bytes <= expected_bytes(recipes[0])
