"""Schedules and their fires. The primary key of a fire makes one job of it, whoever ticks.

Called by datagen/schedules.py and the API.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.tables import idempotency_keys, jobs, schedule_fires, schedules
from datagen.errors import ConflictError, NotFoundError, QuotaError

MAX_SCHEDULES = 1_000  # of one tenant


@dataclass(frozen=True)
class NewSchedule:
    """recipe: canonical JSON, as submitted. next_fire_at: None if it never fires."""

    name: str
    cron: str
    timezone: str
    recipe: str
    new_seed: bool
    priority: str
    next_fire_at: int | None
    created_by: str | None = None


@dataclass(frozen=True)
class Schedule:
    id: str
    tenant: str
    name: str
    cron: str
    timezone: str
    recipe: str
    new_seed: bool
    priority: str
    paused: bool
    next_fire_at: int | None
    created_by: str | None
    created_at: float


@dataclass(frozen=True)
class Fire:
    """One scheduled moment. Without job and error, its job is being made."""

    schedule_id: str
    fire_at: int
    job_uid: str | None
    error: str | None
    created_at: float


@dataclass(frozen=True)
class ClaimedFire:
    """A fire whose job the caller makes, until the lock ends and another may."""

    schedule: Schedule
    fire_at: int

    @property
    def idempotency_key(self) -> str:
        """With blanks, which no key of a request has."""
        return f"schedule {self.schedule.id} {self.fire_at}"


def create_schedule(catalog: Catalog, new: NewSchedule) -> Schedule:
    """Raises ConflictError if the tenant has one of this name, QuotaError if it has too many."""
    schedule_id, tenant = uuid4().hex, catalog.tenant
    assert tenant is not None
    try:
        with catalog.transaction() as connection:
            count = select(func.count()).where(schedules.c.tenant == tenant)
            if connection.execute(count).scalar_one() >= MAX_SCHEDULES:
                raise QuotaError(
                    f"schedule {new.name!r}: the tenant has {MAX_SCHEDULES}, the most there may "
                    "be; delete one first"
                )
            connection.execute(
                insert(schedules).values(
                    id=schedule_id,
                    tenant=tenant,
                    name=new.name,
                    cron=new.cron,
                    timezone=new.timezone,
                    recipe=new.recipe,
                    new_seed=int(new.new_seed),
                    priority=new.priority,
                    paused=0,
                    next_fire_at=new.next_fire_at,
                    created_by=new.created_by,
                    created_at=now_s(connection),
                )
            )
    except IntegrityError:
        raise ConflictError(
            f"schedule {new.name!r} exists; choose another name, or delete that one first"
        ) from None
    return get_schedule(catalog, schedule_id)


def get_schedule(catalog: Catalog, schedule_id: str) -> Schedule:
    """Raises NotFoundError."""
    query = select(schedules).where(schedules.c.id == schedule_id, catalog.owns(schedules.c.tenant))
    with catalog.reading() as connection:
        row = connection.execute(query).first()
    if row is None:
        raise _unknown(schedule_id)
    return _schedule(row)


def list_schedules(
    catalog: Catalog, *, limit: int, after_name: str | None = None
) -> list[Schedule]:
    """By name."""
    query = select(schedules).where(catalog.owns(schedules.c.tenant))
    if after_name is not None:
        query = query.where(schedules.c.name > after_name)
    with catalog.reading() as connection:
        rows = connection.execute(query.order_by(schedules.c.name).limit(limit))
        return [_schedule(row) for row in rows]


def set_paused(
    catalog: Catalog, schedule_id: str, *, paused: bool, next_fire_at: int | None
) -> Schedule:
    """next_fire_at: when it fires first once it goes on; what it missed is not made up for.

    Raises NotFoundError. One that is so already keeps its next fire time.
    """
    values = {"paused": 1} if paused else {"paused": 0, "next_fire_at": next_fire_at}
    with catalog.transaction() as connection:
        connection.execute(
            update(schedules)
            .where(
                schedules.c.id == schedule_id,
                catalog.owns(schedules.c.tenant),
                schedules.c.paused != int(paused),
            )
            .values(values)
        )
    return get_schedule(catalog, schedule_id)


def delete_schedule(catalog: Catalog, schedule_id: str) -> None:
    """With its fires; their jobs stay. Raises NotFoundError."""
    mine = (schedules.c.id == schedule_id, catalog.owns(schedules.c.tenant))
    with catalog.transaction() as connection:
        # Locked first: a fire that is being claimed comes before or not at all.
        locked = select(schedules.c.id).where(*mine).with_for_update()
        if connection.execute(locked).first() is None:
            raise _unknown(schedule_id)
        connection.execute(
            delete(schedule_fires).where(schedule_fires.c.schedule_id == schedule_id)
        )
        connection.execute(delete(schedules).where(*mine))


def last_fires(
    catalog: Catalog, schedule_ids: Sequence[str], *, limit: int
) -> dict[str, list[Fire]]:
    """Of each schedule, the newest first."""
    fires = {}
    with catalog.reading() as connection:
        for schedule_id in schedule_ids:
            rows = connection.execute(_fires_of(schedule_id).limit(limit))
            fires[schedule_id] = [Fire(**row._mapping) for row in rows]
    return fires


def database_time(catalog: Catalog) -> float:
    """From when on the next fire times count."""
    with catalog.reading() as connection:
        return now_s(connection)


# --- what a beat does -----------------------------------------------------------------------------


def due_schedules(catalog: Catalog, *, limit: int) -> tuple[float, list[Schedule]]:
    """Returns the database's time and the schedules that should have fired by then."""
    with catalog.reading() as connection:
        now = now_s(connection)
        query = (
            select(schedules)
            .where(
                schedules.c.next_fire_at <= now,
                schedules.c.paused == 0,
                catalog.owns(schedules.c.tenant),
            )
            .order_by(schedules.c.next_fire_at)
            .limit(limit)
        )
        return now, [_schedule(row) for row in connection.execute(query)]


