"""What was attached to versions: rows about objects that lie beside the data.

An object is put before its row, so that every row finds its object. Called by
datagen/attachments.py, which puts and reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import lock_name, now_s
from datagen.catalog.rows import CANCELLED
from datagen.catalog.tables import attachments, dataset_versions, jobs
from datagen.errors import ConflictError, RevokedError


@dataclass(frozen=True)
class NewAttachment:
    """summary: JSON. seconds: that making it took."""

    job_id: int
    kind: str
    file_name: str
    key: str
    sha256: str
    size_bytes: int
    summary: str
    seconds: float | None
    created_by: str | None


@dataclass(frozen=True)
class AttachmentRow:
    """created_at: when it was attached, or attached again."""

    id: int
    tenant: str
    job_id: int
    kind: str
    file_name: str
    key: str
    sha256: str
    size_bytes: int
    summary: str
    seconds: float | None
    created_by: str | None
    created_at: float


def record_attachment(catalog: Catalog, new: NewAttachment) -> AttachmentRow:
    """The same object again is the same row, and the newest again.

    Raises RevokedError if the version was revoked, ConflictError if its job was cancelled.
    """
    with catalog.transaction() as connection:
        lock_name(connection, f"attachments {new.job_id}")
        tenant = _check_open(connection, new.job_id)
        values = {**new.__dict__, "tenant": tenant, "created_at": now_s(connection)}
        known = select(attachments.c.id).where(attachments.c.key == new.key)
        row_id = connection.execute(known).scalar_one_or_none()
        if row_id is None:
            added = insert(attachments).values(values).returning(attachments.c.id)
            row_id = connection.execute(added).scalar_one()
        else:
            connection.execute(update(attachments).where(attachments.c.id == row_id).values(values))
        return _row(connection.execute(_select().where(attachments.c.id == row_id)).one())


def check_attachable(catalog: Catalog, job_id: int) -> None:
    """Raises as record_attachment does."""
    with catalog.reading() as connection:
        _check_open(connection, job_id)


def list_attachments(
    catalog: Catalog, job_id: int, *, kind: str | None = None, file_name: str | None = None
) -> list[AttachmentRow]:
    """The newest first."""
    query = _select().where(attachments.c.job_id == job_id, catalog.owns(attachments.c.tenant))
    if kind is not None:
        query = query.where(attachments.c.kind == kind)
    if file_name is not None:
        query = query.where(attachments.c.file_name == file_name)
    newest_first = query.order_by(attachments.c.created_at.desc(), attachments.c.id.desc())
    with catalog.reading() as connection:
        return [_row(row) for row in connection.execute(newest_first)]


def find_attachment(catalog: Catalog, job_id: int, key: str) -> AttachmentRow | None:
    query = _select().where(
        attachments.c.job_id == job_id,
        attachments.c.key == key,
        catalog.owns(attachments.c.tenant),
    )
    with catalog.reading() as connection:
        row = connection.execute(query).first()
        return None if row is None else _row(row)


def _check_open(connection: Connection, job_id: int) -> str:
    """Returns the job's tenant."""
    row = connection.execute(
        select(
            jobs.c.tenant,
            jobs.c.name,
            jobs.c.version,
            jobs.c.state,
            dataset_versions.c.revoked_at,
            dataset_versions.c.revoked_reason,
        )
        .outerjoin(dataset_versions, dataset_versions.c.job_id == jobs.c.id)
        .where(jobs.c.id == job_id)
    ).one()
    name = f"{row.name}@{row.version}"
    if row.revoked_at is not None:
        raise RevokedError(
            f"{name} was revoked: {row.revoked_reason}; nothing can be attached to it or signed "
            "any more, use another version"
        )
    if row.state == CANCELLED:
        raise ConflictError(f"{name}: its job was cancelled; nothing can be attached to it")
    return str(row.tenant)


def _select() -> Select[Any]:
    return select(*[attachments.c[name] for name in AttachmentRow.__dataclass_fields__])


def _row(row: Row[Any]) -> AttachmentRow:
    return AttachmentRow(**row._mapping)
