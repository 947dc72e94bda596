"""What the catalog knows of queues and work, for the metrics page: of its tenant, or of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.rows import ACTIVE_STATES, LEASED
from datagen.catalog.tables import contexts, jobs, models, rejections, units
from datagen.catalog.units import claimable


@dataclass(frozen=True)
class QueueMeasure:
    queue: str
    num_units: int
    oldest_s: float


@dataclass(frozen=True)
class ModelMeasure:
    """images_per_s: of one worker, None if it was not measured."""

    name: str
    num_generated: int
    images_per_s: float | None


@dataclass(frozen=True)
class WorkMeasure:
    """redone: claims beyond the first of each unit. rejections: by reason, of active jobs."""

    jobs: dict[str, int]
    expired_leases: int
    claims: int
    redone: int
    models: tuple[ModelMeasure, ...]
    rejections: dict[str, int]


def measure_queues(catalog: Catalog) -> list[QueueMeasure]:
    found: dict[str, QueueMeasure] = {}
    for each in claimable(catalog):
        if catalog.tenant not in (None, each.tenant):
            continue
        before = found.get(each.queue, QueueMeasure(each.queue, 0, 0.0))
        found[each.queue] = QueueMeasure(
            each.queue,
            before.num_units + each.num_units,
            max(before.oldest_s, each.oldest_s),
        )
    return list(found.values())


def measure_work(catalog: Catalog) -> WorkMeasure:
    mine = catalog.owns(jobs.c.tenant)
    with catalog.reading() as connection:
        states = _counts(
            connection,
            select(jobs.c.state, func.count()).where(mine).group_by(jobs.c.state),
        )
        late = (units.c.state == LEASED) & (units.c.lease_until < now_s(connection))
        expired, claims, claimed = connection.execute(
            select(
                func.coalesce(func.sum(case((late, 1), else_=0)), 0),
                func.coalesce(func.sum(units.c.fence), 0),
                func.coalesce(func.sum(case((units.c.fence > 0, 1), else_=0)), 0),
            )
            .join(jobs, jobs.c.id == units.c.job_id)
            .where(mine)
        ).one()
        return WorkMeasure(
            jobs=states,
            expired_leases=int(expired),
            claims=int(claims),
            redone=int(claims) - int(claimed),
            models=_models(connection, mine),
            rejections=_rejections(connection, mine),
        )


def _models(connection: Connection, mine: ColumnElement[bool]) -> tuple[ModelMeasure, ...]:
    made = func.coalesce(func.sum(units.c.num_generated), 0)
    query = (
        select(models.c.name, made, func.min(models.c.seconds_per_image))
        .join(contexts, contexts.c.model_digest == models.c.digest)
        .join(jobs, jobs.c.context_id == contexts.c.id)
        .join(units, units.c.job_id == jobs.c.id)
        .where(mine)
        .group_by(models.c.name)
        .order_by(models.c.name)
    )
    return tuple(
        ModelMeasure(name, int(num), 1 / seconds if seconds else None)
        for name, num, seconds in connection.execute(query)
    )


def _rejections(connection: Connection, mine: ColumnElement[bool]) -> dict[str, int]:
    """Of active jobs alone: their rows are few, those of all time are not."""
    query = (
        select(rejections.c.reason, func.count())
        .join(jobs, jobs.c.id == rejections.c.job_id)
        .where(jobs.c.state.in_(ACTIVE_STATES), mine)
        .group_by(rejections.c.reason)
    )
    return _counts(connection, query)


def _counts(connection: Connection, query: Select[Any]) -> dict[str, int]:
    return {row[0]: int(row[1]) for row in connection.execute(query)}
