"""Embedded mode: the engine's loop in this process and its children, without a broker.

Called by `datagen run`, and usable from a notebook.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import multiprocessing.connection
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.parse import unquote, urlsplit

from datagen.catalog.attempts import rejections_by_reason
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import (
    NewJob,
    create_job,
    find_job,
    get_job,
    record_throughput,
    reopen_job,
    restart_job,
)
from datagen.catalog.rows import (
    DONE,
    FINISH,
    GENERATE,
    JUDGE,
    PACK,
    PUBLISHED,
    RUNNING,
    Job,
    NewUnit,
)
from datagen.catalog.schema import has_schema, migrate
from datagen.catalog.units import unit_progress, unit_totals
from datagen.catalog.versions import get_version
from datagen.engine import Worker
from datagen.errors import DatagenError, JobError, RetryableError
from datagen.fingerprint import fingerprint
from datagen.interruption import Interruption, blocked_signals
from datagen.owners import drop_stale_locks, is_dead, owner_lock
from datagen.recipe import canonical_json, recipe_digest_of
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings
from datagen.store import Store, open_store
from datagen.versions import read_manifest, version_prefix

_POLL_S = 0.2
_IDLE_S = 0.05
_UNIT_BYTES = 32 * 2**20
# A recipe is cut into at least so many units, so that a few workers have something to share.
_MIN_UNITS = 8
# Shorter runs measure the loading of the model and the padding of batches, not its speed.
_MEASURED_BATCHES = 16


@dataclass(frozen=True)
class RunProgress:
    """stage: generate, judge, pack or finish. done, total: units of that stage."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class RunResult:
    """counts: class name -> split -> images. reused: the version existed before.

    claims beyond units is work that was done again after a failure.
    """

    name: str
    version: int
    digest: str
    path: str
    counts: dict[str, dict[str, int]]
    seconds: float
    reused: bool
    images_generated: int
    units: int
    claims: int
    rejections: dict[str, dict[str, int]] = field(default_factory=dict)
    shortfall: dict[str, int] = field(default_factory=dict)


def run_recipe(
    resolved: ResolvedRecipe,
    settings: Settings,
    *,
    workers: int = 1,
    on_progress: Callable[[RunProgress], None] = lambda progress: None,
) -> RunResult:
    """Runs a recipe to a published version, or returns the version that exists.

    workers: 1 works in this process; more are processes of their own. An interrupted run goes on
    where it was. Raises JobError if the job failed, RetryableError if the store or database is full
    or out of reach.
    """
    started = time.monotonic()
    store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)
    catalog = Catalog(settings.database_url)
    try:
        job = published_job(catalog, resolved)
        reused = job is not None
        if job is None:
            store.check()
            migrate(catalog)
            job = open_or_create_job(catalog, resolved, settings)
            drop_stale_locks(settings)
            _work(job, catalog, store, settings, workers=workers, on_progress=on_progress)
        return _result(job, catalog, store, settings, reused=reused, started=started)
    finally:
        catalog.close()


def published_job(catalog: Catalog, resolved: ResolvedRecipe) -> Job | None:
    """The job that published this very recipe, if any; looks without writing."""
    database = catalog.engine.url.database
    if catalog.engine.dialect.name == "sqlite" and not Path(str(database)).exists():
        return None
    if not has_schema(catalog):
        return None
    job = find_job(catalog, resolved.recipe.name, resolved.digest)
    return job if job is not None and job.state == PUBLISHED else None


def open_or_create_job(catalog: Catalog, resolved: ResolvedRecipe, settings: Settings) -> Job:
    """The recipe's unfinished job, or a new one. A job pinned to another fingerprint starts
    afresh: its attempts were made by another machine or library and cannot be mixed with ours."""
    unit_size = plan_unit_size(resolved)
    first_units = [
        NewUnit(GENERATE, 0, position, None)
        for position in range(math.ceil(resolved.recipe.num_images / unit_size))
    ]
    new = new_job(resolved, settings, unit_size=unit_size)
    job = create_job(catalog, new, first_units)
    if job.fingerprint != new.fingerprint:
        restart_job(catalog, job.id, new, first_units)
    else:
        reopen_job(catalog, job.id)
    reopened = get_job(catalog, job.id)
    assert reopened is not None
    return reopened


def new_job(resolved: ResolvedRecipe, settings: Settings, *, unit_size: int) -> NewJob:
    batch_size = resolved.batch_size
    prints = fingerprint(
        resolved,
        batch_size=batch_size,
        device=settings.device,
        threads=settings.threads_per_worker,
    )
    context = resolved.context(prints["generation"])
    model = resolved.model
    return NewJob(
        name=resolved.recipe.name,
        recipe_digest=resolved.digest,
        recipe_body=resolved.body.decode(),
        model_digest=model.digest,
        model_name=model.name,
        model_generator=model.config.generator,
        model_config=canonical_json(model.facts.model_dump(mode="json")).decode(),
        context_digest=recipe_digest_of(context),
        context_body=context.decode(),
        fingerprint=canonical_json(prints).decode(),
        unit_size=unit_size,
        batch_size=batch_size,
    )


