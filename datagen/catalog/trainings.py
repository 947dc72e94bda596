"""Trainings of models: submitted once per key, listed, cancelled, tried again.

    QUEUED -> RUNNING -> PUBLISHED, FAILED or CANCELLED      FAILED -> QUEUED when it is retried

Called by datagen/trainings.py and the API; what workers do is in training_claims.py.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.events import queue_deliveries
from datagen.catalog.idempotency import KeyReusedError
from datagen.catalog.rows import CANCELLED, FAILED, PUBLISHED, RUNNING, EventRow
from datagen.catalog.tables import tenants, training_events, trainings
from datagen.errors import ConflictError, NotFoundError, QuotaError

# Where messages for the workers that train go.
TRAIN_QUEUE = "train"
QUEUED = "QUEUED"
LIVE_STATES = (QUEUED, RUNNING)

CREATED, STARTED, REQUEUED = "training.created", "training.started", "training.requeued"
RETRIED = "training.retried"
ENDS = {
    PUBLISHED: "training.published",
    FAILED: "training.failed",
    CANCELLED: "training.cancelled",
}


@dataclass(frozen=True)
class Training:
    """recipe: canonical JSON. progress: JSON of what the worker last told, None before the first
    claim. checkpoint: JSON, file name -> sha256. error: of the last try. model_digest: of the model
    that is registered, or may be: whoever set it died, or failed, between the two."""

    id: int
    uid: str
    tenant: str
    name: str
    recipe: str
    recipe_digest: str
    num_images: int
    state: str
    error: str | None
    owner: str | None
    fence: int
    tries: int
    lease_until: float | None
    woken_at: float | None
    progress: str | None
    checkpoint: str | None
    checkpoint_images_seen: int | None
    model_digest: str | None
    idempotency_key: str
    created_by: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    collected_at: float | None

    @property
    def files(self) -> dict[str, str]:
        """Of the stored checkpoint: name -> sha256."""
        found: dict[str, str] = json.loads(self.checkpoint) if self.checkpoint else {}
        return found


@dataclass(frozen=True)
class NewTraining:
    """recipe: canonical JSON. idempotency_key: of the tenant's request. asked: the recipe as it was
    sent, where it names the newest of something; None if it names all exactly."""

    name: str
    recipe: str
    recipe_digest: str
    num_images: int
    idempotency_key: str
    created_by: str | None = None
    asked: str | None = None


# --- submitting and reading -----------------------------------------------------------------------


def create_training(catalog: Catalog, new: NewTraining) -> tuple[Training, bool]:
    """The training, and whether it is new: a request that is sent again, and one for a recipe
    that is queued or running, get the one that there is.

    Raises KeyReusedError if the key is another request's, ConflictError if another recipe's
    training of the name has not ended, or QuotaError.
    """
    try:
        with catalog.transaction() as connection:
            known = _known(connection, catalog, new)
            if known is not None:
                return known, False
            _check_quota(connection, _tenant(catalog))
            return _insert(connection, catalog, new), True
    except IntegrityError:  # another request was faster, and its row is visible now
        with catalog.reading() as connection:
            known = _known(connection, catalog, new)
        if known is None:
            raise _busy_name(new.name) from None
        return known, False


def _known(connection: Connection, catalog: Catalog, new: NewTraining) -> Training | None:
    mine = _select(catalog)
    by_key = mine.where(trainings.c.idempotency_key == new.idempotency_key)
    found = _training(connection.execute(by_key).first())
    if found is not None:
        if not _is_same(found.recipe, new):
            raise KeyReusedError(
                f"idempotency key {new.idempotency_key!r} was used for another request"
            )
        return found
    live = mine.where(trainings.c.name == new.name, trainings.c.state.in_(LIVE_STATES))
    found = _training(connection.execute(live).first())
    if found is not None and not _is_same(found.recipe, new):
        raise _busy_name(new.name)
    return found


def _is_same(recipe: str, new: NewTraining) -> bool:
    """Whether it is what was asked for, now or when a name stood for an older version."""
    if new.asked is None or recipe == new.recipe:
        return recipe == new.recipe
    known, asked = json.loads(recipe), json.loads(new.asked)
    for of_known, of_asked, field in (
        (known, asked, "init"),
        (known.get("data", {}), asked.get("data", {}), "registered"),
    ):
        name, version_of = of_asked.get(field), of_known.get(field)
        if name and version_of and "@" not in name:
            of_known[field] = version_of.partition("@")[0]
    return bool(known == asked)


def _busy_name(name: str) -> ConflictError:
    return ConflictError(
        f"a training of model {name!r} by another recipe has not ended; cancel it, wait for it, "
        "or give the model another name"
    )


def _insert(connection: Connection, catalog: Catalog, new: NewTraining) -> Training:
    statement = insert(trainings).values(
        uid=uuid.uuid4().hex,
        tenant=_tenant(catalog),
        name=new.name,
        recipe=new.recipe,
        recipe_digest=new.recipe_digest,
        num_images=new.num_images,
        state=QUEUED,
        fence=0,
        tries=0,
        idempotency_key=new.idempotency_key,
        created_by=new.created_by,
        created_at=now_s(connection),
    )
    training_id = connection.execute(statement.returning(trainings.c.id)).scalar_one()
    training = training_by_id(connection, training_id)
    record_training_event(connection, training, CREATED, {"num_images": new.num_images})
    return training


def _check_quota(connection: Connection, tenant: str) -> None:
    """A tenant may have as many trainings queued and running as it may have running jobs."""
    quota = select(tenants.c.max_running_jobs).where(tenants.c.name == tenant).with_for_update()
    allowed = connection.execute(quota).scalar_one_or_none()
    if allowed is None:
        return
    live = (trainings.c.tenant == tenant) & trainings.c.state.in_(LIVE_STATES)
    count = connection.execute(select(func.count()).where(live)).scalar_one()
    if count >= allowed:
        raise QuotaError(
            f"tenant {tenant} has {count} trainings that are queued or run, of {allowed}; wait "
            "for one to end or cancel one"
        )


def get_training(catalog: Catalog, uid: str) -> Training:
    """Raises NotFoundError, also for another tenant's."""
    with catalog.reading() as connection:
        found = _training(
            connection.execute(_select(catalog).where(trainings.c.uid == uid)).first()
        )
    if found is None:
        raise NotFoundError(f"training {uid} does not exist; GET /v1/trainings lists those that do")
    return found


