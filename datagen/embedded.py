"""Embedded mode: the engine's loop in this process and its children, without a broker.

Called by `datagen run`, and usable from a notebook.
"""

from __future__ import annotations

import contextlib
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

from datagen.batch_shape import with_batch_shape
from datagen.catalog.attempts import rejections_by_reason
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import find_job, get_job, record_throughput
from datagen.catalog.rows import (
    ACTIVE_STATES,
    DONE,
    FINISH,
    GENERATE,
    JUDGE,
    PACK,
    PUBLISHED,
    Job,
)
from datagen.catalog.schema import has_schema, migrate
from datagen.catalog.units import unit_progress, unit_totals
from datagen.catalog.versions import get_version
from datagen.engine import Worker
from datagen.errors import DatagenError, JobError, RetryableError
from datagen.interruption import Interruption, blocked_signals
from datagen.owners import drop_stale_locks, is_dead, owner_lock
from datagen.registry import check_usable
from datagen.resolve import ResolvedRecipe
from datagen.settings import Settings
from datagen.store import Store, open_store
from datagen.submission import open_or_create_job
from datagen.versions import read_manifest, version_prefix

_POLL_S = 0.2
_IDLE_S = 0.05
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
    catalog = Catalog(settings.database_url, settings.tenant)
    try:
        job = published_job(catalog, resolved)
        reused = job is not None
        if job is None:
            store.check()
            migrate(catalog)
            for model in filter(None, (resolved.model, resolved.conditioner_model)):
                check_usable(catalog, model)
            shaped = with_batch_shape(resolved, settings)
            job = open_or_create_job(catalog, shaped, settings)
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
            if job is None or job.state not in ACTIVE_STATES:
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
        catalog = Catalog(settings.database_url, settings.tenant)
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
    if job is not None and job.state not in ACTIVE_STATES:
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
