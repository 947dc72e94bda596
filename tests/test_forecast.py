"""What a recipe will cost, said before anything is made."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datagen.forecast import Forecast, forecast, run_pilot
from datagen.forecast.refills import expected_rounds
from datagen.generators.model_facts import Throughput
from datagen.plan import Plan
from datagen.recipe import Limits
from datagen.resolve import ResolvedRecipe, resolve
from datagen.settings import Settings, load_settings
from datagen.submission import plan_unit_size
from tests.generators.tiny_models import TINY, save_random_model
from tests.published import Home, open_home, publish
from tests.recipes import noise_recipe

# The standard deviation of even noise is 0.289: about half of the images are refused.
PICKY = {"filters": [{"filter": "blank", "min_contrast": 0.289}]}
LARGER = {
    "classes": [{"name": "cat", "count": 300}, {"name": "dog", "count": 200}],
    "output": {"shard_size": 256},
}


def resolved(changes: dict[str, Any] | None = None, *models: Path) -> ResolvedRecipe:
    return resolve(noise_recipe(changes), models)


def without_catalog(recipe: ResolvedRecipe) -> Forecast:
    return forecast(recipe, load_settings({}), workers=1, catalog=None)


def from_earlier(home: Home, recipe: ResolvedRecipe, *, workers: int = 1) -> Forecast:
    return forecast(recipe, home.settings, workers=workers, catalog=home.catalog)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with two versions: one of plain noise, one that refused about half."""
    folder = tmp_path_factory.mktemp("forecast") / "home"
    publish(load_settings({}, home=folder), LARGER)
    publish(load_settings({}, home=folder), {"name": "picky", **LARGER, **PICKY})
    with open_home(folder) as opened:
        yield opened


def test_counts_units_and_shards_are_those_of_the_plan() -> None:
    recipe = resolved()
    plan = Plan(recipe.recipe, unit_size=plan_unit_size(recipe))
    cost = without_catalog(recipe)
    assert cost.counts == {
        "cat": {"test": 3, "train": 48, "val": 9},
        "dog": {"test": 2, "train": 32, "val": 6},
    }
    assert (cost.num_images, cost.units, cost.shards) == (
        100,
        plan.num_generate_units,
        plan.num_shards,
    )
    assert (cost.attempts, cost.attempts_basis) == (100, "recipe")


def test_time_is_unknown_where_nobody_measured_the_model() -> None:
    cost = without_catalog(resolved())
    assert (cost.seconds, cost.seconds_per_image, cost.seconds_basis) == (None, None, "unknown")
    assert (cost.device_seconds, cost.cost.device) == (None, None)


def test_the_models_card_is_scaled_by_network_calls(settings: Settings) -> None:
    save_random_model(settings.models_dir / "tiny", TINY["edm"])
    recipe = resolved(
        {
            "generator": {"model": "tiny", "num_inference_steps": 9},
            "classes": [{"name": "disc", "count": 1024}],
        },
        settings.models_dir,
    )
    speed = Throughput(seconds_per_image=0.02, num_network_calls=18, device="a test")
    model = replace(recipe.model, facts=recipe.model.facts.model_copy(update={"throughput": speed}))
    cost = without_catalog(replace(recipe, model=model))
    assert recipe.spec.num_network_calls(recipe.options) == 9
    assert cost.seconds_per_image == pytest.approx(0.01)
    assert cost.device_seconds == pytest.approx(10.24)
    assert cost.seconds_basis == "model card"
    assert cost.seconds is not None
    assert 10.24 < cost.seconds < 14.0


def test_earlier_jobs_tell_time_bytes_and_rejections(earlier: Home) -> None:
    cost = from_earlier(earlier, resolved({"name": "next", "seed": 8, **LARGER, **PICKY}))
    assert cost.seconds_basis == cost.bytes_basis == cost.attempts_basis == "earlier runs"
    made = publish(earlier.settings, {"name": "next", "seed": 8, **LARGER, **PICKY})
    assert made.images_generated > 800
    assert cost.attempts == pytest.approx(made.images_generated, rel=0.1)
    assert cost.dataset_bytes == pytest.approx(earlier.version("next@1").size_bytes, rel=0.02)
    assert cost.cache_bytes == pytest.approx(made.images_generated * 8 * 12, rel=0.1)


def test_a_job_with_other_filters_says_nothing_of_rejections(earlier: Home) -> None:
    cost = from_earlier(earlier, resolved({"filters": [{"filter": "duplicate"}]}))
    assert (cost.attempts, cost.attempts_basis) == (100, "unknown")
    assert cost.seconds_basis == "earlier runs"


