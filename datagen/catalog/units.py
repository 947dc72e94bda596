"""Claims, leases and fences. Every commit of work names the claim that it was done under."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, func, or_, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import bulk_insert, now_s
from datagen.catalog.events import JOB_FAILED, JOB_STAGE, record_event
from datagen.catalog.rows import (
    ACTIVE_STATES,
    DONE,
    FAILED,
    FINISH,
    GENERATE,
    JUDGE,
    LEASED,
    PACK,
    PENDING,
    PUBLISHING,
    QUARANTINED,
    RUNNING,
    Claimable,
    NewObject,
    NewUnit,
    Unit,
)
from datagen.catalog.tables import jobs, objects, units
from datagen.errors import LeaseLostError


def claim_unit(
    catalog: Catalog,
    *,
    job_id: int,
    owner: str,
    lease_s: float,
    max_tries: int,
    is_dead: Callable[[str], bool] | None = None,
    kinds: Sequence[str] | None = None,
) -> Unit | None:
    """Takes the first unit that is pending, or whose lease ran out, or whose owner is dead.

    A unit that this owner holds already is its own again, as the same try: the reply to its claim
    was lost, or the database was away when it was given back.

    kinds: of unit; None is any. is_dead: None if only leases tell. A unit that has had max_tries is
    quarantined and fails its job. Returns None if nothing can be claimed now.
    """
    with catalog.transaction() as connection:
        state = _state(connection, job_id)
        if state not in ACTIVE_STATES:
            return None
        now = now_s(connection)
        row = _first_claimable(connection, job_id, owner, now=now, is_dead=is_dead, kinds=kinds)
        if row is None:
            return None
        is_again = row.state == LEASED and row.owner == owner
        # Once a manifest may be there, publishing is tried until it succeeds; its late owner may
        # have begun to publish since we looked.
        is_spent = row.tries >= max_tries and not is_again
        if is_spent and _state(connection, job_id, lock=True) != PUBLISHING:
            reason = f"unit {row.kind}/{row.round}/{row.position} was tried {row.tries} times"
            detail = f"; the last error was: {row.error}" if row.error else ""
            _quarantine(connection, row.id, job_id, reason + detail, now=now)
            return None
        tries = row.tries if is_again else row.tries + 1
        connection.execute(
            update(units)
            .where(units.c.id == row.id)
            .values(
                state=LEASED,
                owner=owner,
                fence=row.fence + 1,
                tries=tries,
                lease_until=now + lease_s,
            )
        )
        return Unit(
            id=row.id,
            job_id=job_id,
            kind=row.kind,
            round=row.round,
            position=row.position,
            payload=row.payload,
            owner=owner,
            fence=row.fence + 1,
            tries=tries,
        )


def _first_claimable(
    connection: Connection,
    job_id: int,
    owner: str,
    *,
    now: float,
    is_dead: Callable[[str], bool] | None,
    kinds: Sequence[str] | None,
) -> Row[Any] | None:
    query = select(units).where(units.c.job_id == job_id).order_by(units.c.id)
    if kinds is not None:
        query = query.where(units.c.kind.in_(kinds))
    query = query.with_for_update(skip_locked=True)
    held = and_(units.c.state == LEASED, units.c.owner == owner)
    for free in (held, units.c.state == PENDING):  # each finds its rows in the index
        row = connection.execute(query.where(free).limit(1)).first()
        if row is not None:
            return row
    leased = query.where(units.c.state == LEASED)
    if is_dead is None:
        return connection.execute(leased.where(units.c.lease_until < now).limit(1)).first()
    for row in connection.execute(leased):
        if row.lease_until < now or is_dead(row.owner):
            return row
    return None


def renew_lease(catalog: Catalog, unit: Unit, *, lease_s: float) -> bool:
    """Returns False if the unit is no longer this claim's: its work must be thrown away."""
    with catalog.transaction() as connection:
        result = connection.execute(
            update(units).where(_held(unit)).values(lease_until=now_s(connection) + lease_s)
        )
        return result.rowcount == 1


