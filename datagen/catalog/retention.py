"""What is past its time: attempts of the cache, expired previews, leftovers of jobs that ended.

Called by datagen/retention.py, which deletes the objects. An attempt's rows are forgotten after its
object is gone, and only if no job can have begun to count on them since: a job that finds rows
without an object makes the images again, one whose rows vanish cannot.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, and_, delete, or_, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.events import JOB_CANCELLED, record_event
from datagen.catalog.rows import (
    ACTIVE_STATES,
    CANCELLED,
    FAILED,
    GENERATE,
    PUBLISHED,
    RUNNING,
    NewUnit,
)
from datagen.catalog.tables import (
    attachments,
    attempts,
    contexts,
    dataset_versions,
    jobs,
    objects,
    rejections,
    samples,
    tenants,
    units,
)
from datagen.catalog.units import insert_units

_DAY_S = 86_400.0


class TenantPolicy(NamedTuple):
    """cutoff: attempts made before it are past their time."""

    tenant: str
    cutoff: float


class CachedObject(NamedTuple):
    """An object of the attempt cache."""

    id: int
    key: str


@dataclass(frozen=True)
class EndedJob:
    """A job whose objects under datasets/ are to go."""

    id: int
    tenant: str
    name: str
    version: int
    state: str


def retention_policies(catalog: Catalog) -> list[TenantPolicy]:
    """Of the tenants that have one."""
    with catalog.reading() as connection:
        now = now_s(connection)
        rows = connection.execute(
            select(tenants.c.name, tenants.c.attempt_retention_days).where(
                tenants.c.attempt_retention_days.is_not(None), catalog.owns(tenants.c.name)
            )
        )
        return [TenantPolicy(name, now - days * _DAY_S) for name, days in rows]


def aged_objects(
    catalog: Catalog, policy: TenantPolicy, *, after_id: int, limit: int
) -> list[CachedObject]:
    """Objects of the attempt cache that are past their time, by id; those in use as well."""
    query = (
        select(objects.c.id, objects.c.key)
        .join(jobs, jobs.c.id == objects.c.job_id)
        .where(
            jobs.c.tenant == policy.tenant,
            objects.c.kind == "attempts",
            objects.c.created_at < policy.cutoff,
            objects.c.id > after_id,
        )
        .order_by(objects.c.id)
        .limit(limit)
    )
    with catalog.reading() as connection:
        return [CachedObject(*row) for row in connection.execute(query)]


def unused_objects(
    catalog: Catalog, found: Sequence[CachedObject], *, failed_before: float
) -> list[CachedObject]:
    """Those that no job counts on. failed_before: a job that failed before counts on nothing."""
    with catalog.reading() as connection:
        used = _used_objects(connection, [each.id for each in found], failed_before=failed_before)
    return [each for each in found if each.id not in used]


def forget_objects(
    catalog: Catalog, deleted: Sequence[CachedObject], *, failed_before: float
) -> int:
    """The rows of objects that were deleted, but for those that a job counts on by now. Failed
    jobs that counted on them begin again when they are retried. Returns the objects forgotten."""
    ids = [each.id for each in deleted]
    with catalog.transaction() as connection:
        of_objects = select(attempts.c.context_id).where(attempts.c.object_id.in_(ids)).distinct()
        context_ids = list(connection.execute(of_objects).scalars())
        # A new job of one of these contexts waits for the end of this transaction.
        connection.execute(
            select(contexts.c.id).where(contexts.c.id.in_(context_ids)).with_for_update()
        ).all()
        # So does who retries a failed one: it would go on with what is forgotten here.
        failed = select(jobs.c.id).where(jobs.c.context_id.in_(context_ids), jobs.c.state == FAILED)
        connection.execute(failed.with_for_update()).all()
        free = sorted(set(ids) - _used_objects(connection, ids, failed_before=failed_before))
        connection.execute(delete(attempts).where(attempts.c.object_id.in_(free)))
        connection.execute(delete(objects).where(objects.c.id.in_(free)))
        if free:
            _begin_failed_again(connection, context_ids)
        return len(free)


def expire_previews(catalog: Catalog, *, limit: int) -> int:
    """Previews past their time are cancelled, whatever became of them; collecting does the rest.
    Returns how many."""
    with catalog.transaction() as connection:
        now = now_s(connection)
        due = select(jobs.c.id).where(
            catalog.owns(jobs.c.tenant),
            jobs.c.kind == "preview",
            jobs.c.state.in_((RUNNING, FAILED, PUBLISHED)),
            jobs.c.expires_at < now,
        )
        found = list(connection.execute(due.limit(limit)).scalars())
        for job_id in found:
            _cancel_preview(connection, job_id, now=now)
        return len(found)


def cancel_preview(catalog: Catalog, job_id: int) -> None:
    """One preview that nobody wants any more."""
    with catalog.transaction() as connection:
        _cancel_preview(connection, job_id, now=now_s(connection))


def ended_jobs(catalog: Catalog, *, kind: str, grace_s: float, limit: int) -> list[EndedJob]:
    """Cancelled and failed jobs whose leftovers were not collected yet, the oldest first."""
    with catalog.reading() as connection:
        query = (
            select(jobs.c.id, jobs.c.tenant, jobs.c.name, jobs.c.version, jobs.c.state)
            .where(
                catalog.owns(jobs.c.tenant),
                jobs.c.kind == kind,
                jobs.c.state.in_((CANCELLED, FAILED)),
                jobs.c.collected_at.is_(None),
                jobs.c.finished_at < now_s(connection) - grace_s,
            )
            .order_by(jobs.c.id)
            .limit(limit)
        )
        return [EndedJob(*row) for row in connection.execute(query)]


def kept_keys(catalog: Catalog, job_id: int) -> set[str]:
    """What a failed job goes on with when it is retried, and what tells why it failed."""
    with catalog.reading() as connection:
        made = select(objects.c.key).where(objects.c.job_id == job_id)
        attached = select(attachments.c.key).where(attachments.c.job_id == job_id)
        return {*connection.execute(made).scalars(), *connection.execute(attached).scalars()}


def mark_collected(catalog: Catalog, job: EndedJob) -> None:
    """Its objects are gone: a cancelled job's rows of them go as well."""
    with catalog.transaction() as connection:
        marked = connection.execute(
            update(jobs)
            .where(jobs.c.id == job.id, jobs.c.state == job.state)
            .values(collected_at=now_s(connection))
        )
        if marked.rowcount == 1 and job.state == CANCELLED:
            connection.execute(delete(attachments).where(attachments.c.job_id == job.id))
            _forget_results(connection, job.id)