def test_more_workers_share_the_units(earlier: Home) -> None:
    recipe = resolved({"classes": [{"name": "cat", "count": 100_000}]})
    alone, shared = (from_earlier(earlier, recipe, workers=n).seconds for n in (1, 4))
    assert alone is not None
    assert shared is not None
    assert shared < alone / 2


def test_pictures_of_another_size_scale_the_bytes(earlier: Home) -> None:
    changes = {"name": "large", "image_size": [32, 48], **LARGER}
    cost = from_earlier(earlier, resolved(changes))
    publish(earlier.settings, changes)
    assert cost.dataset_bytes == pytest.approx(earlier.version("large@1").size_bytes, rel=0.15)


def test_a_pilot_counts_most_and_is_near_what_the_run_takes(earlier: Home) -> None:
    recipe = resolved({"seed": 9, **LARGER, **PICKY})
    pilot = run_pilot(recipe, earlier.settings)
    cost = forecast(recipe, earlier.settings, workers=1, catalog=earlier.catalog, pilot=pilot)
    assert cost.seconds_basis == cost.bytes_basis == cost.attempts_basis == "pilot"
    assert pilot.rejected.keys() == {"blank"}
    made = publish(earlier.settings, {"name": "piloted", "seed": 9, **LARGER, **PICKY})
    assert cost.attempts == pytest.approx(made.images_generated, rel=0.1)
    assert cost.dataset_bytes == pytest.approx(earlier.version("piloted@1").size_bytes, rel=0.02)


def test_a_pilot_that_rejects_all_is_still_finite_and_keeps_nothing(settings: Settings) -> None:
    picky = {"filters": [{"filter": "blank", "min_contrast": 0.5}, {"filter": "duplicate"}]}
    recipe = resolved(picky)
    pilot = run_pilot(recipe, settings)
    assert pilot.rejected == {"blank": 100}
    cost = forecast(recipe, settings, workers=1, catalog=None, pilot=pilot)
    assert 100 < cost.attempts < 8 * 100
    assert not settings.home.exists()


def test_device_seconds_and_bytes_have_their_price(earlier: Home) -> None:
    settings = replace(earlier.settings, price_per_device_hour=3600.0, price_per_gb_month=1e9)
    cost = forecast(resolved(), settings, workers=1, catalog=earlier.catalog)
    assert cost.cost.device == pytest.approx(cost.device_seconds)
    assert cost.cost.storage_per_month == pytest.approx(cost.dataset_bytes + cost.cache_bytes)
    assert cost.cost.currency == "USD"


def test_what_exists_already_is_told(earlier: Home) -> None:
    assert from_earlier(earlier, resolved(LARGER)).published == "small@1"
    assert from_earlier(earlier, resolved({"seed": 10, **LARGER})).published is None


def test_a_million_images_cost_no_more_memory_than_a_thousand() -> None:
    peaks = []
    for count in (1_000, 1_000_000):
        recipe = resolved({"classes": [{"name": "cat", "count": count}]})
        tracemalloc.start()
        without_catalog(recipe)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000


@pytest.mark.parametrize(
    ("chance", "attempts_per_image"), [(1.0, 1.0), (0.5, 2.0), (0.2, 5.0)], ids=str
)
def test_attempts_are_the_inverse_of_what_passes(chance: float, attempts_per_image: float) -> None:
    rounds = expected_rounds([10_000], [chance], Limits(), batch_size=64, unit_size=256)
    made = sum(each.num_attempts for each in rounds)
    # Several attempts at once are made ahead where few pass, and some of them for nothing.
    assert attempts_per_image - 0.01 <= made / 10_000 <= 1.3 * attempts_per_image
    assert rounds[0].num_units == 40


def test_attempts_end_with_the_budget_of_the_class() -> None:
    limits = Limits(max_attempts_per_class=3)
    rounds = expected_rounds([1_000], [0.001], limits, batch_size=64, unit_size=256)
    assert sum(each.num_attempts for each in rounds) <= 3 * 1_000


def test_a_refill_fills_up_its_last_batch() -> None:
    rounds = expected_rounds([100], [0.5], Limits(), batch_size=64, unit_size=256)
    assert [each.num_places % 64 for each in rounds] == [0] * len(rounds)
    assert rounds[-1].num_attempts < 64
    assert rounds[-1].num_places == 64


def test_without_filters_nothing_is_judged() -> None:
    (only,) = expected_rounds([100], None, Limits(), batch_size=64, unit_size=64)
    assert (only.num_attempts, only.num_units, only.num_judged) == (100, 2, 0.0)
