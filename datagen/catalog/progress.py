"""How far one job is: what its units and rejections tell, without counting images.

Rows read: the job's units, thousands where its images are millions. Called by the API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import DONE, GENERATE, LEASED
from datagen.catalog.tables import objects, rejections, units


@dataclass(frozen=True)
class JobMeasure:
    """units: (kind, state) -> units. done_positions: finished generate units of round 0.

    done_refills: the payloads of finished later ones. rejected: class name -> reason -> attempts.
    """

    units: dict[tuple[str, str], int]
    done_positions: tuple[int, ...]
    done_refills: tuple[str, ...]
    rejected: dict[str, dict[str, int]]
    num_generated: int
    generate_seconds: float
    num_generating: int
    stored_bytes: int


def measure_job(catalog: Catalog, job_id: int, *, finished: bool) -> JobMeasure:
    """finished: then what is done of each stage is not read, since it is all."""
    with catalog.reading() as connection:
        by_kind: dict[tuple[str, str], int] = {}
        generated, seconds = 0, 0.0
        query = (
            select(
                units.c.kind,
                units.c.state,
                func.count(),
                func.coalesce(func.sum(units.c.num_generated), 0),
                func.coalesce(
                    func.sum(case((units.c.kind == GENERATE, units.c.seconds), else_=0.0)), 0.0
                ),
            )
            .where(units.c.job_id == job_id)
            .group_by(units.c.kind, units.c.state)
        )
        for kind, state, count, num, total_s in connection.execute(query):
            by_kind[kind, state] = count
            generated, seconds = generated + int(num), seconds + float(total_s)
        positions, refills = ((), ()) if finished else _done(connection, job_id)
        return JobMeasure(
            units=by_kind,
            done_positions=positions,
            done_refills=refills,
            rejected=_rejected(connection, job_id),
            num_generated=generated,
            generate_seconds=seconds,
            num_generating=by_kind.get((GENERATE, LEASED), 0),
            stored_bytes=_stored_bytes(connection, job_id),
        )


def _done(connection: Connection, job_id: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    query = select(units.c.position, units.c.payload).where(
        units.c.job_id == job_id, units.c.kind == GENERATE, units.c.state == DONE
    )
    rows: list[Any] = list(connection.execute(query))
    positions = tuple(sorted(row.position for row in rows if row.payload is None))
    return positions, tuple(row.payload for row in rows if row.payload is not None)


def _rejected(connection: Connection, job_id: int) -> dict[str, dict[str, int]]:
    query = (
        select(rejections.c.class_name, rejections.c.reason, func.count())
        .where(rejections.c.job_id == job_id)
        .group_by(rejections.c.class_name, rejections.c.reason)
    )
    found: dict[str, dict[str, int]] = {}
    for class_name, reason, count in connection.execute(query):
        found.setdefault(class_name, {})[reason] = count
    return found


def _stored_bytes(connection: Connection, job_id: int) -> int:
    query = select(func.coalesce(func.sum(objects.c.size_bytes), 0))
    return int(connection.execute(query.where(objects.c.job_id == job_id)).scalar_one())