def list_trainings(
    catalog: Catalog,
    *,
    limit: int,
    before_id: int | None = None,
    states: Sequence[str] = (),
    name: str | None = None,
) -> list[Training]:
    """Newest first. before_id: of the last training of the page before."""
    query = _select(catalog).order_by(trainings.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(trainings.c.id < before_id)
    if states:
        query = query.where(trainings.c.state.in_(states))
    if name is not None:
        query = query.where(trainings.c.name == name)
    with catalog.reading() as connection:
        return [Training(**row._mapping) for row in connection.execute(query)]


def count_trainings(catalog: Catalog) -> dict[str, int]:
    """State -> how many."""
    query = select(trainings.c.state, func.count()).where(catalog.owns(trainings.c.tenant))
    with catalog.reading() as connection:
        rows = connection.execute(query.group_by(trainings.c.state))
        return {state: int(count) for state, count in rows}


def list_training_events(
    catalog: Catalog, training_id: int, *, after_id: int, limit: int
) -> list[EventRow]:
    """In order, those after an event."""
    events = training_events.c
    query = (
        select(events.id, events.type, events.body, events.created_at)
        .where(events.training_id == training_id, events.id > after_id)
        .order_by(events.id)
        .limit(limit)
    )
    with catalog.reading() as connection:
        return [EventRow(*row) for row in connection.execute(query)]


# --- changed by those whose it is -----------------------------------------------------------------


def cancel_training(catalog: Catalog, uid: str) -> Training:
    """Its worker stops within a few steps. One that failed gives up its checkpoint. Cancelling
    twice changes nothing. Raises NotFoundError, or ConflictError once its model may exist: also
    while it waits, or failed, after that."""
    with catalog.transaction() as connection:
        found = _locked(connection, catalog, uid)
        if found.state == CANCELLED:
            return found
        if found.state == PUBLISHED:
            raise ConflictError(f"training {uid} cannot be cancelled any more: it is PUBLISHED")
        if found.model_digest is not None:
            raise ConflictError(
                f"training {uid} cannot be cancelled any more: its model is being registered, or "
                f"is already; it is {found.state}: see the models, and remove the model if it is "
                "not wanted"
            )
        return end_training(connection, found, CANCELLED, {})


def retry_training(catalog: Catalog, uid: str) -> Training:
    """A failed training goes on from its last checkpoint.

    Raises NotFoundError, QuotaError, or ConflictError if it has not failed, or if another one of
    the name is queued or running.
    """
    try:
        with catalog.transaction() as connection:
            found = _locked(connection, catalog, uid)
            if found.state != FAILED:
                raise ConflictError(
                    f"training {uid} is {found.state}: only a FAILED training can be retried"
                )
            _check_quota(connection, found.tenant)
            values = {"state": QUEUED, "tries": 0, "error": None, "ended_at": None}
            values |= {"woken_at": None, "collected_at": None}
            connection.execute(update(trainings).where(trainings.c.id == found.id).values(values))
            return record_training_event(
                connection, training_by_id(connection, found.id), RETRIED, {}
            )
    except IntegrityError:
        raise _busy_name(get_training(catalog, uid).name) from None


# --- inside a transaction -------------------------------------------------------------------------


def end_training(
    connection: Connection, training: Training, state: str, about: Mapping[str, Any]
) -> Training:
    values = {"state": state, "error": about.get("error"), "ended_at": now_s(connection)}
    values |= {"owner": None, "lease_until": None}
    connection.execute(update(trainings).where(trainings.c.id == training.id).values(values))
    return record_training_event(
        connection, training_by_id(connection, training.id), ENDS[state], about
    )


def record_training_event(
    connection: Connection, training: Training, event_type: str, body: Mapping[str, Any]
) -> Training:
    """The event, in the transaction of the change that it tells of; and, of an end, what webhooks
    are owed. training: as it is now; returned."""
    about = {"training_id": training.uid, "name": training.name, "state": training.state, **body}
    now = now_s(connection)
    event_id = connection.execute(
        insert(training_events)
        .values(training_id=training.id, type=event_type, body=json.dumps(about), created_at=now)
        .returning(training_events.c.id)
    ).scalar_one()
    if event_type in ENDS.values():
        queue_deliveries(
            connection,
            tenant=training.tenant,
            event_id=f"evt_training_{event_id}",
            event_type=event_type,
            data=about,
            now=now,
        )
    return training


def _locked(connection: Connection, catalog: Catalog, uid: str) -> Training:
    query = _select(catalog).where(trainings.c.uid == uid).with_for_update()
    found = _training(connection.execute(query).first())
    if found is None:
        raise NotFoundError(f"training {uid} does not exist")
    return found


def training_by_id(connection: Connection, training_id: int) -> Training:
    row = connection.execute(select(trainings).where(trainings.c.id == training_id)).one()
    return Training(**row._mapping)


def _tenant(catalog: Catalog) -> str:
    """Whose new rows are."""
    assert catalog.tenant is not None, "rows are made for one tenant"
    return catalog.tenant


def _select(catalog: Catalog) -> Select[Any]:
    return select(trainings).where(catalog.owns(trainings.c.tenant))


def _training(row: Row[Any] | None) -> Training | None:
    return None if row is None else Training(**row._mapping)
