"""The forecast of one recipe: from the pilot, from earlier jobs, or from what is assumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from datagen.catalog.catalog import Catalog
from datagen.catalog.costs import PublishedJob, published_jobs
from datagen.catalog.jobs import measured_throughput
from datagen.embedded import published_job
from datagen.forecast.costs import JobCosts, assumed_costs, job_shape, measure_job
from datagen.forecast.pilot import Pilot
from datagen.plan import Plan
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings
from datagen.submission import plan_unit_size

# recipe: it says so itself, as how many attempts are made where nothing is rejected.
Basis = Literal["pilot", "earlier runs", "model card", "recipe", "unknown"]

_JOBS_LOOKED_AT = 20
# Of the jobs most like the recipe, the one that waited least says what a start costs.
_JOBS_COMPARED = 3
# Fewer batches measure the loading of the model more than its speed.
_LARGE_BATCHES = 4
# PNG bytes to raw bytes, where nothing was measured: Fashion-MNIST gives 0.65, noise 1.
_PNG_RATIO = {True: 0.7, False: 1.0}
# Importing torch and loading a model, or numpy alone.
_STARTUP_S = {True: 2.0, False: 0.1}
_SECONDS_PER_HOUR = 3600
_BYTES_PER_GB = 10**9


@dataclass(frozen=True)
class Cost:
    """device: what the seconds of generating cost; None if they are not known. storage_per_month:
    what the version and the raw images kept beside it cost."""

    device: float | None
    storage_per_month: float
    currency: str


@dataclass(frozen=True)
class Forecast:
    """counts: class name -> split -> images. dataset_bytes: of the published version.

    attempts: images that the model makes, those that the filters will reject included.
    cache_bytes: of the raw attempts kept beside it. seconds: None if nobody measured the model.
    device_seconds: of generating, on all workers together. published: the version that exists
    already, as NAME@V.
    """

    counts: dict[str, dict[str, int]]
    num_images: int
    units: int
    shards: int
    attempts: int
    attempts_basis: Basis
    dataset_bytes: int
    cache_bytes: int
    bytes_basis: Basis
    seconds: float | None
    seconds_per_image: float | None
    seconds_basis: Basis
    device_seconds: float | None
    cost: Cost
    workers: int
    published: str | None
    pilot: Pilot | None


def forecast(
    resolved: ResolvedRecipe,
    settings: Settings,
    *,
    workers: int,
    catalog: Catalog | None,
    pilot: Pilot | None = None,
) -> Forecast:
    """catalog: None if there is none yet. settings: for the prices."""
    plan = Plan(resolved.recipe, unit_size=plan_unit_size(resolved))
    measured = _choose_costs(resolved, catalog, pilot)
    shape = job_shape(resolved, measured.costs)
    attempts = sum(each.num_attempts for each in shape.rounds)
    dataset_bytes = round(measured.costs.dataset_bytes(shape))
    cache_bytes = round(attempts * _raw_bytes(resolved))
    is_timed = measured.seconds_basis != "unknown"
    device_seconds = measured.costs.device_seconds(shape) if is_timed else None
    job = published_job(catalog, resolved) if catalog else None
    return Forecast(
        counts={name: plan.counts_by_split(i) for i, name in enumerate(plan.class_names)},
        num_images=plan.num_samples,
        units=plan.num_generate_units,
        shards=plan.num_shards,
        attempts=round(attempts),
        attempts_basis=measured.attempts_basis,
        dataset_bytes=dataset_bytes,
        cache_bytes=cache_bytes,
        bytes_basis=measured.bytes_basis,
        seconds=measured.costs.seconds(shape, workers=workers) if is_timed else None,
        seconds_per_image=measured.costs.seconds_per_image if is_timed else None,
        seconds_basis=measured.seconds_basis,
        device_seconds=device_seconds,
        cost=_cost(settings, device_seconds, dataset_bytes + cache_bytes),
        workers=workers,
        published=f"{job.name}@{job.version}" if job else None,
        pilot=pilot,
    )


@dataclass(frozen=True)
class _Measured:
    costs: JobCosts
    attempts_basis: Basis
    bytes_basis: Basis
    seconds_basis: Basis


def _choose_costs(
    resolved: ResolvedRecipe, catalog: Catalog | None, pilot: Pilot | None
) -> _Measured:
    if pilot is not None:
        return _Measured(pilot.costs, _attempts_basis(resolved, "pilot"), "pilot", "pilot")
    earlier = _earlier_costs(resolved, catalog) if catalog else None
    if earlier is not None:
        told: Basis = "earlier runs" if earlier.tried else "unknown"
        return _Measured(earlier, _attempts_basis(resolved, told), "earlier runs", "earlier runs")
    seconds, seconds_basis = _seconds_per_image(resolved, catalog)
    costs = assumed_costs(
        seconds or 0.0,
        _raw_bytes(resolved),
        png_ratio=_PNG_RATIO[resolved.spec.needs_weights],
        startup_s=_STARTUP_S[resolved.spec.needs_weights],
    )
    return _Measured(costs, _attempts_basis(resolved, "unknown"), "unknown", seconds_basis)


def _attempts_basis(resolved: ResolvedRecipe, told: Basis) -> Basis:
    return told if resolved.filters else "recipe"


def _earlier_costs(resolved: ResolvedRecipe, catalog: Catalog) -> JobCosts | None:
    """Of the newest of the jobs that are most like the recipe's."""
    found = published_jobs(catalog, resolved.model.digest, limit=_JOBS_LOOKED_AT)
    likeness = {job: _likeness(job, resolved) for job in found}
    best = max(likeness.values(), default=None)
    alike = [job for job in found if likeness[job] == best]
    for newest in alike:
        costs = measure_job(catalog, newest)
        if costs is not None:
            others = [measure_job(catalog, job) for job in alike[:_JOBS_COMPARED]]
            return _fitted(costs, newest, resolved, [each for each in others if each is not None])
    return None


