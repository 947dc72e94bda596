"""The pilot: a small job of the recipe, in a home of its own that is thrown away.

Called by `datagen plan --pilot`. Twice, since the first run also imports, loads and warms up: what
it takes longer is what a cold start costs.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from datagen.catalog.catalog import Catalog
from datagen.catalog.costs import published_jobs
from datagen.embedded import RunResult, run_recipe
from datagen.errors import JobError
from datagen.forecast.costs import JobCosts, Tried, job_shape, measure_job
from datagen.recipe import Limits
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings, load_settings

# The second run: as many images as the model makes in this time, and no more than these.
_PILOT_S = 6.0
_MAX_IMAGES = 2_048
# One attempt for each sample: what passes of it is all that is asked.
_ONE_ATTEMPT = Limits(max_attempts_per_sample=1, on_shortfall="publish")


@dataclass(frozen=True)
class Pilot:
    """Images that were made, judged, packed and thrown away. rejected: reason -> images."""

    num_images: int
    rejected: dict[str, int]
    costs: JobCosts


def run_pilot(resolved: ResolvedRecipe, settings: Settings) -> Pilot:
    """Raises JobError or RetryableError where the recipe's own job would."""
    first = _small(resolved, 2 * resolved.batch_size)  # the second unit is a warm one
    cold, cold_s = _run(first, settings)
    per_image = max(1e-6, cold.costs.seconds_per_image)
    num_images = min(_MAX_IMAGES, max(2 * resolved.batch_size, round(_PILOT_S / per_image)))
    warm, _ = _run(_small(resolved, num_images), settings)
    warm_s = warm.costs.seconds(job_shape(first, warm.costs), workers=1)
    costs = replace(warm.costs, startup_s=max(0.0, cold_s - warm_s))
    return replace(warm, costs=costs)


def _small(resolved: ResolvedRecipe, num_images: int) -> ResolvedRecipe:
    """The recipe's first images: about num_images, spread over its classes as the recipe's are."""
    recipe = resolved.recipe
    share = min(1.0, num_images / recipe.num_images)
    step = max(1, len(recipe.classes) // num_images)
    classes = tuple(
        each.model_copy(update={"count": max(1, round(each.count * share))})
        for each in recipe.classes[::step]
    )
    changes = {"classes": classes, "limits": _ONE_ATTEMPT}
    return replace(resolved, recipe=recipe.model_copy(update=changes))


def _run(resolved: ResolvedRecipe, settings: Settings) -> tuple[Pilot, float]:
    """Returns the pilot, and the seconds of its job."""
    with tempfile.TemporaryDirectory(prefix="datagen-pilot-") as folder:
        own = _own_home(Path(folder), settings)
        catalog = Catalog(own.database_url)
        try:
            result = run_recipe(resolved, own)
            job = published_jobs(catalog, resolved.model.digest, limit=1)
            costs = measure_job(catalog, job[0]) if job else None
        finally:
            catalog.close()
    if costs is None:
        return _nothing_passed(resolved, settings, result)
    return Pilot(result.images_generated, _by_reason(result), costs), job[0].seconds


def _nothing_passed(
    resolved: ResolvedRecipe, settings: Settings, result: RunResult
) -> tuple[Pilot, float]:
    """Nothing was packed: once more without filters, to know what that costs."""
    if not resolved.filters:
        raise JobError("the pilot made no image; run the recipe to see why")
    unfiltered = resolved.recipe.model_copy(update={"filters": ()})
    pilot, seconds = _run(replace(resolved, recipe=unfiltered, filters={}), settings)
    tried = {each.name: Tried(0, each.count) for each in resolved.recipe.classes}
    costs = replace(pilot.costs, tried=tried)
    return replace(pilot, rejected=_by_reason(result), costs=costs), seconds


def _own_home(folder: Path, settings: Settings) -> Settings:
    """A home of its own with the models of the user's."""
    if settings.models_dir.is_dir():
        (folder / "models").symlink_to(settings.models_dir)
    own = load_settings({}, home=folder)
    return replace(own, device=settings.device, threads_per_worker=settings.threads_per_worker)


def _by_reason(result: RunResult) -> dict[str, int]:
    total: dict[str, int] = {}
    for reasons in result.rejections.values():
        for reason, count in reasons.items():
            total[reason] = total.get(reason, 0) + count
    return total
