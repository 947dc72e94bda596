"""Jobs: created with their first units in one transaction; found, reopened, restarted."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import lock_name, now_s
from datagen.catalog.events import JOB_CANCELLED, JOB_CREATED, JOB_RETRIED, record_event
from datagen.catalog.rows import (
    CANCELLED,
    FAILED,
    LEASED,
    PENDING,
    PUBLISHING,
    QUARANTINED,
    RUNNING,
    Job,
    NewUnit,
)
from datagen.catalog.tables import (
    contexts,
    idempotency_keys,
    jobs,
    models,
    objects,
    recipes,
    rejections,
    samples,
)
from datagen.catalog.tables import units as units_table
from datagen.catalog.tenants import check_quota, check_running
from datagen.catalog.units import insert_units
from datagen.errors import CatalogError, ConflictError, NotFoundError


@dataclass(frozen=True)
class PinnedModel:
    """config: JSON."""

    digest: str
    name: str
    generator: str
    config: str


@dataclass(frozen=True)
class NewJob:
    """Everything that a job pins. *_body: canonical JSON. name: of the data set; a preview's has a
    dot, which no recipe's has. expires_in_s: of a preview."""

    name: str
    recipe_digest: str
    recipe_body: str
    model: PinnedModel
    context_digest: str
    context_body: str
    fingerprint: str
    unit_size: int
    batch_size: int
    num_images: int = 0
    conditioner: PinnedModel | None = None
    generate_queue: str | None = None
    cpu_queue: str | None = None
    kind: str = "dataset"
    priority: str = "batch"
    created_by: str | None = None
    expires_in_s: float | None = None


def find_job(catalog: Catalog, name: str, recipe_digest: str) -> Job | None:
    """The recipe's job of that name that was not cancelled."""
    with catalog.reading() as connection:
        return _existing(connection, catalog, name, recipe_digest)


def get_job(catalog: Catalog, job_id: int) -> Job | None:
    with catalog.reading() as connection:
        query = _select_job(catalog).where(jobs.c.id == job_id)
        return _job(connection.execute(query).first())


def get_job_by_uid(catalog: Catalog, uid: str) -> Job | None:
    with catalog.reading() as connection:
        return _job(connection.execute(_select_job(catalog).where(jobs.c.uid == uid)).first())


