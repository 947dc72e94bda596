"""Quotas of a tenant, and what it uses of them.

check_quota stands in the transaction that creates a job, so that two submissions at once cannot
both take the last place. Called by the jobs of this package, the API and `datagen tenants`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.rows import ACTIVE_STATES, GENERATE
from datagen.catalog.tables import (
    attachments,
    dataset_versions,
    jobs,
    objects,
    registered_models,
    tenants,
    units,
)
from datagen.errors import QuotaError

_DAY_S = 86_400.0
# Of the images of a day: some of them are a day old within the hour, as a rule.
_DAILY_RETRY_S = 3600.0


@dataclass(frozen=True)
class Quota:
    """None is unlimited."""

    max_running_jobs: int | None = None
    max_images_per_day: int | None = None
    max_bytes: int | None = None
    attempt_retention_days: float | None = None


@dataclass(frozen=True)
class TenantUse:
    """images_last_day: asked for in the last 24 hours. bytes: of versions, of the attempt cache
    and of registered models."""

    running_jobs: int
    images_last_day: int
    bytes: int


def get_quota(catalog: Catalog, tenant: str) -> Quota:
    with catalog.reading() as connection:
        return _quota(connection, tenant, lock=False)


def set_quota(catalog: Catalog, tenant: str, quota: Quota) -> None:
    """Replaces all of it."""
    values = {
        "max_running_jobs": quota.max_running_jobs,
        "max_images_per_day": quota.max_images_per_day,
        "max_bytes": quota.max_bytes,
        "attempt_retention_days": quota.attempt_retention_days,
    }
    with catalog.transaction() as connection:
        changed = connection.execute(update(tenants).where(tenants.c.name == tenant).values(values))
        if changed.rowcount == 0:
            now = now_s(connection)
            connection.execute(insert(tenants).values(name=tenant, created_at=now, **values))


def tenant_use(catalog: Catalog, tenant: str) -> TenantUse:
    with catalog.reading() as connection:
        return TenantUse(
            running_jobs=_running_jobs(connection, tenant),
            images_last_day=_images_last_day(connection, tenant),
            bytes=_bytes(connection, tenant),
        )


def device_seconds(catalog: Catalog, tenant: str, *, since_s: float) -> float:
    """Of generation, in the tenant's jobs that were created in the last since_s seconds."""
    with catalog.reading() as connection:
        since = now_s(connection) - since_s
        query = (
            select(func.coalesce(func.sum(units.c.seconds), 0.0))
            .join(jobs, jobs.c.id == units.c.job_id)
            .where(jobs.c.tenant == tenant, jobs.c.created_at >= since, units.c.kind == GENERATE)
        )
        return float(connection.execute(query).scalar_one())


def check_quota(connection: Connection, tenant: str, *, num_images: int) -> None:
    """Raises QuotaError if one more job of so many images would pass a quota."""
    quota = _quota(connection, tenant, lock=True)
    _check_running(connection, tenant, quota)
    if quota.max_images_per_day is not None:
        asked = _images_last_day(connection, tenant)
        if asked + num_images > quota.max_images_per_day:
            raise QuotaError(
                f"tenant {tenant} asked for {asked} images in the last 24 hours, and its quota is "
                f"{quota.max_images_per_day}: {num_images} more do not fit; ask for fewer or later",
                retry_after_s=_DAILY_RETRY_S,
            )
    if quota.max_bytes is not None:
        held = _bytes(connection, tenant)
        if held >= quota.max_bytes:
            raise QuotaError(
                f"tenant {tenant} holds {held} bytes, of {quota.max_bytes}; revoke versions that "
                "nobody needs"
            )


def check_upload(catalog: Catalog, *, num_bytes: int) -> None:
    """Raises QuotaError if so many bytes more would pass the quota of the catalog's tenant."""
    assert catalog.tenant is not None, "bytes are one tenant's"
    with catalog.reading() as connection:
        quota = _quota(connection, catalog.tenant, lock=False)
        if quota.max_bytes is None:
            return
        held = _bytes(connection, catalog.tenant)
    if held + num_bytes > quota.max_bytes:
        raise QuotaError(
            f"tenant {catalog.tenant} holds {held} bytes, of {quota.max_bytes}: {num_bytes} more "
            "do not fit; revoke versions and models that nobody needs"
        )


def check_running(connection: Connection, tenant: str) -> None:
    """Raises QuotaError if one more running job, such as one that had failed, is too many."""
    _check_running(connection, tenant, _quota(connection, tenant, lock=True))


def _check_running(connection: Connection, tenant: str, quota: Quota) -> None:
    if quota.max_running_jobs is None:
        return
    running = _running_jobs(connection, tenant)
    if running >= quota.max_running_jobs:
        raise QuotaError(
            f"tenant {tenant} has {running} running jobs, of {quota.max_running_jobs}; wait for "
            "one to end or cancel one"
        )


def _quota(connection: Connection, tenant: str, *, lock: bool) -> Quota:
    """lock: until the transaction ends, nobody else's check of the tenant goes on."""
    query = select(
        tenants.c.max_running_jobs,
        tenants.c.max_images_per_day,
        tenants.c.max_bytes,
        tenants.c.attempt_retention_days,
    ).where(tenants.c.name == tenant)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Quota() if row is None else Quota(*row)


def _running_jobs(connection: Connection, tenant: str) -> int:
    running = (jobs.c.tenant == tenant) & jobs.c.state.in_(ACTIVE_STATES)
    return int(connection.execute(select(func.count()).where(running)).scalar_one())


def _images_last_day(connection: Connection, tenant: str) -> int:
    """Of cancelled and failed jobs as well: cancelling in time must not be a way around."""
    since = now_s(connection) - _DAY_S
    recent = (jobs.c.tenant == tenant) & (jobs.c.created_at >= since)
    return _total(connection, jobs.c.num_images, recent)


def _bytes(connection: Connection, tenant: str) -> int:
    mine = dataset_versions.c.tenant == tenant
    versions = _total(
        connection, dataset_versions.c.size_bytes, mine & dataset_versions.c.erased_at.is_(None)
    )
    cached = (
        (jobs.c.tenant == tenant) & (objects.c.job_id == jobs.c.id) & (objects.c.kind == "attempts")
    )
    kept = (registered_models.c.tenant == tenant) & registered_models.c.revoked_at.is_(None)
    models = _total(connection, registered_models.c.size_bytes, kept)
    attached = _total(connection, attachments.c.size_bytes, attachments.c.tenant == tenant)
    return versions + attached + _total(connection, objects.c.size_bytes, cached) + models


def _total(
    connection: Connection, column: ColumnElement[int], condition: ColumnElement[bool]
) -> int:
    query = select(func.coalesce(func.sum(column), 0)).where(condition)
    return int(connection.execute(query).scalar_one())