def _fitted(
    costs: JobCosts, job: PublishedJob, resolved: ResolvedRecipe, others: Sequence[JobCosts]
) -> JobCosts:
    """Costs of an earlier job as those of this recipe."""
    of_size = costs.for_images_of(_raw_bytes(resolved))
    options = resolved.spec.options.model_validate(
        json.loads(job.recipe_body)["generator"]["options"]
    )
    calls = resolved.spec.num_network_calls(resolved.options)
    return replace(
        of_size,
        seconds_per_image=of_size.seconds_per_image
        * max(1, calls)
        / max(1, resolved.spec.num_network_calls(options)),
        startup_s=min((each.startup_s for each in others), default=costs.startup_s),
        tried=costs.tried if _likeness(job, resolved).has_same_judge else {},
    )


class _Likeness(NamedTuple):
    """What matters most first."""

    has_same_judge: bool
    has_same_size: bool
    has_same_augmentations: bool
    is_large: bool


def _likeness(job: PublishedJob, resolved: ResolvedRecipe) -> _Likeness:
    theirs, ours = json.loads(job.recipe_body), json.loads(resolved.body)
    return _Likeness(
        has_same_judge=(theirs["generator"]["options"], theirs["filters"])
        == (ours["generator"]["options"], ours["filters"]),
        has_same_size=theirs["image_size"] == ours["image_size"],
        has_same_augmentations=theirs["augmentations"] == ours["augmentations"],
        is_large=job.num_samples >= _LARGE_BATCHES * job.batch_size,
    )


def _seconds_per_image(
    resolved: ResolvedRecipe, catalog: Catalog | None
) -> tuple[float | None, Basis]:
    """On one worker."""
    measured = measured_throughput(catalog, resolved.model.digest) if catalog else None
    if measured is not None:
        return measured, "earlier runs"
    facts = resolved.model.facts.throughput
    if facts is None:
        return None, "unknown"
    num_calls = resolved.spec.num_network_calls(resolved.options)
    return facts.seconds_per_image * num_calls / max(1, facts.num_network_calls), "model card"


def _cost(settings: Settings, device_seconds: float | None, stored_bytes: int) -> Cost:
    device = None
    if device_seconds is not None:
        device = device_seconds / _SECONDS_PER_HOUR * settings.price_per_device_hour
    return Cost(
        device=device,
        storage_per_month=stored_bytes / _BYTES_PER_GB * settings.price_per_gb_month,
        currency=settings.currency,
    )


def _raw_bytes(resolved: ResolvedRecipe) -> int:
    height, width = resolved.config.image_size
    return height * width * resolved.config.channels * resolved.config.bits // 8