def release_unit(catalog: Catalog, unit: Unit, *, error: str | None, count_try: bool) -> None:
    """Gives a unit back at once; nothing happens if the claim was lost already."""
    with catalog.transaction() as connection:
        tries = unit.tries if count_try else unit.tries - 1
        connection.execute(
            update(units)
            .where(_held(unit))
            .values(state=PENDING, owner=None, lease_until=None, tries=tries, error=error)
        )


def fail_unit(catalog: Catalog, unit: Unit, *, error: str) -> None:
    """A permanent error: the unit is quarantined and the job fails with the reason."""
    with catalog.transaction() as connection:
        if _held_now(connection, unit):
            _quarantine(connection, unit.id, unit.job_id, error, now=now_s(connection))


def _quarantine(
    connection: Connection, unit_id: int, job_id: int, error: str, *, now: float
) -> None:
    connection.execute(
        update(units).where(units.c.id == unit_id).values(state=QUARANTINED, error=error)
    )
    failed = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state.in_(ACTIVE_STATES))
        .values(state=FAILED, error=error, finished_at=now)
    )
    if failed.rowcount:
        record_event(connection, job_id, JOB_FAILED, {"error": error})


def finish_unit(
    connection: Connection, unit: Unit, *, num_generated: int | None = None, seconds: float
) -> None:
    """Marks the unit done inside the caller's transaction.

    Raises LeaseLostError, which rolls everything back, if someone else owns it now.
    """
    result = connection.execute(
        update(units)
        .where(_held(unit))
        .values(
            state=DONE,
            lease_until=None,
            num_generated=num_generated,
            seconds=seconds,
            error=None,
        )
    )
    if result.rowcount != 1 or _state(connection, unit.job_id) not in ACTIVE_STATES:
        raise LeaseLostError(f"unit {unit.id} was claimed by someone else, or its job has ended")


def check_held(connection: Connection, unit: Unit) -> None:
    if not _held_now(connection, unit):
        raise LeaseLostError(f"unit {unit.id} was claimed by someone else")


def insert_units(connection: Connection, job_id: int, new_units: Iterable[NewUnit]) -> None:
    columns = ("job_id", "kind", "round", "position", "payload", "state", "fence", "tries")
    bulk_insert(
        connection,
        units,
        columns,
        ((job_id, u.kind, u.round, u.position, u.payload, PENDING, 0, 0) for u in new_units),
        ignore_existing=True,
    )


def insert_objects(
    connection: Connection, job_id: int, new_objects: Sequence[NewObject]
) -> dict[str, int]:
    """Returns key -> row id, of rows that were there already as well."""
    if not new_objects:
        return {}
    now = now_s(connection)
    columns = (*NewObject._fields, "job_id", "created_at")
    bulk_insert(
        connection,
        objects,
        columns,
        ((*new, job_id, now) for new in new_objects),
        ignore_existing=True,
    )
    keys = [new.key for new in new_objects]
    found = connection.execute(select(objects.c.key, objects.c.id).where(objects.c.key.in_(keys)))
    return {row.key: row.id for row in found}


def begin_publishing(catalog: Catalog, unit: Unit, publication: str) -> None:
    """From here on the job can only be published, and all that this takes is in `publication`.
    Raises LeaseLostError if the claim was lost or the job cancelled."""
    with catalog.transaction() as connection:
        moved = connection.execute(
            update(jobs)
            .where(jobs.c.id == unit.job_id, jobs.c.state == RUNNING)
            .values(state=PUBLISHING, publication=publication)
        )
        if moved.rowcount != 1 or not _held_now(connection, unit):
            raise LeaseLostError(f"job {unit.job_id} has ended, or its last unit was taken over")