def list_jobs(
    catalog: Catalog,
    *,
    limit: int,
    before_id: int | None = None,
    states: Sequence[str] = (),
    name: str | None = None,
    kind: str | None = "dataset",
    created_after: float | None = None,
    created_before: float | None = None,
) -> list[Job]:
    """Newest first. before_id: of the last job of the page before. kind: None is any."""
    query = _select_job(catalog).order_by(jobs.c.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(jobs.c.id < before_id)
    if states:
        query = query.where(jobs.c.state.in_(states))
    if name is not None:
        query = query.where(jobs.c.name == name)
    if kind is not None:
        query = query.where(jobs.c.kind == kind)
    if created_after is not None:
        query = query.where(jobs.c.created_at >= created_after)
    if created_before is not None:
        query = query.where(jobs.c.created_at < created_before)
    with catalog.reading() as connection:
        return [Job(**row._mapping) for row in connection.execute(query)]


def create_job(
    catalog: Catalog,
    new: NewJob,
    first_units: Sequence[NewUnit],
    *,
    idempotency_key: str | None = None,
    num_races: int = 8,
) -> Job:
    """The job with its recipe, model, context, first units and event, in one transaction.

    If the same recipe of the same name has a job that was not cancelled, returns that one.
    idempotency_key: of a request that holds it; it is answered with this job from now on.
    """
    try:
        with catalog.transaction() as connection:
            job = _existing(connection, catalog, new.name, new.recipe_digest)
            if job is None:
                # One after the other: of all that take a version's number at once, one would win.
                lock_name(connection, f"versions/{_tenant(catalog)}/{new.name}")
                job = _existing(connection, catalog, new.name, new.recipe_digest)
            if job is None:
                _insert_pinned(connection, catalog, new)
                job_id = _insert_job(connection, catalog, new)
                insert_units(connection, job_id, first_units)
                record_event(connection, job_id, JOB_CREATED, {"num_images": new.num_images})
                job = _existing(connection, catalog, new.name, new.recipe_digest)
                assert job is not None
            if idempotency_key is not None:
                connection.execute(
                    update(idempotency_keys)
                    .where(
                        idempotency_keys.c.tenant == _tenant(catalog),
                        idempotency_keys.c.key == idempotency_key,
                    )
                    .values(job_id=job.id)
                )
            return job
    except IntegrityError as error:
        # Two submitters raced for one version number; the winner's row is visible now.
        if num_races == 0:
            reason = str(error.orig)
            raise CatalogError(
                f"the catalog contradicts itself ({reason}); restore it from a backup"
            ) from error
        return create_job(
            catalog,
            new,
            first_units,
            idempotency_key=idempotency_key,
            num_races=num_races - 1,
        )


def _insert_job(connection: Connection, catalog: Catalog, new: NewJob) -> int:
    tenant, now = _tenant(catalog), now_s(connection)
    check_quota(connection, tenant, num_images=new.num_images)
    newest = select(func.coalesce(func.max(jobs.c.version), 0)).where(
        jobs.c.tenant == tenant, jobs.c.name == new.name
    )
    statement = insert(jobs).values(
        uid=uuid.uuid4().hex,
        tenant=tenant,
        kind=new.kind,
        priority=new.priority,
        name=new.name,
        version=connection.execute(newest).scalar_one() + 1,
        recipe_digest=new.recipe_digest,
        context_id=_context_id(connection, catalog, new),
        fingerprint=new.fingerprint,
        unit_size=new.unit_size,
        batch_size=new.batch_size,
        state=RUNNING,
        num_images=new.num_images,
        generate_queue=new.generate_queue,
        cpu_queue=new.cpu_queue,
        created_by=new.created_by,
        created_at=now,
        expires_at=None if new.expires_in_s is None else now + new.expires_in_s,
    )
    return int(connection.execute(statement.returning(jobs.c.id)).scalar_one())


def cancel_job(catalog: Catalog, job_id: int) -> Job:
    """Its workers stop at their next batch. Cancelling twice changes nothing.

    Raises NotFoundError, or ConflictError once the manifest may be there.
    """
    with catalog.transaction() as connection:
        cancelled = connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id, catalog.owns(jobs.c.tenant), jobs.c.state == RUNNING)
            .values(state=CANCELLED, finished_at=now_s(connection))
        )
        job = _locked(connection, catalog, job_id)
        if cancelled.rowcount == 1:
            record_event(connection, job_id, JOB_CANCELLED, {})
        elif job.state != CANCELLED:
            raise ConflictError(
                f"job {job.uid} is {job.state}: only a RUNNING job can be cancelled"
            )
        return job


def retry_job(catalog: Catalog, job_id: int) -> Job:
    """A failed job goes on: its failed units are tried again, what is done stays done.

    Raises NotFoundError, ConflictError if it has not failed, or QuotaError if too many run.
    """
    with catalog.transaction() as connection:
        job = _locked(connection, catalog, job_id)
        if job.state != FAILED:
            raise ConflictError(f"job {job.uid} is {job.state}: only a FAILED job can be retried")
        _reopen(connection, job)
        return _locked(connection, catalog, job_id)


def set_priority(catalog: Catalog, job_id: int, priority: str) -> Job:
    """Raises NotFoundError."""
    with catalog.transaction() as connection:
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id, catalog.owns(jobs.c.tenant))
            .values(priority=priority, woken_at=None)
        )
        return _locked(connection, catalog, job_id)


def claim_wake(catalog: Catalog, job_id: int, *, not_after_s: float) -> bool:
    """Whether the caller is the one to wake the job's queues now: nobody did for that long."""
    with catalog.transaction() as connection:
        now = now_s(connection)
        due = or_(jobs.c.woken_at.is_(None), jobs.c.woken_at <= now - not_after_s)
        woken = update(jobs).where(jobs.c.id == job_id, due).values(woken_at=now)
        return connection.execute(woken).rowcount == 1


def running_jobs(catalog: Catalog) -> list[int]:
    """The ids of those that may need to be moved on."""
    with catalog.reading() as connection:
        query = select(jobs.c.id).where(jobs.c.state == RUNNING).order_by(jobs.c.id)
        return list(connection.execute(query).scalars())


def reopen_job(catalog: Catalog, job_id: int) -> None:
    """A rerun of an unfinished job: failed units may be tried again, and tries start afresh."""
    with catalog.transaction() as connection:
        _reopen(connection, _locked(connection, catalog, job_id))


def _reopen(connection: Connection, job: Job) -> None:
    job_id = job.id
    if job.state == FAILED:
        check_running(connection, job.tenant)
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
    reopened = connection.execute(
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == FAILED)
        .values(state=RUNNING, error=None, finished_at=None, woken_at=None, collected_at=None)
    )
    if reopened.rowcount:
        record_event(connection, job_id, JOB_RETRIED, {})


