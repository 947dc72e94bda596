"""API keys: made, found, listed, revoked. Only the hash of the secret is kept.

A key reads dg_{id}_{secret}. Called by the API (auth.py, keys.py) and `datagen keys`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, insert, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.tables import api_keys
from datagen.errors import NotFoundError

_ID_BYTES = 8
_SECRET_BYTES = 32


@dataclass(frozen=True)
class KeyRow:
    """is_expired: by the database's clock, when the row was read."""

    id: str
    tenant: str
    name: str
    secret_sha256: str
    scopes: tuple[str, ...]
    created_by: str | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    is_expired: bool


def create_key(
    catalog: Catalog,
    *,
    tenant: str,
    name: str,
    scopes: Sequence[str],
    created_by: str | None,
    expires_in_s: float | None = None,
) -> tuple[KeyRow, str]:
    """Returns the row and the key itself, which nobody can read again."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    with catalog.transaction() as connection:
        now = now_s(connection)
        connection.execute(
            insert(api_keys).values(
                id=key_id,
                tenant=tenant,
                name=name,
                secret_sha256=hash_of(secret),
                scopes=" ".join(scopes),
                created_by=created_by,
                created_at=now,
                expires_at=None if expires_in_s is None else now + expires_in_s,
            )
        )
    row = find_key(catalog, key_id)
    assert row is not None
    return row, f"dg_{key_id}_{secret}"


def hash_of(secret: str) -> str:
    """The secret has 256 random bits: one round is enough, no dictionary reaches it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find_key(catalog: Catalog, key_id: str) -> KeyRow | None:
    query = select(api_keys).where(api_keys.c.id == key_id, catalog.owns(api_keys.c.tenant))
    with catalog.reading() as connection:
        row = connection.execute(query).first()
        now = now_s(connection)
        return None if row is None else _key(row, now)


def list_keys(
    catalog: Catalog, *, limit: int, after: tuple[float, str] | None = None
) -> list[KeyRow]:
    """Oldest first. after: created_at and id of the last one seen."""
    query = select(api_keys).where(catalog.owns(api_keys.c.tenant))
    if after is not None:
        created_at, key_id = after
        query = query.where(
            (api_keys.c.created_at > created_at)
            | ((api_keys.c.created_at == created_at) & (api_keys.c.id > key_id))
        )
    ordered = query.order_by(api_keys.c.created_at, api_keys.c.id).limit(limit)
    with catalog.reading() as connection:
        now = now_s(connection)
        return [_key(row, now) for row in connection.execute(ordered)]


def revoke_key(catalog: Catalog, key_id: str) -> None:
    """At once and for good; again is no error. Raises NotFoundError."""
    with catalog.transaction() as connection:
        mine = (api_keys.c.id == key_id) & catalog.owns(api_keys.c.tenant)
        if connection.execute(select(api_keys.c.id).where(mine)).first() is None:
            raise NotFoundError(f"key {key_id!r} does not exist; `datagen keys list` shows them")
        connection.execute(
            update(api_keys)
            .where(mine, api_keys.c.revoked_at.is_(None))
            .values(revoked_at=now_s(connection))
        )


def _key(row: Row[Any], now: float) -> KeyRow:
    values = dict(row._mapping)
    values["scopes"] = tuple(values["scopes"].split())
    expired = row.expires_at is not None and row.expires_at <= now
    return KeyRow(**values, is_expired=expired)