def advance_job(catalog: Catalog, job_id: int) -> bool:
    """Opens the next stage when the last unit of one is done. Any worker may call it, any number
    of times: a stage's units are unique. Returns whether it opened one."""
    with catalog.transaction() as connection:
        job = connection.execute(
            select(jobs.c.state).where(jobs.c.id == job_id).with_for_update()
        ).first()
        if job is None or job.state != RUNNING or has_open_units(connection, job_id):
            return False
        last_round = connection.execute(
            select(func.max(units.c.round)).where(units.c.job_id == job_id)
        ).scalar_one()
        packing = connection.execute(
            select(units.c.id).where(units.c.job_id == job_id, units.c.kind == PACK).limit(1)
        ).first()
        following = FINISH if packing is not None else JUDGE
        insert_units(connection, job_id, [NewUnit(following, last_round, 0, None)])
        record_event(connection, job_id, JOB_STAGE, {"stage": following, "round": last_round})
        return True


def is_active(catalog: Catalog, job_id: int) -> bool:
    with catalog.reading() as connection:
        return _state(connection, job_id) in ACTIVE_STATES


def claimable(catalog: Catalog, job_id: int | None = None) -> list[Claimable]:
    """Of one job or of all active ones: units that are pending or whose lease ran out."""
    with catalog.reading() as connection:
        now = now_s(connection)
        free = or_(
            units.c.state == PENDING,
            and_(units.c.state == LEASED, units.c.lease_until < now),
        )
        base = case((units.c.kind == GENERATE, jobs.c.generate_queue), else_=jobs.c.cpu_queue)
        since = func.coalesce(jobs.c.woken_at, jobs.c.created_at)
        query = (
            select(
                jobs.c.id,
                jobs.c.uid,
                jobs.c.tenant,
                units.c.kind,
                (base + "." + jobs.c.priority).label("queue"),
                func.count().label("num_units"),
                (now - since).label("oldest_s"),
            )
            .join(units, units.c.job_id == jobs.c.id)
            .where(jobs.c.state.in_(ACTIVE_STATES), base.is_not(None), free)
            .group_by(jobs.c.id, units.c.kind)
            .order_by(jobs.c.id)
        )
        if job_id is not None:
            query = query.where(jobs.c.id == job_id)
        return [Claimable(*row) for row in connection.execute(query)]


def has_open_units(connection: Connection, job_id: int) -> bool:
    open_unit = select(units.c.id).where(
        units.c.job_id == job_id, units.c.state.in_((PENDING, LEASED))
    )
    return connection.execute(open_unit.limit(1)).first() is not None


def unit_progress(catalog: Catalog, job_id: int) -> dict[tuple[str, str], int]:
    """Returns (kind, state) -> units, for progress bars."""
    with catalog.reading() as connection:
        rows = connection.execute(
            select(units.c.kind, units.c.state, func.count())
            .where(units.c.job_id == job_id)
            .group_by(units.c.kind, units.c.state)
        )
        return {(kind, state): count for kind, state, count in rows}


def unit_totals(catalog: Catalog, job_id: int) -> dict[str, float]:
    """Accounting of a job: units, claims (a claim beyond the first is work redone), images that
    the model made, and seconds of generation."""
    with catalog.reading() as connection:
        row = connection.execute(
            select(
                func.count(),
                func.coalesce(func.sum(units.c.fence), 0),
                func.coalesce(func.sum(units.c.num_generated), 0),
                func.coalesce(
                    func.sum(case((units.c.kind == GENERATE, units.c.seconds), else_=0.0)), 0.0
                ),
            ).where(units.c.job_id == job_id)
        ).one()
    return {
        "units": int(row[0]),
        "claims": int(row[1]),
        "images_generated": int(row[2]),
        "generate_seconds": float(row[3]),
    }


def _held(unit: Unit) -> ColumnElement[bool]:
    return and_(
        units.c.id == unit.id,
        units.c.state == LEASED,
        units.c.owner == unit.owner,
        units.c.fence == unit.fence,
    )


def _held_now(connection: Connection, unit: Unit) -> bool:
    return connection.execute(select(units.c.id).where(_held(unit))).first() is not None


def _state(connection: Connection, job_id: int, *, lock: bool = False) -> str | None:
    """lock: it stays so until the transaction ends."""
    query = select(jobs.c.state).where(jobs.c.id == job_id)
    return connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()
