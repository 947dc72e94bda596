"""Who made what: the versions of a model, the versions that hold an image. Called by lineage.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import func, literal, select, tuple_

from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import ACTIVE_STATES, CANCELLED, FAILED, PUBLISHED, VersionRow
from datagen.catalog.tables import (
    contexts,
    dataset_versions,
    jobs,
    models,
    registered_models,
    rejections,
    samples,
    uses_any_model,
    uses_model,
)
from datagen.catalog.versions import select_versions


@dataclass(frozen=True)
class ModelTotals:
    """What was ever made: of previews and revoked versions too."""

    num_jobs: int
    num_versions: int
    num_samples: int
    size_bytes: int


class Holder(NamedTuple):
    """A version that holds an image. revoked: its bytes are gone or going."""

    name: str
    version: int
    split: str
    revoked: bool


def made_versions(
    catalog: Catalog, digests: Sequence[str], *, after: tuple[str, int] | None, limit: int
) -> list[VersionRow]:
    """Of models, by name and version, revoked ones as well. after: the last one before."""
    place = tuple_(dataset_versions.c.name, dataset_versions.c.version)
    query = (
        select_versions(catalog)
        .join(contexts, contexts.c.id == jobs.c.context_id)
        .where(uses_any_model(digests), jobs.c.kind == "dataset")
        .order_by(dataset_versions.c.name, dataset_versions.c.version)
        .limit(limit)
    )
    if after is not None:
        query = query.where(place > tuple_(literal(after[0]), literal(after[1])))
    with catalog.reading() as connection:
        return [VersionRow(**row._mapping) for row in connection.execute(query)]


def made_totals(catalog: Catalog, digests: Sequence[str]) -> ModelTotals:
    query = (
        select(
            func.count(),
            func.count(dataset_versions.c.job_id),
            func.coalesce(func.sum(dataset_versions.c.num_samples), 0),
            func.coalesce(func.sum(dataset_versions.c.size_bytes), 0),
        )
        .select_from(jobs)
        .join(contexts, contexts.c.id == jobs.c.context_id)
        .outerjoin(dataset_versions, dataset_versions.c.job_id == jobs.c.id)
        .where(uses_any_model(digests), catalog.owns(jobs.c.tenant))
    )
    with catalog.reading() as connection:
        return ModelTotals(*(int(number) for number in connection.execute(query).one()))


def model_facts(catalog: Catalog, digest: str) -> dict[str, Any]:
    """Licence, source, training, as config.json says: of the tenant's own registration if there is
    one, since facts are no part of the digest."""
    registered = select(registered_models.c.config).where(
        registered_models.c.digest == digest, catalog.owns(registered_models.c.tenant)
    )
    used = select(models.c.config).where(models.c.digest == digest)
    with catalog.reading() as connection:
        text = connection.execute(registered.limit(1)).scalar_one_or_none()
        if text is None:
            text = connection.execute(used).scalar_one_or_none()
        found: dict[str, Any] = json.loads(text or "{}")
        return found


def model_generator(catalog: Catalog, digest: str) -> str | None:
    """The family of a model that a job has used."""
    query = select(models.c.generator).where(models.c.digest == digest)
    with catalog.reading() as connection:
        return connection.execute(query).scalar_one_or_none()


def holders(catalog: Catalog, job_id: int, class_name: str, ordinal: int) -> list[Holder]:
    """Versions that hold the very image, its own included. Equal images have equal keys, and so
    are of one context, class and ordinal."""
    own = samples.alias("own")
    query = (
        select(
            dataset_versions.c.name,
            dataset_versions.c.version,
            samples.c.split,
            dataset_versions.c.revoked_at.is_not(None),
        )
        .select_from(own)
        .join(
            samples,
            (samples.c.class_name == own.c.class_name) & (samples.c.ordinal == own.c.ordinal),
        )
        .join(jobs, jobs.c.id == samples.c.job_id)
        .join(dataset_versions, dataset_versions.c.job_id == jobs.c.id)
        .where(
            own.c.job_id == job_id,
            own.c.class_name == class_name,
            own.c.ordinal == ordinal,
            samples.c.image_sha256 == own.c.image_sha256,
            # Bound, so that samples are looked up by their primary key.
            samples.c.job_id.in_(_jobs_beside(job_id)),
            catalog.owns(jobs.c.tenant),
            jobs.c.kind == "dataset",
        )
        .order_by(dataset_versions.c.name, dataset_versions.c.version)
    )
    with catalog.reading() as connection:
        return [Holder(n, v, s, bool(r)) for n, v, s, r in connection.execute(query)]


def rejected_before(
    catalog: Catalog, job_id: int, class_name: str, ordinal: int
) -> list[tuple[int, str]]:
    """(attempt, reason) of the attempts at a sample that were passed over, in order."""
    query = (
        select(rejections.c.attempt, rejections.c.reason)
        .where(
            rejections.c.job_id == job_id,
            rejections.c.class_name == class_name,
            rejections.c.ordinal == ordinal,
        )
        .order_by(rejections.c.attempt)
    )
    with catalog.reading() as connection:
        return [(int(attempt), str(reason)) for attempt, reason in connection.execute(query)]


def _jobs_beside(job_id: int) -> Any:
    """Of the same context."""
    own = select(jobs.c.context_id).where(jobs.c.id == job_id).scalar_subquery()
    return select(jobs.c.id).where(jobs.c.context_id == own)


class Dependents(NamedTuple):
    """In words. kept: versions that are not revoked, as NAME@VERSION, and failed jobs, which may be
    retried. running: jobs."""

    kept: list[str]
    running: list[str]


def dependents(catalog: Catalog, digest: str) -> Dependents:
    """What was made with a model, or is being made."""
    query = (
        select(jobs.c.uid, jobs.c.state, jobs.c.name, jobs.c.version)
        .join(contexts, contexts.c.id == jobs.c.context_id)
        .outerjoin(dataset_versions, dataset_versions.c.job_id == jobs.c.id)
        .where(
            uses_model(digest),
            catalog.owns(jobs.c.tenant),
            jobs.c.kind == "dataset",
            jobs.c.state != CANCELLED,
            dataset_versions.c.revoked_at.is_(None),
        )
        .order_by(jobs.c.name, jobs.c.version)
    )
    with catalog.reading() as connection:
        rows = connection.execute(query).all()
    kept = [f"{row.name}@{row.version}" for row in rows if row.state == PUBLISHED]
    kept += [f"job {row.uid}" for row in rows if row.state == FAILED]
    return Dependents(kept, [f"job {row.uid}" for row in rows if row.state in ACTIVE_STATES])
