"""What happened to a job, in order; and the webhook deliveries that follow from it.

An event is written in the transaction of the change that it tells of: neither is there alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.rows import EventRow
from datagen.catalog.tables import job_events, jobs, webhook_deliveries, webhooks

JOB_CREATED, JOB_STAGE, JOB_RETRIED = "job.created", "job.stage", "job.retried"
JOB_PUBLISHED, JOB_FAILED, JOB_CANCELLED = "job.published", "job.failed", "job.cancelled"
DATASET_REVOKED = "dataset.revoked"
# Signed off as approved; an approval taken back.
DATASET_APPROVED, DATASET_WITHDRAWN = "dataset.approved", "dataset.withdrawn"
# After one of these a job's stream ends, until somebody retries the job.
TERMINAL_EVENTS = (JOB_PUBLISHED, JOB_FAILED, JOB_CANCELLED)
# What webhooks may ask for; the others tell of progress.
WEBHOOK_EVENTS = (*TERMINAL_EVENTS, DATASET_REVOKED, DATASET_APPROVED, DATASET_WITHDRAWN)


def record_event(
    connection: Connection, job_id: int, event_type: str, body: Mapping[str, Any]
) -> None:
    """body: joined to the job's id, name, version and state as they are now."""
    job = connection.execute(
        select(
            jobs.c.uid, jobs.c.tenant, jobs.c.kind, jobs.c.name, jobs.c.version, jobs.c.state
        ).where(jobs.c.id == job_id)
    ).one()
    about = {"job_id": job.uid, "name": job.name, "version": job.version, "state": job.state}
    about |= body
    now = now_s(connection)
    event_id = connection.execute(
        insert(job_events)
        .values(job_id=job_id, type=event_type, body=json.dumps(about), created_at=now)
        .returning(job_events.c.id)
    ).scalar_one()
    if event_type in WEBHOOK_EVENTS and job.kind == "dataset":
        queue_deliveries(
            connection,
            tenant=job.tenant,
            event_id=f"evt_{event_id}",
            event_type=event_type,
            data=about,
            now=now,
        )


def queue_deliveries(
    connection: Connection,
    *,
    tenant: str,
    event_id: str,
    event_type: str,
    data: Mapping[str, Any],
    now: float,
) -> None:
    """One delivery for each of the tenant's webhooks that asked for the event."""
    hooks = connection.execute(
        select(webhooks.c.id, webhooks.c.events)
        .where(webhooks.c.tenant == tenant, webhooks.c.disabled_at.is_(None))
        # Whoever deletes or disables one of them waits: a delivery to none would undo the job's
        # transaction, one to a disabled one would be owed for ever.
        .with_for_update(read=True)
    ).all()
    stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    text = json.dumps({"type": event_type, "timestamp": stamp, "data": data})
    for hook in hooks:
        wanted = hook.events.split()
        if event_type in wanted or "*" in wanted:
            connection.execute(
                insert(webhook_deliveries).values(
                    webhook_id=hook.id,
                    event_id=event_id,
                    event_type=event_type,
                    body=text,
                    state="PENDING",
                    tries=0,
                    next_at=now,
                    created_at=now,
                )
            )


def list_events(catalog: Catalog, job_id: int, *, after_id: int, limit: int) -> list[EventRow]:
    """In order, those after an event."""
    query = (
        select(job_events.c.id, job_events.c.type, job_events.c.body, job_events.c.created_at)
        .where(job_events.c.job_id == job_id, job_events.c.id > after_id)
        .order_by(job_events.c.id)
        .limit(limit)
    )
    with catalog.reading() as connection:
        return [EventRow(*row) for row in connection.execute(query)]
