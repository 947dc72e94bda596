"""From a resolved recipe to a job with its first units: what the API, schedules and embedded runs
share."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import NewJob, PinnedModel, create_job, get_job, reopen_job, restart_job
from datagen.catalog.rows import FAILED, GENERATE, PUBLISHED, Job, NewUnit
from datagen.catalog.workers import live_workers
from datagen.fingerprint import cpu_queue, generation_print, job_fingerprint, queue_of
from datagen.generators.model_directory import Model
from datagen.recipe import canonical_json, recipe_digest_of
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings
from datagen.versions import find_version

DATASET, PREVIEW = "dataset", "preview"
INTERACTIVE, BATCH = "interactive", "batch"
PRIORITIES = (INTERACTIVE, BATCH)
PREVIEW_IMAGES = 8  # of each class

_UNIT_BYTES = 32 * 2**20
# A recipe is cut into at least so many units, so that a few workers have something to share.
_MIN_UNITS = 8


@dataclass(frozen=True)
class Request:
    """How a recipe is to be run. created_by: the id of a key. expires_in_s: of a preview.

    idempotency_key: one that the tenant holds in the catalog; it is answered with the job.
    """

    priority: str = BATCH
    kind: str = DATASET
    created_by: str | None = None
    idempotency_key: str | None = None
    expires_in_s: float | None = None


def submit(catalog: Catalog, resolved: ResolvedRecipe, settings: Settings, request: Request) -> Job:
    """The recipe's job: a running or published one as it is, a failed one tried again, else a new
    one. Whoever calls this wakes its queues; if nobody does, the sweeper will. Raises RevokedError
    if its version was revoked: running it again would bring the same images back."""
    new = new_job(resolved, settings, request, _fleet_generation(catalog, resolved, settings))
    first_units = _first_units(resolved, new.unit_size)
    job = create_job(catalog, new, first_units, idempotency_key=request.idempotency_key)
    if job.state == FAILED:
        _go_on(catalog, job, new, first_units)
    if job.state == PUBLISHED and job.kind == DATASET:
        find_version(catalog, f"{job.name}@{job.version}")
    return _again(catalog, job)


def open_or_create_job(catalog: Catalog, resolved: ResolvedRecipe, settings: Settings) -> Job:
    """As submit, for a run in this process: a job pinned to another fingerprint starts afresh,
    since no other worker would ever come for it."""
    new = new_job(resolved, settings, Request())
    first_units = _first_units(resolved, new.unit_size)
    job = create_job(catalog, new, first_units)
    _go_on(catalog, job, new, first_units)
    return _again(catalog, job)


def restart(catalog: Catalog, job: Job, resolved: ResolvedRecipe, settings: Settings) -> Job:
    """An unfinished job under the fingerprint of now. Raises ConflictError if it has ended."""
    request = Request(priority=job.priority, kind=job.kind, created_by=job.created_by)
    new = new_job(resolved, settings, request, _fleet_generation(catalog, resolved, settings))
    restart_job(catalog, job.id, new, _first_units(resolved, new.unit_size))
    return _again(catalog, job)


def _go_on(catalog: Catalog, job: Job, new: NewJob, first_units: list[NewUnit]) -> None:
    """Attempts made by another machine or library cannot be mixed with ours."""
    if job.fingerprint != new.fingerprint:
        restart_job(catalog, job.id, new, first_units)
    else:
        reopen_job(catalog, job.id)


def _again(catalog: Catalog, job: Job) -> Job:
    found = get_job(catalog, job.id)
    assert found is not None
    return found


def _first_units(resolved: ResolvedRecipe, unit_size: int) -> list[NewUnit]:
    num_units = math.ceil(resolved.recipe.num_images / unit_size)
    return [NewUnit(GENERATE, 0, position, None) for position in range(num_units)]


def _own_generation(resolved: ResolvedRecipe, settings: Settings) -> dict[str, Any]:
    return generation_print(
        resolved.spec, device=settings.device, threads=settings.threads_per_worker
    )


def _fleet_generation(
    catalog: Catalog, resolved: ResolvedRecipe, settings: Settings
) -> dict[str, Any]:
    """What the workers bring that will make the raw images: like ours if one of them is like us,
    else what most of the living have. An API's machine needs no GPU."""
    own = _own_generation(resolved, settings)
    found = Counter[bytes]()
    for worker in live_workers(catalog):
        brought = json.loads(worker.fingerprint).get(resolved.spec.name)
        if brought is not None:
            found[canonical_json(brought)] += 1
    if not found or canonical_json(own) in found:
        return own
    generation: dict[str, Any] = json.loads(max(found, key=lambda each: (found[each], each)))
    return generation


def new_job(
    resolved: ResolvedRecipe,
    settings: Settings,
    request: Request,
    generation: dict[str, Any] | None = None,
) -> NewJob:
    """generation: what the workers bring that the job is pinned to; ours, if left out."""
    batch_size = resolved.batch_size
    generation = generation or _own_generation(resolved, settings)
    prints = job_fingerprint(resolved, generation, batch_size=batch_size)
    context = resolved.context(prints["generation"])
    name = resolved.recipe.name
    return NewJob(
        name=name if request.kind == DATASET else f"preview.{name}",
        recipe_digest=resolved.digest,
        recipe_body=resolved.body.decode(),
        model=_pinned(resolved.model),
        context_digest=recipe_digest_of(context),
        context_body=context.decode(),
        fingerprint=canonical_json(prints).decode(),
        unit_size=plan_unit_size(resolved),
        batch_size=batch_size,
        num_images=resolved.recipe.num_images,
        generate_queue=queue_of(resolved.spec.name, generation),
        cpu_queue=cpu_queue(),
        kind=request.kind,
        priority=request.priority,
        created_by=request.created_by,
        expires_in_s=request.expires_in_s,
        conditioner=_pinned(resolved.conditioner_model) if resolved.conditioner_model else None,
    )


def _pinned(model: Model) -> PinnedModel:
    config = canonical_json(model.facts.model_dump(mode="json")).decode()
    return PinnedModel(model.digest, model.name, model.config.generator, config)


def plan_unit_size(resolved: ResolvedRecipe) -> int:
    """Whole batches; seconds to a few minutes of work; bounded in bytes. Changes no image."""
    batch = resolved.batch_size
    height, width = resolved.config.image_size
    image_bytes = height * width * resolved.config.channels * resolved.config.bits // 8
    share = math.ceil(resolved.recipe.num_images / _MIN_UNITS / batch) * batch
    fitting = max(1, _UNIT_BYTES // image_bytes)
    return max(1, min(share, resolved.spec.max_unit_size, fitting))
