"""Jobs: created with their first units in one transaction; found, reopened, restarted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.rows import (
    FAILED,
    LEASED,
    PENDING,
    QUARANTINED,
    RUNNING,
    Job,
    NewUnit,
)
from datagen.catalog.tables import contexts, jobs, models, objects, recipes, rejections, samples
from datagen.catalog.tables import units as units_table
from datagen.catalog.units import insert_units
from datagen.errors import CatalogError


@dataclass(frozen=True)
class NewJob:
    """Everything that a job pins. *_body: canonical JSON."""

    name: str
    recipe_digest: str
    recipe_body: str
    model_digest: str
    model_name: str
    model_generator: str
    model_config: str
    context_digest: str
    context_body: str
    fingerprint: str
    unit_size: int
    batch_size: int


def find_job(catalog: Catalog, name: str, recipe_digest: str) -> Job | None:
    with catalog.reading() as connection:
        query = _select_job().where(jobs.c.name == name, jobs.c.recipe_digest == recipe_digest)
        return _job(connection.execute(query).first())


def get_job(catalog: Catalog, job_id: int) -> Job | None:
    with catalog.reading() as connection:
        return _job(connection.execute(_select_job().where(jobs.c.id == job_id)).first())


def create_job(
    catalog: Catalog, new: NewJob, first_units: Sequence[NewUnit], *, num_races: int = 8
) -> Job:
    """The job with its recipe, model, context and first units, in one transaction.

    If the same recipe of the same name has a job, returns that one.
    """
    try:
        with catalog.transaction() as connection:
            existing = _existing(connection, new)
            if existing is not None:
                return existing
            _insert_pinned(connection, new)
            version = connection.execute(
                select(func.coalesce(func.max(jobs.c.version), 0) + 1).where(
                    jobs.c.name == new.name
                )
            ).scalar_one()
            job_id = connection.execute(
                insert(jobs)
                .values(
                    name=new.name,
                    version=version,
                    recipe_digest=new.recipe_digest,
                    context_id=_context_id(connection, new),
                    fingerprint=new.fingerprint,
                    unit_size=new.unit_size,
                    batch_size=new.batch_size,
                    state=RUNNING,
                    created_at=now_s(connection),
                )
                .returning(jobs.c.id)
            ).scalar_one()
            insert_units(connection, job_id, first_units)
            created = _existing(connection, new)
            assert created is not None
            return created
    except IntegrityError as error:
        # Two submitters raced for one version number; the winner's row is visible now.
        if num_races == 0:
            reason = str(error.orig)
            raise CatalogError(
                f"the catalog contradicts itself ({reason}); restore it from a backup"
            ) from error
        return create_job(catalog, new, first_units, num_races=num_races - 1)


def reopen_job(catalog: Catalog, job_id: int) -> None:
    """A rerun of an unfinished job: failed units may be tried again, and tries start afresh."""
    with catalog.transaction() as connection:
        open_states = (PENDING, LEASED, QUARANTINED)
        connection.execute(
            update(units_table)
            .where(units_table.c.job_id == job_id, units_table.c.state.in_(open_states))
            .values(tries=0)
        )
        connection.execute(
            update(units_table)
            .where(units_table.c.job_id == job_id, units_table.c.state == QUARANTINED)
            .values(state=PENDING, owner=None, lease_until=None, error=None)
        )
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == FAILED)
            .values(state=RUNNING, error=None, finished_at=None)
        )


def restart_job(catalog: Catalog, job_id: int, new: NewJob, first_units: Iterable[NewUnit]) -> None:
    """An unfinished job under a new fingerprint: all that was decided is forgotten; the attempts
    of the old fingerprint stay in the cache under their own context."""
    with catalog.transaction() as connection:
        _forget_decisions(connection, job_id)
        _insert_pinned(connection, new)
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(
                context_id=_context_id(connection, new),
                fingerprint=new.fingerprint,
                unit_size=new.unit_size,
                batch_size=new.batch_size,
                state=RUNNING,
                error=None,
                shortfall=None,
                finished_at=None,
            )
        )
        insert_units(connection, job_id, first_units)


def begin_again(catalog: Catalog, job_id: int, first_units: Iterable[NewUnit]) -> None:
    """A running job whose cached attempts were found damaged: what is sound is found again."""
    with catalog.transaction() as connection:
        still = update(jobs).where(jobs.c.id == job_id, jobs.c.state == RUNNING)
        if connection.execute(still.values(shortfall=None)).rowcount == 1:
            _forget_decisions(connection, job_id)
            insert_units(connection, job_id, first_units)


def _forget_decisions(connection: Connection, job_id: int) -> None:
    for table in (samples, rejections, units_table):
        connection.execute(delete(table).where(table.c.job_id == job_id))
    connection.execute(
        delete(objects).where(objects.c.job_id == job_id, objects.c.kind != "attempts")
    )


def record_throughput(catalog: Catalog, model_digest: str, seconds_per_image: float) -> None:
    """What `plan` forecasts from: the last measurement on this catalog's workers."""
    with catalog.transaction() as connection:
        connection.execute(
            update(models)
            .where(models.c.digest == model_digest)
            .values(seconds_per_image=seconds_per_image)
        )


def measured_throughput(catalog: Catalog, model_digest: str) -> float | None:
    """Returns seconds per image on one worker, or None."""
    with catalog.reading() as connection:
        query = select(models.c.seconds_per_image).where(models.c.digest == model_digest)
        return connection.execute(query).scalar_one_or_none()


def _existing(connection: Connection, new: NewJob) -> Job | None:
    query = _select_job().where(jobs.c.name == new.name, jobs.c.recipe_digest == new.recipe_digest)
    return _job(connection.execute(query).first())


def _insert_pinned(connection: Connection, new: NewJob) -> None:
    now = now_s(connection)
    if _absent(connection, models.c.digest, new.model_digest):
        connection.execute(
            insert(models).values(
                digest=new.model_digest,
                name=new.model_name,
                generator=new.model_generator,
                config=new.model_config,
                created_at=now,
            )
        )
    if _absent(connection, recipes.c.digest, new.recipe_digest):
        connection.execute(
            insert(recipes).values(
                digest=new.recipe_digest, name=new.name, body=new.recipe_body, created_at=now
            )
        )
    if _absent(connection, contexts.c.digest, new.context_digest):
        connection.execute(
            insert(contexts).values(
                digest=new.context_digest, model_digest=new.model_digest, body=new.context_body
            )
        )


def _absent(connection: Connection, column: Any, value: str) -> bool:
    return connection.execute(select(column).where(column == value)).first() is None


def _context_id(connection: Connection, new: NewJob) -> int:
    query = select(contexts.c.id).where(contexts.c.digest == new.context_digest)
    return int(connection.execute(query).scalar_one())


def _select_job() -> Select[Any]:
    return (
        select(
            jobs,
            recipes.c.body.label("recipe_body"),
            contexts.c.digest.label("context_digest"),
        )
        .join(recipes, recipes.c.digest == jobs.c.recipe_digest)
        .join(contexts, contexts.c.id == jobs.c.context_id)
    )


def _job(row: Row[Any] | None) -> Job | None:
    return None if row is None else Job(**row._mapping)
