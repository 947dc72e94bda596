"""What a recipe will cost, said before anything is made."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datagen.catalog.jobs import record_throughput
from datagen.forecast import PILOT_IMAGES, Pilot, forecast, run_pilot
from datagen.generators.model_directory import Throughput
from datagen.plan import Plan
from datagen.resolve import ResolvedRecipe, resolve
from datagen.settings import Settings, load_settings
from datagen.submission import plan_unit_size
from tests.generators.tiny_models import TINY, save_random_model
from tests.published import Home, open_home, publish
from tests.recipes import noise_recipe


def resolved(changes: dict[str, Any] | None = None, *models: Path) -> ResolvedRecipe:
    return resolve(noise_recipe(changes), models)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("forecast") / "home"
    publish(load_settings({}, home=folder))
    with open_home(folder) as opened:
        yield opened


def test_counts_units_and_shards_are_those_of_the_plan() -> None:
    recipe = resolved()
    plan = Plan(recipe.recipe, unit_size=plan_unit_size(recipe))
    cost = forecast(recipe, workers=1, catalog=None)
    assert cost.counts == {
        "cat": {"test": 3, "train": 48, "val": 9},
        "dog": {"test": 2, "train": 32, "val": 6},
    }
    assert (cost.num_images, cost.units, cost.shards) == (
        100,
        plan.num_generate_units,
        plan.num_shards,
    )


def test_time_is_unknown_where_nobody_measured_the_model() -> None:
    cost = forecast(resolved(), workers=1, catalog=None)
    assert (cost.seconds, cost.seconds_per_image, cost.seconds_basis) == (None, None, "unknown")


def test_the_models_card_is_scaled_by_network_calls(settings: Settings) -> None:
    save_random_model(settings.models_dir / "tiny", TINY["edm"])
    recipe = resolved(
        {
            "generator": {"model": "tiny", "num_inference_steps": 9},
            "classes": [{"name": "disc", "count": 1000}],
        },
        settings.models_dir,
    )
    speed = Throughput(seconds_per_image=0.02, num_network_calls=18, device="a test")
    model = replace(recipe.model, facts=recipe.model.facts.model_copy(update={"throughput": speed}))
    cost = forecast(replace(recipe, model=model), workers=1, catalog=None)
    calls = recipe.spec.num_network_calls(recipe.options)
    assert calls == 9
    assert cost.seconds_per_image == pytest.approx(0.01)
    assert cost.seconds_basis == "model card"
    assert cost.seconds is not None
    assert 10.0 < cost.seconds < 11.0


def test_earlier_runs_count_more_than_the_card(earlier: Home) -> None:
    recipe = resolved({"name": "next"})
    record_throughput(earlier.catalog, recipe.model.digest, 0.5)
    cost = forecast(recipe, workers=1, catalog=earlier.catalog)
    assert (cost.seconds_per_image, cost.seconds_basis) == (0.5, "earlier runs")
    half = forecast(recipe, workers=2, catalog=earlier.catalog)
    assert half.seconds == pytest.approx((cost.seconds or 0) / min(2, max(cost.units, cost.shards)))


def test_a_pilot_counts_most(earlier: Home) -> None:
    pilot = Pilot(8, seconds_per_image=0.25, png_bytes=900.0, rejected={"blank": 4})
    cost = forecast(resolved(), workers=1, catalog=earlier.catalog, pilot=pilot)
    assert pilot.attempts_per_image == 2.0
    assert cost.seconds_basis == "pilot"
    assert cost.seconds == pytest.approx(100 * 2 * 0.25, rel=0.01)
    assert cost.cache_bytes == 100 * 2 * 8 * 12


def test_a_pilot_that_rejects_all_is_still_finite() -> None:
    assert Pilot(8, 0.1, 900.0, {"blank": 8}).attempts_per_image == 9


def test_a_pilot_measures_images_rejections_and_bytes(settings: Settings) -> None:
    picky = {"filters": [{"filter": "blank", "min_contrast": 0.5}, {"filter": "duplicate"}]}
    pilot = run_pilot(resolved(picky), settings)
    assert pilot.rejected == {"blank": PILOT_IMAGES}
    assert pilot.seconds_per_image > 0
    assert 8 * 12 < pilot.png_bytes < 8 * 12 + 400
    assert not settings.home.exists()


def test_bytes_are_near_those_of_the_run(earlier: Home) -> None:
    published = earlier.version("small@1")
    for catalog in (None, earlier.catalog):
        cost = forecast(resolved(), workers=1, catalog=catalog)
        # 100 images: the card, the index and the end of each shard still weigh something.
        assert published.size_bytes * 0.5 < cost.dataset_bytes < published.size_bytes * 1.3
    assert cost.bytes_basis == "earlier runs"
    assert cost.cache_bytes == 100 * 8 * 12


def test_what_exists_already_is_told(earlier: Home) -> None:
    assert forecast(resolved(), workers=1, catalog=earlier.catalog).published == "small@1"
    assert forecast(resolved({"seed": 9}), workers=1, catalog=earlier.catalog).published is None


def test_a_million_images_cost_no_more_memory_than_a_thousand() -> None:
    peaks = []
    for count in (1_000, 1_000_000):
        recipe = resolved({"classes": [{"name": "cat", "count": count}]})
        tracemalloc.start()
        forecast(recipe, workers=1, catalog=None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000
