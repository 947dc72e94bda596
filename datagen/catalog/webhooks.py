"""Webhooks and their deliveries: who is told, what is owed, and who sends it now.

A delivery's tries are its fence: a sender claims by counting one up, and may record only the
result of the try that it claimed. Called by datagen/webhook_delivery.py and the API.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.tables import webhook_deliveries as deliveries
from datagen.catalog.tables import webhooks
from datagen.errors import ConflictError, NotFoundError, QuotaError

PENDING, DELIVERED, FAILED = "PENDING", "DELIVERED", "FAILED"
MAX_WEBHOOKS = 32  # of one tenant: each event is sent to all of them


@dataclass(frozen=True)
class Webhook:
    """secret: "whsec_" and base64. disabled_at: since when its receiver is gone."""

    id: str
    tenant: str
    url: str
    secret: str
    events: tuple[str, ...]
    created_by: str | None
    created_at: float
    disabled_at: float | None


@dataclass(frozen=True)
class Delivery:
    """One event on its way to one webhook. body: JSON. next_at: of its next try."""

    id: int
    webhook_id: str
    event_id: str
    event_type: str
    body: str
    state: str
    tries: int
    next_at: float | None
    last_status: int | None
    last_error: str | None
    created_at: float
    delivered_at: float | None


@dataclass(frozen=True)
class ClaimedDelivery:
    """claimed_at: by the database's clock."""

    id: int
    webhook_id: str
    url: str
    secret: str
    event_id: str
    body: str
    tries: int
    claimed_at: float


def create_webhook(
    catalog: Catalog, *, url: str, secret: str, events: Sequence[str], created_by: str | None
) -> Webhook:
    """Raises QuotaError if the tenant has too many."""
    tenant = catalog.tenant
    assert tenant is not None
    with catalog.transaction() as connection:
        count = select(func.count()).where(webhooks.c.tenant == tenant)
        if connection.execute(count).scalar_one() >= MAX_WEBHOOKS:
            raise QuotaError(
                f"the tenant has {MAX_WEBHOOKS} webhooks, the most there may be; delete one first"
            )
        made = (
            insert(webhooks)
            .values(
                id=uuid4().hex,
                tenant=tenant,
                url=url,
                secret=secret,
                events=" ".join(events),
                created_by=created_by,
                created_at=now_s(connection),
            )
            .returning(webhooks)
        )
        return _webhook(connection.execute(made).one())


def get_webhook(catalog: Catalog, webhook_id: str) -> Webhook:
    """Raises NotFoundError."""
    with catalog.reading() as connection:
        return _get(connection, catalog, webhook_id)


def list_webhooks(catalog: Catalog, *, limit: int, after_id: str | None = None) -> list[Webhook]:
    """By id."""
    query = select(webhooks).where(catalog.owns(webhooks.c.tenant))
    if after_id is not None:
        query = query.where(webhooks.c.id > after_id)
    with catalog.reading() as connection:
        rows = connection.execute(query.order_by(webhooks.c.id).limit(limit))
        return [_webhook(row) for row in rows]


def delete_webhook(catalog: Catalog, webhook_id: str) -> None:
    """With its deliveries. Raises NotFoundError."""
    mine = (webhooks.c.id == webhook_id, catalog.owns(webhooks.c.tenant))
    with catalog.transaction() as connection:
        # Locked first: an event that is being recorded comes before or not at all.
        locked = select(webhooks.c.id).where(*mine).with_for_update()
        if connection.execute(locked).first() is None:
            raise _unknown(webhook_id)
        connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
        connection.execute(delete(webhooks).where(*mine))


def list_deliveries(
    catalog: Catalog, webhook_id: str, *, limit: int, before_id: int | None = None
) -> list[Delivery]:
    """The newest first. Raises NotFoundError for an unknown webhook."""
    query = (
        select(deliveries)
        .where(deliveries.c.webhook_id == webhook_id)
        .order_by(deliveries.c.id.desc())
        .limit(limit)
    )
    if before_id is not None:
        query = query.where(deliveries.c.id < before_id)
    with catalog.reading() as connection:
        _get(connection, catalog, webhook_id)
        return [Delivery(**row._mapping) for row in connection.execute(query)]


def redeliver(catalog: Catalog, webhook_id: str, delivery_id: int) -> Delivery:
    """One that has ended is due again, with all its tries.

    Raises NotFoundError, or ConflictError if it is still on its way or the webhook is disabled.
    """
    mine = (deliveries.c.id == delivery_id, deliveries.c.webhook_id == webhook_id)
    with catalog.transaction() as connection:
        if _get(connection, catalog, webhook_id).disabled_at is not None:
            raise ConflictError(
                f"webhook {webhook_id} is disabled: its receiver answered 410; register it anew"
            )
        again = (
            update(deliveries)
            .where(*mine, deliveries.c.state != PENDING)
            .values(state=PENDING, tries=0, next_at=now_s(connection), delivered_at=None)
            .returning(deliveries)
        )
        row = connection.execute(again).first()
        if row is None:
            if connection.execute(select(deliveries.c.id).where(*mine)).first() is None:
                raise NotFoundError(f"webhook {webhook_id} has no delivery {delivery_id}")
            raise ConflictError(
                f"delivery {delivery_id} is {PENDING}: it is tried again by itself until it is "
                f"{DELIVERED} or {FAILED}"
            )
        return Delivery(**row._mapping)