def claim_fire(
    catalog: Catalog, seen: Schedule, fire_at: int, *, next_fire_at: int | None, lock_s: float
) -> ClaimedFire | None:
    """The fire's row and the schedule's next time, in one transaction.

    seen: as due_schedules gave it. Returns None if another beat was first, or if the schedule was
    paused, changed or deleted since.
    """
    with catalog.transaction() as connection:
        moved = connection.execute(
            update(schedules)
            .where(
                schedules.c.id == seen.id,
                schedules.c.paused == 0,
                schedules.c.next_fire_at == seen.next_fire_at,
            )
            .values(next_fire_at=next_fire_at)
        )
        if moved.rowcount == 0:
            return None
        fired = select(schedule_fires.c.fire_at).where(
            schedule_fires.c.schedule_id == seen.id, schedule_fires.c.fire_at == fire_at
        )
        if connection.execute(fired).first() is not None:
            return None
        fire, now = ClaimedFire(seen, fire_at), now_s(connection)
        times = {"locked_until": now + lock_s, "created_at": now}
        connection.execute(
            insert(schedule_fires).values(schedule_id=seen.id, fire_at=fire_at, **times)
        )
        connection.execute(
            insert(idempotency_keys).values(
                tenant=seen.tenant,
                key=fire.idempotency_key,
                body_sha256=hashlib.sha256(seen.recipe.encode()).hexdigest(),
                **times,
            )
        )
    return fire


def claim_abandoned_fires(catalog: Catalog, *, lock_s: float, limit: int) -> list[ClaimedFire]:
    """Fires whose beat died, or met a passing fault, between the row and the job."""
    claimed = []
    with catalog.transaction() as connection:
        now = now_s(connection)
        for row in connection.execute(_abandoned(catalog, now).limit(limit)).all():
            taken = connection.execute(
                update(schedule_fires)
                .where(
                    schedule_fires.c.schedule_id == row.id,
                    schedule_fires.c.fire_at == row.fire_at,
                    schedule_fires.c.locked_until == row.locked_until,
                    schedule_fires.c.job_id.is_(None),
                )
                .values(locked_until=now + lock_s)
            )
            if taken.rowcount == 1:
                claimed.append(ClaimedFire(_schedule(row), row.fire_at))
    return claimed


def job_of_fire(catalog: Catalog, fire: ClaimedFire) -> int | None:
    """The job that was made for it by a beat that died before it could say so."""
    query = select(idempotency_keys.c.job_id).where(
        idempotency_keys.c.tenant == fire.schedule.tenant,
        idempotency_keys.c.key == fire.idempotency_key,
    )
    with catalog.reading() as connection:
        return connection.execute(query).scalar_one_or_none()


def finish_fire(
    catalog: Catalog, fire: ClaimedFire, *, job_id: int | None = None, error: str | None = None
) -> None:
    """The job that was made, or why there is none."""
    with catalog.transaction() as connection:
        connection.execute(
            update(schedule_fires)
            .where(
                schedule_fires.c.schedule_id == fire.schedule.id,
                schedule_fires.c.fire_at == fire.fire_at,
                schedule_fires.c.job_id.is_(None),
            )
            .values(job_id=job_id, error=error)
        )


def _fires_of(schedule_id: str) -> Select[Any]:
    return (
        select(
            schedule_fires.c.schedule_id,
            schedule_fires.c.fire_at,
            jobs.c.uid.label("job_uid"),
            schedule_fires.c.error,
            schedule_fires.c.created_at,
        )
        .outerjoin(jobs, jobs.c.id == schedule_fires.c.job_id)
        .where(schedule_fires.c.schedule_id == schedule_id)
        .order_by(schedule_fires.c.fire_at.desc())
    )


def _abandoned(catalog: Catalog, now: float) -> Select[Any]:
    return (
        select(schedules, schedule_fires.c.fire_at, schedule_fires.c.locked_until)
        .join(schedules, schedules.c.id == schedule_fires.c.schedule_id)
        .where(
            schedule_fires.c.job_id.is_(None),
            schedule_fires.c.error.is_(None),
            schedule_fires.c.locked_until < now,
            catalog.owns(schedules.c.tenant),
        )
        .order_by(schedule_fires.c.locked_until)
    )


def _schedule(row: Row[Any] | Any) -> Schedule:
    values = {name: row._mapping[name] for name in schedules.c.keys()}  # noqa: SIM118
    values["new_seed"] = bool(values["new_seed"])
    values["paused"] = bool(values["paused"])
    if values["next_fire_at"] is not None:
        values["next_fire_at"] = int(values["next_fire_at"])
    return Schedule(**values)


def _unknown(schedule_id: str) -> NotFoundError:
    return NotFoundError(
        f"schedule {schedule_id[:64]!r} does not exist; GET /v1/schedules lists them"
    )
