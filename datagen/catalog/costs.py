"""What earlier jobs cost, as their rows tell: read by the forecast."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import func, select

from datagen.catalog.catalog import Catalog
from datagen.catalog.tables import contexts, dataset_versions, jobs, objects, recipes, units


class PublishedJob(NamedTuple):
    """seconds: from the job's creation to its publication. shortfall: JSON: class name -> ordinals
    that stayed empty; None if none did."""

    id: int
    recipe_body: str
    unit_size: int
    batch_size: int
    num_samples: int
    seconds: float
    shortfall: str | None


class UnitCost(NamedTuple):
    """num_generated: images that the model made, of a generate unit."""

    kind: str
    seconds: float
    num_generated: int
    owner: str


class StoredBytes(NamedTuple):
    num_objects: int
    num_samples: int
    size_bytes: int


def published_jobs(catalog: Catalog, model_digest: str, *, limit: int) -> list[PublishedJob]:
    """Newest first: those that the model made and whose bytes are still there."""
    query = (
        select(
            jobs.c.id,
            recipes.c.body,
            jobs.c.unit_size,
            jobs.c.batch_size,
            dataset_versions.c.num_samples,
            dataset_versions.c.seconds,
            jobs.c.shortfall,
        )
        .join(dataset_versions, dataset_versions.c.job_id == jobs.c.id)
        .join(recipes, recipes.c.digest == jobs.c.recipe_digest)
        .join(contexts, contexts.c.id == jobs.c.context_id)
        .where(
            catalog.owns(jobs.c.tenant),
            jobs.c.kind == "dataset",
            contexts.c.model_digest == model_digest,
            dataset_versions.c.revoked_at.is_(None),
            dataset_versions.c.num_samples > 0,
        )
        .order_by(jobs.c.id.desc())
        .limit(limit)
    )
    with catalog.reading() as connection:
        return [PublishedJob(*row) for row in connection.execute(query)]


def unit_costs(catalog: Catalog, job_id: int, *, limit: int) -> list[UnitCost]:
    """The units of a finished job in the order in which they were opened."""
    query = (
        select(units.c.kind, units.c.seconds, units.c.num_generated, units.c.owner)
        .where(units.c.job_id == job_id, units.c.seconds.is_not(None))
        .order_by(units.c.id)
        .limit(limit)
    )
    with catalog.reading() as connection:
        rows = connection.execute(query)
        return [UnitCost(row[0], row[1], row[2] or 0, row[3] or "") for row in rows]


def stored_bytes(catalog: Catalog, job_id: int) -> dict[str, StoredBytes]:
    """kind of object -> what the job stored of it."""
    query = (
        select(
            objects.c.kind,
            func.count(),
            func.sum(objects.c.num_samples),
            func.sum(objects.c.size_bytes),
        )
        .where(objects.c.job_id == job_id)
        .group_by(objects.c.kind)
    )
    with catalog.reading() as connection:
        return {
            kind: StoredBytes(int(num), int(samples), int(size))
            for kind, num, samples, size in connection.execute(query)
        }