def restart_job(catalog: Catalog, job_id: int, new: NewJob, first_units: Iterable[NewUnit]) -> None:
    """An unfinished job under a new fingerprint: all that was decided is forgotten; the attempts
    of the old fingerprint stay in the cache under their own context. One that is being published
    is only given to the workers of now: any of them can end it. Raises ConflictError if the job
    has ended, QuotaError if it had failed and too many run."""
    with catalog.transaction() as connection:
        job = _locked(connection, catalog, job_id)
        if job.state == PUBLISHING:
            queues = {"generate_queue": new.generate_queue, "cpu_queue": new.cpu_queue}
            connection.execute(
                update(jobs).where(jobs.c.id == job_id).values(woken_at=None, **queues)
            )
            return
        if job.state not in (RUNNING, FAILED):
            raise ConflictError(
                f"job {job.uid} is {job.state}: only a RUNNING or FAILED job can be restarted"
            )
        if job.state == FAILED:
            check_running(connection, job.tenant)
        _forget_decisions(connection, job_id)
        _insert_pinned(connection, catalog, new)
        connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id)
            .values(
                context_id=_context_id(connection, catalog, new),
                fingerprint=new.fingerprint,
                unit_size=new.unit_size,
                batch_size=new.batch_size,
                generate_queue=new.generate_queue,
                cpu_queue=new.cpu_queue,
                woken_at=None,
                state=RUNNING,
                error=None,
                shortfall=None,
                finished_at=None,
                collected_at=None,
                publication=None,
            )
        )
        insert_units(connection, job_id, first_units)
        record_event(connection, job_id, JOB_RETRIED, {"restarted": True})


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


def _existing(
    connection: Connection, catalog: Catalog, name: str, recipe_digest: str
) -> Job | None:
    query = _select_job(catalog).where(
        jobs.c.name == name, jobs.c.recipe_digest == recipe_digest, jobs.c.state != CANCELLED
    )
    return _job(connection.execute(query).first())


def _locked(connection: Connection, catalog: Catalog, job_id: int) -> Job:
    """Nobody changes the job until the transaction ends. Raises NotFoundError."""
    query = _select_job(catalog).where(jobs.c.id == job_id).with_for_update(of=jobs)
    job = _job(connection.execute(query).first())
    if job is None:
        raise NotFoundError(f"job {job_id} does not exist")
    return job


def _tenant(catalog: Catalog) -> str:
    """Whose new rows are."""
    assert catalog.tenant is not None, "rows are made for one tenant"
    return catalog.tenant


def _insert_pinned(connection: Connection, catalog: Catalog, new: NewJob) -> None:
    now = now_s(connection)
    for model in filter(None, (new.model, new.conditioner)):
        if _absent(connection, models.c.digest, model.digest):
            connection.execute(insert(models).values(**asdict(model), created_at=now))
    if _absent(connection, recipes.c.digest, new.recipe_digest):
        connection.execute(
            insert(recipes).values(
                digest=new.recipe_digest, name=new.name, body=new.recipe_body, created_at=now
            )
        )
    if _context_id(connection, catalog, new) is None:
        connection.execute(
            insert(contexts).values(
                tenant=_tenant(catalog),
                digest=new.context_digest,
                model_digest=new.model.digest,
                body=new.context_body,
                conditioner_digest=new.conditioner.digest if new.conditioner else None,
            )
        )


def _absent(connection: Connection, column: Any, value: str) -> bool:
    return connection.execute(select(column).where(column == value)).first() is None


def _context_id(connection: Connection, catalog: Catalog, new: NewJob) -> int | None:
    """Attempts are a cache of each tenant's own: its objects lie under its prefix."""
    query = select(contexts.c.id).where(
        contexts.c.tenant == _tenant(catalog), contexts.c.digest == new.context_digest
    )
    return connection.execute(query).scalar_one_or_none()


def _select_job(catalog: Catalog) -> Select[Any]:
    return (
        select(
            jobs,
            recipes.c.body.label("recipe_body"),
            contexts.c.digest.label("context_digest"),
        )
        .join(recipes, recipes.c.digest == jobs.c.recipe_digest)
        .join(contexts, contexts.c.id == jobs.c.context_id)
        .where(catalog.owns(jobs.c.tenant))
    )


def _job(row: Row[Any] | None) -> Job | None:
    return None if row is None else Job(**row._mapping)