def plan_unit_size(resolved: ResolvedRecipe) -> int:
    """Whole batches; seconds to a few minutes of work; bounded in bytes. Changes no image."""
    batch = resolved.batch_size
    height, width = resolved.config.image_size
    image_bytes = height * width * resolved.config.channels
    share = math.ceil(resolved.recipe.num_images / _MIN_UNITS / batch) * batch
    fitting = max(1, _UNIT_BYTES // image_bytes)
    return max(1, min(share, resolved.spec.max_unit_size, fitting))


def _work(
    job: Job,
    catalog: Catalog,
    store: Store,
    settings: Settings,
    *,
    workers: int,
    on_progress: Callable[[RunProgress], None],
) -> None:
    if workers == 1:
        report = _Reporter(catalog, job.id, on_progress)
        _loop(catalog, store, settings, job.id, keep_on=report)
    else:
        _run_processes(job.id, catalog, settings, workers=workers, on_progress=on_progress)


def _loop(
    catalog: Catalog,
    store: Store,
    settings: Settings,
    job_id: int,
    *,
    keep_on: Callable[[], bool],
) -> None:
    """Steps until the job has ended, or keep_on says stop."""
    with Interruption() as interruption, owner_lock(settings) as owner:
        worker = Worker(
            catalog,
            store,
            settings,
            owner=owner,
            is_dead=lambda other: is_dead(settings, other),
            check_stop=interruption.check,
        )
        while keep_on():
            interruption.check()
            if worker.step(job_id):
                continue
            job = get_job(catalog, job_id)
            if job is None or job.state != RUNNING:
                return
            time.sleep(_IDLE_S)


def _run_processes(
    job_id: int,
    catalog: Catalog,
    settings: Settings,
    *,
    workers: int,
    on_progress: Callable[[RunProgress], None],
) -> None:
    """Children by spawn, since neither threads nor CUDA survive a fork."""
    context = multiprocessing.get_context("spawn")
    children: list[tuple[BaseProcess, Connection]] = []
    for _ in range(workers):
        receiver, sender = context.Pipe(duplex=False)
        arguments = (settings, job_id, os.getpid(), sender)
        child = context.Process(target=_child, args=arguments, daemon=False)
        with blocked_signals():
            child.start()
        sender.close()
        children.append((child, receiver))
    report = _Reporter(catalog, job_id, on_progress)
    try:
        with Interruption() as interruption:
            while alive := [process for process, _ in children if process.is_alive()]:
                report()
                multiprocessing.connection.wait([p.sentinel for p in alive], timeout=_POLL_S)
                interruption.check()
    except KeyboardInterrupt:
        for process, _ in children:
            process.terminate()  # each gives its unit back
        for process, _ in children:
            process.join()
        raise
    report()
    _raise_from(children, catalog, job_id)


def _child(settings: Settings, job_id: int, parent: int, sender: Connection) -> None:
    """A worker process. Without its parent it ends after the unit at hand."""
    try:
        store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)
        catalog = Catalog(settings.database_url)
        _loop(catalog, store, settings, job_id, keep_on=lambda: os.getppid() == parent)
    except DatagenError as error:
        sender.send((type(error), str(error)))
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _raise_from(
    children: list[tuple[BaseProcess, Connection]], catalog: Catalog, job_id: int
) -> None:
    """What stopped the children, if the job has not ended."""
    job = get_job(catalog, job_id)
    if job is not None and job.state != RUNNING:
        return
    for _, receiver in children:
        with contextlib.suppress(EOFError):
            if receiver.poll():
                kind, message = receiver.recv()
                raise kind(message)
    codes = [process.exitcode for process, _ in children]
    raise RetryableError(
        f"the worker processes ended (exit codes {codes}) before the job; run the same command "
        "again to go on"
    )


def _result(
    job: Job, catalog: Catalog, store: Store, settings: Settings, *, reused: bool, started: float
) -> RunResult:
    ended = get_job(catalog, job.id)
    version = get_version(catalog, job.name, job.version)
    if ended is None or ended.state != PUBLISHED or version is None:
        raise JobError(ended.error if ended and ended.error else f"job {job.id} was not published")
    prefix = version_prefix(settings.tenant, job.name, job.version)
    manifest = read_manifest(store, prefix, sha256=version.manifest_sha256)
    totals = unit_totals(catalog, job.id)
    if not reused and totals["images_generated"] >= _MEASURED_BATCHES * job.batch_size:
        seconds = totals["generate_seconds"] / totals["images_generated"]
        record_throughput(catalog, manifest.model["digest"], seconds)
    return RunResult(
        name=job.name,
        version=job.version,
        digest=version.digest,
        path=_address(store.url(prefix.rstrip("/"))),
        counts=manifest.counts,
        seconds=time.monotonic() - started,
        reused=reused,
        images_generated=0 if reused else int(totals["images_generated"]),
        units=int(totals["units"]),
        claims=int(totals["claims"]),
        rejections=rejections_by_reason(catalog, job.id),
        shortfall=manifest.shortfall,
    )


def _address(url: str) -> str:
    """A plain path where the store is a folder."""
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "file" else url


class _Reporter:
    """Tells the caller how far the job is, at most every _POLL_S. Always returns True."""

    def __init__(
        self, catalog: Catalog, job_id: int, on_progress: Callable[[RunProgress], None]
    ) -> None:
        self._catalog = catalog
        self._job_id = job_id
        self._on_progress = on_progress
        self._last = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < _POLL_S:
            return True
        self._last = now
        counts = unit_progress(self._catalog, self._job_id)
        for stage in (FINISH, PACK, JUDGE, GENERATE):
            total = sum(n for (kind, _), n in counts.items() if kind == stage)
            done = counts.get((stage, DONE), 0)
            if total and (done < total or stage in (FINISH, PACK)):
                self._on_progress(RunProgress(stage, done, total))
                break
        return True
