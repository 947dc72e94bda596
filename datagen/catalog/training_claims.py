"""Claims of trainings: one worker at a time, under a lease, with a number that tells them apart.

Whatever a worker writes names the claim that it was done under, its fence, and is refused once the
training is another's or has been cancelled. Called by datagen/trainings.py and the sweeper.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, or_, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.rows import CANCELLED, FAILED, PUBLISHED, RUNNING
from datagen.catalog.tables import trainings
from datagen.catalog.trainings import (
    QUEUED,
    REQUEUED,
    STARTED,
    Training,
    end_training,
    record_training_event,
    training_by_id,
)
from datagen.errors import LeaseLostError

# For each try: others get their turn, and whoever was moved back still gets one.
_PLACES_BACK = 20


def claim_training(
    catalog: Catalog, *, owner: str, lease_s: float, max_tries: int
) -> Training | None:
    """The training that waits longest, RUNNING from now on; each try that counts moves one back in
    the queue. One that was claimed max_tries times without getting on fails. Returns None if none
    waits."""
    waiting = (
        select(trainings)
        .where(trainings.c.state == QUEUED, catalog.owns(trainings.c.tenant))
        .order_by(trainings.c.id + _PLACES_BACK * trainings.c.tries, trainings.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    with catalog.transaction() as connection:
        while (row := connection.execute(waiting).first()) is not None:
            found = Training(**row._mapping)
            if found.tries >= max_tries:
                _fail_spent(connection, found)
                continue
            now = now_s(connection)
            values = {
                "state": RUNNING,
                "owner": owner,
                "fence": found.fence + 1,
                "tries": found.tries + 1,
                "lease_until": now + lease_s,
                "started_at": found.started_at or now,
            }
            connection.execute(update(trainings).where(trainings.c.id == found.id).values(values))
            about = {"images_seen": found.checkpoint_images_seen or 0}
            return record_training_event(
                connection, training_by_id(connection, found.id), STARTED, about
            )
    return None


def renew_training(
    catalog: Catalog, claim: Training, *, lease_s: float, progress: str | None = None
) -> bool:
    """progress: JSON; None leaves it. Returns False if the training is no longer this claim's."""
    with catalog.transaction() as connection:
        values: dict[str, Any] = {"lease_until": now_s(connection) + lease_s}
        if progress is not None:
            values["progress"] = progress
        held = update(trainings).where(_held(claim)).values(values)
        return connection.execute(held).rowcount == 1


def commit_checkpoint(
    catalog: Catalog, claim: Training, files: Mapping[str, str], *, images_seen: int
) -> None:
    """files: name -> sha256, of objects that are stored. Tries start afresh if it has got on: if
    it has seen more images. Raises LeaseLostError."""
    with _holding(catalog, claim) as connection:
        values: dict[str, Any] = {
            "checkpoint": json.dumps(dict(files), sort_keys=True),
            "checkpoint_images_seen": images_seen,
        }
        if images_seen > (training_by_id(connection, claim.id).checkpoint_images_seen or 0):
            values |= {"tries": 1, "error": None}
        connection.execute(update(trainings).where(trainings.c.id == claim.id).values(values))


def begin_registering(catalog: Catalog, claim: Training, model_digest: str) -> None:
    """From here on it cannot be cancelled. Raises LeaseLostError."""
    with _holding(catalog, claim) as connection:
        values = {"model_digest": model_digest}
        connection.execute(update(trainings).where(trainings.c.id == claim.id).values(values))


def publish_training(catalog: Catalog, claim: Training) -> Training:
    """Its model is registered. Raises LeaseLostError."""
    with _holding(catalog, claim) as connection:
        found = training_by_id(connection, claim.id)
        return end_training(connection, found, PUBLISHED, {"model_digest": found.model_digest})


def fail_training(catalog: Catalog, claim: Training, *, error: str) -> None:
    """A permanent error. Nothing happens if the claim was lost."""
    with catalog.transaction() as connection:
        if _is_held(connection, claim):
            end_training(connection, claim, FAILED, {"error": error})


def release_training(catalog: Catalog, claim: Training, *, error: str, count_try: bool) -> None:
    """Gives it back at once. Nothing happens if the claim was lost."""
    with catalog.transaction() as connection:
        if _is_held(connection, claim):
            found = training_by_id(connection, claim.id)
            tries = found.tries if count_try else found.tries - 1
            _requeue(connection, found, error=error, tries=tries)