@contextmanager
def holding(catalog: Catalog, job: EndedJob) -> Iterator[bool]:
    """Gives whether the job is still as it was found; nobody retries it meanwhile. Short."""
    query = select(jobs.c.state).where(jobs.c.id == job.id).with_for_update()
    with catalog.transaction() as connection:
        yield str(connection.execute(query).scalar_one()) == job.state


def _used_objects(connection: Connection, ids: Sequence[int], *, failed_before: float) -> set[int]:
    counts = or_(
        jobs.c.state.in_(ACTIVE_STATES),
        and_(jobs.c.state == FAILED, jobs.c.finished_at >= failed_before),
    )
    query = (
        select(attempts.c.object_id)
        .distinct()
        .join(jobs, jobs.c.context_id == attempts.c.context_id)
        .where(attempts.c.object_id.in_(ids), counts)
    )
    return set(connection.execute(query).scalars())


def _begin_failed_again(connection: Connection, context_ids: Sequence[int]) -> None:
    query = select(jobs.c.id, jobs.c.num_images, jobs.c.unit_size).where(
        jobs.c.context_id.in_(context_ids), jobs.c.state == FAILED
    )
    for job_id, num_images, unit_size in connection.execute(query).all():
        _forget_results(connection, job_id)
        connection.execute(delete(units).where(units.c.job_id == job_id))
        positions = range(math.ceil(num_images / unit_size))
        insert_units(connection, job_id, [NewUnit(GENERATE, 0, p, None) for p in positions])
        connection.execute(
            update(jobs).where(jobs.c.id == job_id).values(shortfall=None, collected_at=None)
        )


def _cancel_preview(connection: Connection, job_id: int, *, now: float) -> None:
    cancelled = connection.execute(
        update(jobs)
        .where(
            jobs.c.id == job_id,
            jobs.c.kind == "preview",
            jobs.c.state.in_((RUNNING, FAILED, PUBLISHED)),
        )
        .values(state=CANCELLED, finished_at=now, error="the preview has expired")
    )
    if cancelled.rowcount == 1:
        record_event(connection, job_id, JOB_CANCELLED, {"reason": "expired"})


def _forget_results(connection: Connection, job_id: int) -> None:
    """The attempts stay: other jobs may use them."""
    for table in (samples, rejections):
        connection.execute(delete(table).where(table.c.job_id == job_id))
    connection.execute(
        delete(objects).where(objects.c.job_id == job_id, objects.c.kind != "attempts")
    )
    connection.execute(delete(dataset_versions).where(dataset_versions.c.job_id == job_id))
