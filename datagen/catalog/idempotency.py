"""Idempotency keys: the same key and body give the same job, however often they are sent.

A request takes its key before it does anything; create_job answers the key in the transaction that
makes the job. Called by the API.
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.tables import idempotency_keys
from datagen.errors import ConflictError, InputError

# A request that has not been answered for so long has died with its process.
LOCK_S = 60.0


class KeyReusedError(InputError):
    """The key belongs to a request with another body."""


def take_key(catalog: Catalog, key: str, *, body_sha256: str, lock_s: float = LOCK_S) -> int | None:
    """Returns the job that answered the key, or None: the caller holds it now.

    Raises KeyReusedError, or ConflictError while another request with it is being answered.
    """
    mine = (idempotency_keys.c.tenant == catalog.tenant) & (idempotency_keys.c.key == key)
    try:
        with catalog.transaction() as connection:
            now = now_s(connection)
            row = connection.execute(select(idempotency_keys).where(mine).with_for_update()).first()
            if row is None:
                connection.execute(
                    insert(idempotency_keys).values(
                        tenant=catalog.tenant,
                        key=key,
                        body_sha256=body_sha256,
                        locked_until=now + lock_s,
                        created_at=now,
                    )
                )
                return None
            if row.body_sha256 != body_sha256:
                raise KeyReusedError(f"idempotency key {key!r} was used for another request")
            if row.job_id is not None:
                return int(row.job_id)
            if row.locked_until > now:
                raise _in_flight(key, row.locked_until - now)
            connection.execute(
                update(idempotency_keys).where(mine).values(locked_until=now + lock_s)
            )
            return None
    except IntegrityError:  # another request inserted it between our look and our insert
        raise _in_flight(key, lock_s) from None


def drop_key(catalog: Catalog, key: str) -> None:
    """The request came to nothing: the key is free again. An answered one stays."""
    with catalog.transaction() as connection:
        connection.execute(
            delete(idempotency_keys).where(
                idempotency_keys.c.tenant == catalog.tenant,
                idempotency_keys.c.key == key,
                idempotency_keys.c.job_id.is_(None),
            )
        )


def _in_flight(key: str, locked_s: float) -> ConflictError:
    return ConflictError(
        f"a request with idempotency key {key!r} is being answered; send it again in a moment",
        retry_after_s=locked_s,
    )