def requeue_expired(catalog: Catalog, *, max_tries: int) -> int:
    """Trainings whose worker fell silent wait again; above the limit they fail. Returns how many.
    Any number of callers may do so at once."""
    with catalog.transaction() as connection:
        late = trainings.c.lease_until < now_s(connection)
        query = (
            select(trainings)
            .where(trainings.c.state == RUNNING, late, catalog.owns(trainings.c.tenant))
            .with_for_update(skip_locked=True)
        )
        expired = [Training(**row._mapping) for row in connection.execute(query)]
        for each in expired:
            if each.tries >= max_tries:
                _fail_spent(connection, each)
            else:
                _requeue(connection, each, error="its worker fell silent", tries=each.tries)
        return len(expired)


def claim_training_wake(catalog: Catalog, *, not_after_s: float) -> list[int]:
    """Ids of those that wait and that nobody told workers of for that long: the caller does."""
    with catalog.transaction() as connection:
        now = now_s(connection)
        due = or_(trainings.c.woken_at.is_(None), trainings.c.woken_at <= now - not_after_s)
        woken = (
            update(trainings)
            .where(trainings.c.state == QUEUED, due, catalog.owns(trainings.c.tenant))
            .values(woken_at=now)
            .returning(trainings.c.id)
        )
        return sorted(connection.execute(woken).scalars())


def has_waiting(catalog: Catalog) -> bool:
    with catalog.reading() as connection:
        query = select(trainings.c.id).where(
            trainings.c.state == QUEUED, catalog.owns(trainings.c.tenant)
        )
        return connection.execute(query.limit(1)).first() is not None


# --- leftovers ------------------------------------------------------------------------------------


def ended_trainings(
    catalog: Catalog, *, grace_s: float, failed_s: float, limit: int
) -> list[Training]:
    """Published or cancelled so long ago that no worker writes checkpoints of them any more, or
    failed so long ago that nobody retries them."""
    with catalog.reading() as connection:
        now = now_s(connection)
        is_over = trainings.c.state.in_((PUBLISHED, CANCELLED))
        due = or_(
            and_(is_over, trainings.c.ended_at < now - grace_s),
            and_(trainings.c.state == FAILED, trainings.c.ended_at < now - failed_s),
        )
        query = select(trainings).where(
            catalog.owns(trainings.c.tenant), trainings.c.collected_at.is_(None), due
        )
        rows = connection.execute(query.order_by(trainings.c.id).limit(limit))
        return [Training(**row._mapping) for row in rows]


@contextmanager
def collecting(catalog: Catalog, training: Training) -> Iterator[bool]:
    """Nobody retries the training while the block deletes its checkpoint. Yields False if somebody
    did, or if another has collected it."""
    same = and_(
        trainings.c.id == training.id,
        trainings.c.state == training.state,
        trainings.c.fence == training.fence,
        trainings.c.collected_at.is_(None),
    )
    with catalog.transaction() as connection:
        found = connection.execute(select(trainings.c.id).where(same).with_for_update()).first()
        yield found is not None
        if found is not None:
            values: dict[str, Any] = {"collected_at": now_s(connection)}
            values |= {"checkpoint": None, "checkpoint_images_seen": None}
            connection.execute(update(trainings).where(same).values(values))


def _fail_spent(connection: Connection, training: Training) -> None:
    detail = f"; the last error was: {training.error}" if training.error else ""
    error = f"it was begun {training.tries} times without a new checkpoint{detail}"
    end_training(connection, training, FAILED, {"error": error})


def _requeue(connection: Connection, training: Training, *, error: str, tries: int) -> None:
    values: dict[str, Any] = {"state": QUEUED, "owner": None, "lease_until": None}
    values |= {"woken_at": None, "error": error, "tries": max(0, tries)}
    connection.execute(update(trainings).where(trainings.c.id == training.id).values(values))
    record_training_event(
        connection, training_by_id(connection, training.id), REQUEUED, {"reason": error}
    )


@contextmanager
def _holding(catalog: Catalog, claim: Training) -> Iterator[Connection]:
    """A transaction in which the training stays the claim's. Raises LeaseLostError."""
    with catalog.transaction() as connection:
        if not _is_held(connection, claim):
            raise LeaseLostError(
                f"training {claim.uid} was cancelled, or claimed by another worker"
            )
        yield connection


def _held(claim: Training) -> ColumnElement[bool]:
    return and_(
        trainings.c.id == claim.id,
        trainings.c.state == RUNNING,
        trainings.c.owner == claim.owner,
        trainings.c.fence == claim.fence,
    )


def _is_held(connection: Connection, claim: Training) -> bool:
    query = select(trainings.c.id).where(_held(claim)).with_for_update()
    return connection.execute(query).first() is not None
