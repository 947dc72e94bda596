"""The worker processes of a service: who is alive, and which queues somebody serves.

Called by the workers, which register, and by the API, which says what a job waits for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.tables import workers

# A worker that was not seen for so long serves nothing.
ALIVE_S = 60.0


@dataclass(frozen=True)
class WorkerRow:
    """queues: without priority. seconds_idle: since its last claim, None if it never made one."""

    name: str
    queues: tuple[str, ...]
    fingerprint: str
    seconds_unseen: float
    seconds_idle: float | None


def register_worker(
    catalog: Catalog, name: str, *, queues: Sequence[str], fingerprint: Mapping[str, Any]
) -> None:
    """name: of one process, never used again. Registering twice is harmless."""
    with catalog.transaction() as connection:
        now = now_s(connection)
        connection.execute(delete(workers).where(workers.c.name == name))
        connection.execute(
            insert(workers).values(
                name=name,
                queues=json.dumps(sorted(queues)),
                fingerprint=json.dumps(fingerprint, sort_keys=True),
                started_at=now,
                seen_at=now,
            )
        )


def worker_seen(catalog: Catalog, name: str, *, has_claimed: bool = False) -> bool:
    """Returns False if nobody of that name is registered: it was taken for dead."""
    with catalog.transaction() as connection:
        now = now_s(connection)
        values = {"seen_at": now} | ({"claimed_at": now} if has_claimed else {})
        seen = update(workers).where(workers.c.name == name).values(values)
        return connection.execute(seen).rowcount == 1


def forget_worker(catalog: Catalog, name: str) -> None:
    """At its clean end."""
    with catalog.transaction() as connection:
        connection.execute(delete(workers).where(workers.c.name == name))


def forget_dead(catalog: Catalog, *, unseen_s: float = 10 * ALIVE_S) -> int:
    """Returns how many."""
    with catalog.transaction() as connection:
        dead = delete(workers).where(workers.c.seen_at < now_s(connection) - unseen_s)
        return connection.execute(dead).rowcount


def live_workers(catalog: Catalog) -> list[WorkerRow]:
    with catalog.reading() as connection:
        now = now_s(connection)
        query = select(workers).where(workers.c.seen_at >= now - ALIVE_S).order_by(workers.c.name)
        return [
            WorkerRow(
                name=row.name,
                queues=tuple(json.loads(row.queues)),
                fingerprint=row.fingerprint,
                seconds_unseen=now - row.seen_at,
                seconds_idle=None if row.claimed_at is None else now - row.claimed_at,
            )
            for row in connection.execute(query)
        ]


def live_queues(catalog: Catalog) -> frozenset[str]:
    """The queues, without priority, that some living worker serves."""
    return frozenset(queue for worker in live_workers(catalog) for queue in worker.queues)
