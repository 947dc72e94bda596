"""Published dataset versions: published, found, deprecated. How they are revoked: tombstones.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, insert, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.events import JOB_PUBLISHED, record_event
from datagen.catalog.rows import PUBLISHED, NewObject, Unit, VersionRow
from datagen.catalog.tables import dataset_versions, jobs
from datagen.catalog.units import finish_unit, insert_objects
from datagen.errors import NotFoundError


def commit_published(
    catalog: Catalog,
    unit: Unit,
    *,
    digest: str,
    manifest_sha256: str,
    num_samples: int,
    size_bytes: int,
    stored: Sequence[NewObject],
    seconds: float,
) -> None:
    """The version and its job, published together, after the manifest was put."""
    with catalog.transaction() as connection:
        finish_unit(connection, unit, seconds=seconds)
        insert_objects(connection, unit.job_id, stored)
        now = now_s(connection)
        job = connection.execute(
            update(jobs)
            .where(jobs.c.id == unit.job_id)
            .values(state=PUBLISHED, finished_at=now, publication=None)
            .returning(jobs.c.tenant, jobs.c.name, jobs.c.version, jobs.c.created_at)
        ).one()
        connection.execute(
            insert(dataset_versions).values(
                tenant=job.tenant,
                name=job.name,
                version=job.version,
                job_id=unit.job_id,
                digest=digest,
                manifest_sha256=manifest_sha256,
                num_samples=num_samples,
                size_bytes=size_bytes,
                seconds=now - job.created_at,
                published_at=now,
            )
        )
        record_event(connection, unit.job_id, JOB_PUBLISHED, {"digest": digest})


def get_version(catalog: Catalog, name: str, version: int | None = None) -> VersionRow | None:
    """The version asked for, or the newest that was not revoked, or else the newest."""
    query = select_versions(catalog).where(dataset_versions.c.name == name)
    if version is not None:
        query = query.where(dataset_versions.c.version == version)
    newest = query.order_by(
        dataset_versions.c.revoked_at.is_not(None), dataset_versions.c.version.desc()
    )
    with catalog.reading() as connection:
        return _version(connection.execute(newest.limit(1)).first())


def list_versions(catalog: Catalog, name: str | None = None) -> list[VersionRow]:
    """By name and version; no previews."""
    query = (
        select_versions(catalog)
        .where(jobs.c.kind == "dataset")
        .order_by(dataset_versions.c.name, dataset_versions.c.version)
    )
    if name is not None:
        query = query.where(dataset_versions.c.name == name)
    with catalog.reading() as connection:
        return [VersionRow(**row._mapping) for row in connection.execute(query)]


def deprecate_version(catalog: Catalog, name: str, version: int, *, reason: str) -> VersionRow:
    """It can be used on; whoever looks is told. A second time changes the reason alone.

    Raises NotFoundError.
    """
    of_version = (
        catalog.owns(dataset_versions.c.tenant),
        dataset_versions.c.name == name,
        dataset_versions.c.version == version,
    )
    with catalog.transaction() as connection:
        since = select(dataset_versions.c.deprecated_at).where(*of_version)
        found = connection.execute(since).first()
        if found is None:
            raise NotFoundError(f"data set {name} has no version {version}")
        connection.execute(
            update(dataset_versions)
            .where(*of_version)
            .values(
                deprecated_at=found.deprecated_at or now_s(connection), deprecated_reason=reason
            )
        )
        row = _version(connection.execute(select_versions(catalog).where(*of_version)).first())
        assert row is not None
        return row


def select_versions(catalog: Catalog) -> Select[Any]:
    return (
        select(dataset_versions, jobs.c.recipe_digest)
        .join(jobs, jobs.c.id == dataset_versions.c.job_id)
        .where(catalog.owns(dataset_versions.c.tenant))
    )


def _version(row: Row[Any] | None) -> VersionRow | None:
    return None if row is None else VersionRow(**row._mapping)
