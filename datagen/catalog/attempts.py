"""The attempt cache, and what each job rejected from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, select, update

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import bulk_insert
from datagen.catalog.events import JOB_STAGE, record_event
from datagen.catalog.rows import GENERATE, NewAttempt, NewObject, NewUnit, StoredAttempt, Unit
from datagen.catalog.tables import attempts, jobs, objects, rejections
from datagen.catalog.units import check_held, finish_unit, insert_objects, insert_units

_STREAM_ROWS = 1_000


def cached_attempts(
    catalog: Catalog, context_id: int, class_name: str, *, ordinals: tuple[int, int]
) -> list[StoredAttempt]:
    """All attempts in the cache of one class, of ordinals in [first, last]."""
    with catalog.reading() as connection:
        query = _select_stored(context_id, class_name).where(attempts.c.ordinal.between(*ordinals))
        return [StoredAttempt(*row) for row in connection.execute(query)]


def iterate_scores(
    catalog: Catalog, context_id: int, class_name: str, *, num_ordinals: int
) -> Iterator[tuple[int, int, str]]:
    """(ordinal, attempt, scores) in order, streaming."""
    query = (
        select(attempts.c.ordinal, attempts.c.attempt, attempts.c.scores)
        .where(
            attempts.c.context_id == context_id,
            attempts.c.class_name == class_name,
            attempts.c.ordinal < num_ordinals,
        )
        .order_by(attempts.c.ordinal, attempts.c.attempt)
    )
    with (
        catalog.reading() as connection,
        connection.execution_options(yield_per=_STREAM_ROWS).execute(query) as result,
    ):
        for row in result:
            yield row[0], row[1], row[2]


def chosen_attempts(
    catalog: Catalog, *, context_id: int, job_id: int, ordinals: Mapping[str, Sequence[int]]
) -> dict[str, dict[int, StoredAttempt]]:
    """ordinals: of each class, sorted, at least one. Returns class name -> ordinal -> the attempt
    that the job chose: the one after those it rejected."""
    found = {}
    with catalog.reading() as connection:
        for class_name, wanted in ordinals.items():
            query = _select_chosen(context_id, job_id, class_name, wanted)
            rows = (StoredAttempt(*row) for row in connection.execute(query))
            asked = set(wanted)
            found[class_name] = {row.ordinal: row for row in rows if row.ordinal in asked}
    return found


def _select_chosen(
    context_id: int, job_id: int, class_name: str, ordinals: Sequence[int]
) -> Select[Any]:
    num_rejected = (
        select(func.count())
        .where(
            rejections.c.job_id == job_id,
            rejections.c.class_name == class_name,
            rejections.c.ordinal == attempts.c.ordinal,
        )
        .scalar_subquery()
    )
    query = _select_stored(context_id, class_name).where(attempts.c.attempt == num_rejected)
    if ordinals[-1] - ordinals[0] < 4 * len(ordinals):  # dense: others among them cost little
        return query.where(attempts.c.ordinal.between(ordinals[0], ordinals[-1]))
    return query.where(attempts.c.ordinal.in_(ordinals))


def commit_generated(
    catalog: Catalog,
    unit: Unit,
    *,
    context_id: int,
    stored: NewObject | None,
    made: Iterable[NewAttempt],
    rescored: Sequence[tuple[str, int, int, str]],
    num_generated: int,
    seconds: float,
) -> None:
    """Keys and scores in bulk, the unit done: all or, if the claim was lost, nothing.

    rescored: (class name, ordinal, attempt, scores) of cached attempts that lacked a score.
    """
    with catalog.transaction() as connection:
        finish_unit(connection, unit, num_generated=num_generated, seconds=seconds)
        if stored is not None:
            object_id = insert_objects(connection, unit.job_id, [stored])[stored.key]
            columns = ("context_id", "object_id", *NewAttempt._fields)
            rows = ((context_id, object_id, *attempt) for attempt in made)
            bulk_insert(connection, attempts, columns, rows, ignore_existing=True)
        if rescored:
            connection.execute(
                update(attempts)
                .where(
                    attempts.c.context_id == context_id,
                    attempts.c.class_name == bindparam("b_class"),
                    attempts.c.ordinal == bindparam("b_ordinal"),
                    attempts.c.attempt == bindparam("b_attempt"),
                )
                .values(scores=bindparam("b_scores")),
                [
                    {"b_class": c, "b_ordinal": o, "b_attempt": a, "b_scores": s}
                    for c, o, a, s in rescored
                ],
            )


def attempt_keys(catalog: Catalog, job_id: int) -> list[str]:
    """Objects of the cache that the job and those of its context wrote."""
    own = select(jobs.c.context_id).where(jobs.c.id == job_id).scalar_subquery()
    query = (
        select(objects.c.key)
        .join(jobs, jobs.c.id == objects.c.job_id)
        .where(jobs.c.context_id == own, objects.c.kind == "attempts")
        .order_by(objects.c.id)
    )
    with catalog.reading() as connection:
        return list(connection.execute(query).scalars())


def forget_attempts(catalog: Catalog, object_key: str) -> None:
    """The attempts of a damaged object: they count as never made."""
    with catalog.transaction() as connection:
        of_object = select(objects.c.id).where(objects.c.key == object_key).scalar_subquery()
        connection.execute(delete(attempts).where(attempts.c.object_id == of_object))
        connection.execute(delete(objects).where(objects.c.key == object_key))


def replace_rejections(
    catalog: Catalog,
    unit: Unit,
    class_name: str,
    rows: Iterable[tuple[int, int, str]],
) -> None:
    """(ordinal, attempt, reason) of one class, as the judging unit sees them now."""
    with catalog.transaction() as connection:
        check_held(connection, unit)
        connection.execute(
            delete(rejections).where(
                rejections.c.job_id == unit.job_id, rejections.c.class_name == class_name
            )
        )
        bulk_insert(
            connection,
            rejections,
            ("job_id", "class_name", "ordinal", "attempt", "reason"),
            ((unit.job_id, class_name, *row) for row in rows),
        )


def commit_judged(
    catalog: Catalog,
    unit: Unit,
    *,
    next_stage: str,
    next_units: Iterable[NewUnit],
    shortfall: str | None,
    seconds: float,
) -> None:
    """The round is judged: the next round's units, or the pack units, are opened with it."""
    next_round = unit.round + 1 if next_stage == GENERATE else unit.round
    with catalog.transaction() as connection:
        finish_unit(connection, unit, seconds=seconds)
        insert_units(connection, unit.job_id, next_units)
        stage = {"stage": next_stage, "round": next_round}
        record_event(connection, unit.job_id, JOB_STAGE, stage)
        if shortfall is not None:
            connection.execute(
                update(jobs).where(jobs.c.id == unit.job_id).values(shortfall=shortfall)
            )


def rejections_by_reason(catalog: Catalog, job_id: int) -> dict[str, dict[str, int]]:
    """class name -> reason -> attempts."""
    with catalog.reading() as connection:
        rows = connection.execute(
            select(rejections.c.class_name, rejections.c.reason, func.count())
            .where(rejections.c.job_id == job_id)
            .group_by(rejections.c.class_name, rejections.c.reason)
            .order_by(rejections.c.class_name, rejections.c.reason)
        )
        funnel: dict[str, dict[str, int]] = {}
        for class_name, reason, count in rows:
            funnel.setdefault(class_name, {})[reason] = count
        return funnel


def _select_stored(context_id: int, class_name: str) -> Select[Any]:
    return (
        select(
            attempts.c.ordinal,
            attempts.c.attempt,
            objects.c.key,
            objects.c.num_samples,
            attempts.c.position,
            attempts.c.raw_sha256,
            attempts.c.scores,
        )
        .join(objects, objects.c.id == attempts.c.object_id)
        .where(attempts.c.context_id == context_id, attempts.c.class_name == class_name)
    )
