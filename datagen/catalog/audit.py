"""Who did what: append-only rows, each with the hash of the one before, a chain per tenant.

A changed, removed or inserted row breaks the chain from there on. Whoever could rewrite the whole
chain is found out by the head that was written down elsewhere. Called by the API and by the
operator's commands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import lock_name, now_s
from datagen.catalog.tables import audit_log

FIRST_HASH = "0" * 64
_STREAM_ROWS = 1_000


@dataclass(frozen=True)
class AuditRow:
    """detail: JSON."""

    tenant: str
    seq: int
    at: float
    actor: str
    action: str
    target: str
    detail: str
    previous_hash: str
    hash: str


@dataclass(frozen=True)
class ChainReport:
    """broken_at: the first seq whose row is not what was appended, None if all are sound.

    head_seq, head_hash: of the last row; 0 and FIRST_HASH of an empty log.
    """

    tenant: str
    num_rows: int
    broken_at: int | None
    head_seq: int
    head_hash: str


def append_audit(
    catalog: Catalog,
    *,
    tenant: str,
    actor: str,
    action: str,
    target: str,
    detail: Mapping[str, Any],
) -> None:
    with catalog.transaction() as connection:
        record_audit(
            connection, tenant=tenant, actor=actor, action=action, target=target, detail=detail
        )


def record_audit(
    connection: Connection,
    *,
    tenant: str,
    actor: str,
    action: str,
    target: str,
    detail: Mapping[str, Any],
) -> None:
    """Inside the caller's transaction, at its end: other writers of the tenant wait for it."""
    lock_name(connection, f"audit/{tenant}")
    last = connection.execute(
        select(audit_log.c.seq, audit_log.c.hash)
        .where(audit_log.c.tenant == tenant)
        .order_by(audit_log.c.seq.desc())
        .limit(1)
    ).first()
    row = {
        "tenant": tenant,
        "seq": last.seq + 1 if last else 1,
        "at": now_s(connection),
        "actor": actor[:63],
        "action": action,
        "target": target[:255],
        "detail": json.dumps(dict(detail), sort_keys=True),
        "previous_hash": last.hash if last else FIRST_HASH,
    }
    connection.execute(insert(audit_log).values(**row, hash=_hash_of(row)))


def list_audit(catalog: Catalog, *, limit: int, before_seq: int | None = None) -> list[AuditRow]:
    """Newest first, of the catalog's tenant."""
    query = select(audit_log).where(catalog.owns(audit_log.c.tenant))
    if before_seq is not None:
        query = query.where(audit_log.c.seq < before_seq)
    with catalog.reading() as connection:
        rows = connection.execute(query.order_by(audit_log.c.seq.desc()).limit(limit))
        return [AuditRow(**row._mapping) for row in rows]


def audited_tenants(catalog: Catalog) -> list[str]:
    with catalog.reading() as connection:
        query = select(audit_log.c.tenant).where(catalog.owns(audit_log.c.tenant)).distinct()
        return sorted(connection.execute(query).scalars())


def has_row(catalog: Catalog, tenant: str, head: str) -> bool:
    """head: SEQ:HASH, as a report named it earlier."""
    seq, _, row_hash = head.partition(":")
    query = select(audit_log.c.seq).where(
        audit_log.c.tenant == tenant, audit_log.c.seq == int(seq), audit_log.c.hash == row_hash
    )
    with catalog.reading() as connection:
        return connection.execute(query).first() is not None


def verify_chain(catalog: Catalog, tenant: str) -> ChainReport:
    """Reads the whole log of the tenant, streaming."""
    query = select(audit_log).where(audit_log.c.tenant == tenant).order_by(audit_log.c.seq)
    num_rows, broken_at, previous, last_seq = 0, None, FIRST_HASH, 0
    with (
        catalog.reading() as connection,
        connection.execution_options(yield_per=_STREAM_ROWS).execute(query) as rows,
    ):
        for row in rows:
            num_rows += 1
            if broken_at is None and not _follows(row, last_seq, previous):
                broken_at = row.seq
            previous, last_seq = row.hash, row.seq
    return ChainReport(tenant, num_rows, broken_at, last_seq, previous)


def _follows(row: Row[Any], last_seq: int, previous: str) -> bool:
    content = {name: value for name, value in row._mapping.items() if name != "hash"}
    return bool(
        row.seq == last_seq + 1 and row.previous_hash == previous and row.hash == _hash_of(content)
    )


def _hash_of(row: Mapping[str, Any]) -> str:
    """at by its shortest decimal form, which both databases give back unchanged."""
    content = json.dumps({**row, "at": repr(row["at"])}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()
