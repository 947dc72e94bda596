"""Sign-offs of versions, for a named use: append-only rows, and which of them holds now.

For each use the newest row that has not expired holds: a `draft` takes back what was signed before
it, and where an `approved` has expired, the `reviewed` before it holds again. Expiry goes by the
database's clock. Called by datagen/approval.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, insert, select

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import lock_name, now_s
from datagen.catalog.events import DATASET_APPROVED, DATASET_WITHDRAWN, record_event
from datagen.catalog.rows import VersionRow
from datagen.catalog.tables import approvals, dataset_versions
from datagen.errors import ForbiddenError, InputError, NotFoundError, RevokedError

DRAFT, REVIEWED, APPROVED = "draft", "reviewed", "approved"
STATES = (DRAFT, REVIEWED, APPROVED)  # each stands above those before it


@dataclass(frozen=True)
class SignOff:
    """expires_at: from then on it does not hold; None: it always does."""

    id: int
    job_id: int
    state: str
    use: str
    signed_by: str
    expires_at: float | None
    note: str
    created_at: float


def insert_sign_off(
    catalog: Catalog,
    row: VersionRow,
    *,
    state: str,
    use: str,
    signed_by: str,
    expires_at: float | None,
    note: str,
    may_approve: bool,
) -> SignOff:
    """may_approve: whether the signer may approve, and replace what holds as approved.

    Raises ForbiddenError, RevokedError, InputError for an end that has passed, NotFoundError for a
    `draft` of a use that nobody has signed.
    """
    with catalog.transaction() as connection:
        lock_name(connection, f"approvals {row.job_id}")
        now = now_s(connection)
        _check_signable(connection, row, expires_at=expires_at, now=now)
        known = _of_jobs(connection, [row.job_id])
        before = holding(known, now=now).get(use)
        was_approved = before is not None and before.state == APPROVED
        if not may_approve and (state == APPROVED or was_approved):
            raise ForbiddenError(
                f"{row.name}@{row.version}: to approve, or to change what is approved for "
                f"{use!r}, an admin key is needed; this key may sign as reviewed"
            )
        if state == DRAFT and all(each.use != use for each in known):
            uses = ", ".join(repr(each) for each in sorted({each.use for each in known}))
            raise NotFoundError(
                f"{row.name}@{row.version} was never signed for {use!r}; it was for "
                f"{uses or 'nothing'}"
            )
        values = insert(approvals).values(
            tenant=row.tenant,
            job_id=row.job_id,
            state=state,
            use=use,
            signed_by=signed_by,
            expires_at=expires_at,
            note=note,
            created_at=now,
        )
        row_id = connection.execute(values.returning(approvals.c.id)).scalar_one()
        signed = SignOff(row_id, row.job_id, state, use, signed_by, expires_at, note, now)
        _tell(connection, row, signed, was_approved=was_approved)
        return signed


def list_sign_offs(catalog: Catalog, job_ids: Collection[int]) -> list[SignOff]:
    """All that was ever signed, the newest first."""
    with catalog.reading() as connection:
        return _of_jobs(connection, job_ids)


def sign_offs_now(catalog: Catalog, job_ids: Collection[int]) -> dict[int, dict[str, SignOff]]:
    """Job id -> use -> what holds now, drafts as well."""
    with catalog.reading() as connection:
        now = now_s(connection)
        by_job: dict[int, list[SignOff]] = {}
        for each in _of_jobs(connection, job_ids):
            by_job.setdefault(each.job_id, []).append(each)
    return {job_id: holding(rows, now=now) for job_id, rows in by_job.items()}


def holding(newest_first: Iterable[SignOff], *, now: float) -> dict[str, SignOff]:
    """Use -> the sign-off that holds, of one version's rows."""
    found: dict[str, SignOff] = {}
    for each in newest_first:
        if each.expires_at is None or each.expires_at > now:
            found.setdefault(each.use, each)
    return found


def _check_signable(
    connection: Connection, row: VersionRow, *, expires_at: float | None, now: float
) -> None:
    revoked = select(dataset_versions.c.revoked_at).where(dataset_versions.c.job_id == row.job_id)
    if connection.execute(revoked).scalar_one() is not None:
        raise RevokedError(f"{row.name}@{row.version} was revoked; sign another version off")
    if expires_at is not None and expires_at <= now:
        raise InputError("until: this day has passed; give a later one, or none")


def _tell(connection: Connection, row: VersionRow, signed: SignOff, *, was_approved: bool) -> None:
    """The event of an approval, or of one that is taken back."""
    if signed.state != APPROVED and not was_approved:
        return
    body: dict[str, Any] = {"digest": row.digest, "sign_off": signed.state, "use": signed.use}
    body |= {"by": signed.signed_by, "expires_at": signed.expires_at}
    event = DATASET_APPROVED if signed.state == APPROVED else DATASET_WITHDRAWN
    record_event(connection, row.job_id, event, body)


def _of_jobs(connection: Connection, job_ids: Collection[int]) -> list[SignOff]:
    query: Select[Any] = (
        select(*[approvals.c[name] for name in SignOff.__dataclass_fields__])
        .where(approvals.c.job_id.in_(sorted(job_ids)))
        .order_by(approvals.c.id.desc())
    )
    return [SignOff(**row._mapping) for row in connection.execute(query)]