# --- what a sender does ---------------------------------------------------------------------------


def count_due(catalog: Catalog) -> int:
    with catalog.reading() as connection:
        now = now_s(connection)
        query = select(func.count()).where(
            deliveries.c.state == PENDING, deliveries.c.next_at <= now
        )
        return int(connection.execute(query).scalar_one())


def claim_delivery(
    catalog: Catalog, *, lease_s: float, max_tries: int, skipping: Collection[str] = ()
) -> ClaimedDelivery | None:
    """The next one that is due; no other sender gets it for lease_s. First tries come before
    further ones, so that a receiver that is down holds up nobody's news.

    skipping: ids of webhooks. A delivery whose last sender died fails here.
    """
    with catalog.transaction() as connection:
        now = now_s(connection)
        due = (deliveries.c.state == PENDING, deliveries.c.next_at <= now)
        connection.execute(
            update(deliveries)
            .where(*due, deliveries.c.tries >= max_tries)
            .values(state=FAILED, next_at=None)
        )
        chosen = (
            select(deliveries.c.id)
            .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
            .where(*due, webhooks.c.disabled_at.is_(None), webhooks.c.id.not_in(skipping))
            .order_by(deliveries.c.tries, deliveries.c.next_at, deliveries.c.id)
            .limit(1)
            .with_for_update(of=deliveries, skip_locked=True)
        )
        delivery_id = connection.execute(chosen).scalar_one_or_none()
        if delivery_id is None:
            return None
        connection.execute(
            update(deliveries)
            .where(deliveries.c.id == delivery_id)
            .values(tries=deliveries.c.tries + 1, next_at=now + lease_s)
        )
        row = connection.execute(_claimed().where(deliveries.c.id == delivery_id)).one()
        return ClaimedDelivery(**row._mapping, claimed_at=now)


def record_delivered(catalog: Catalog, claimed: ClaimedDelivery, status: int) -> None:
    with catalog.transaction() as connection:
        connection.execute(
            update(deliveries)
            .where(*_still(claimed))
            .values(
                state=DELIVERED,
                next_at=None,
                last_status=status,
                last_error=None,
                delivered_at=now_s(connection),
            )
        )


def record_failure(
    catalog: Catalog,
    claimed: ClaimedDelivery,
    *,
    status: int | None,
    error: str,
    retry_after_s: float | None,
) -> None:
    """retry_after_s: None if this was the last try."""
    with catalog.transaction() as connection:
        last = retry_after_s is None
        next_at = None if retry_after_s is None else now_s(connection) + retry_after_s
        connection.execute(
            update(deliveries)
            .where(*_still(claimed))
            .values(
                state=FAILED if last else PENDING,
                next_at=next_at,
                last_status=status,
                last_error=error,
            )
        )


def disable_webhook(catalog: Catalog, webhook_id: str, *, error: str) -> None:
    """Its receiver is gone: nothing is sent any more, and what was owed fails."""
    with catalog.transaction() as connection:
        connection.execute(
            update(webhooks)
            .where(webhooks.c.id == webhook_id, webhooks.c.disabled_at.is_(None))
            .values(disabled_at=now_s(connection))
        )
        connection.execute(
            update(deliveries)
            .where(deliveries.c.webhook_id == webhook_id, deliveries.c.state == PENDING)
            .values(state=FAILED, next_at=None, last_error=error)
        )


def _still(claimed: ClaimedDelivery) -> tuple[Any, ...]:
    return (
        deliveries.c.id == claimed.id,
        deliveries.c.state == PENDING,
        deliveries.c.tries == claimed.tries,
    )


def _claimed() -> Select[Any]:
    return select(
        deliveries.c.id,
        deliveries.c.webhook_id,
        webhooks.c.url,
        webhooks.c.secret,
        deliveries.c.event_id,
        deliveries.c.body,
        deliveries.c.tries,
    ).join(webhooks, webhooks.c.id == deliveries.c.webhook_id)


def _get(connection: Connection, catalog: Catalog, webhook_id: str) -> Webhook:
    query = select(webhooks).where(webhooks.c.id == webhook_id, catalog.owns(webhooks.c.tenant))
    row = connection.execute(query).first()
    if row is None:
        raise _unknown(webhook_id)
    return _webhook(row)


def _webhook(row: Row[Any]) -> Webhook:
    values = dict(row._mapping)
    return Webhook(**values | {"events": tuple(values["events"].split())})


def _unknown(webhook_id: str) -> NotFoundError:
    return NotFoundError(f"webhook {webhook_id[:64]!r} does not exist; GET /v1/webhooks lists them")
