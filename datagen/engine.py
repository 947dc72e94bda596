"""READ FIRST. The state machine of a job: claim -> work -> commit -> next stage.

    generate (round 0) -> judge -> generate (round 1) -> judge -> ... -> pack -> finish

Every stage is made of units in the catalog. A worker claims one (a conditional update that sets
owner, fence and lease), does its work without a transaction, and commits with the fence: if someone
else owns the unit by then, the work is thrown away. When the last unit of a stage is done, any
worker opens the next; opening it twice is harmless. Who calls `step`, and when, does not matter:
embedded processes do it in a loop, a cluster's workers when a message wakes them.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from datagen.catalog.attempts import attempt_keys, forget_attempts
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import begin_again, get_job
from datagen.catalog.rows import FINISH, GENERATE, JUDGE, PACK, Job, NewUnit, Unit
from datagen.catalog.units import (
    advance_job,
    claim_unit,
    fail_unit,
    is_active,
    release_unit,
    renew_lease,
)
from datagen.deployment_rules import DeploymentRules
from datagen.errors import (
    CatalogUnavailableError,
    DamagedAttemptsError,
    DatagenError,
    LeaseLostError,
    LostAttemptsError,
    NotFoundError,
    RetryableError,
)
from datagen.failpoints import failpoint
from datagen.generators.interface import Sampler
from datagen.heartbeat import Heartbeat
from datagen.plan import Plan
from datagen.registry import models_dirs_of_stored
from datagen.resolve import ResolvedRecipe, resolve_stored
from datagen.sampler_cache import SamplerCache
from datagen.settings import Settings
from datagen.stages.finish import finish
from datagen.stages.generate import generate
from datagen.stages.job import JobWork
from datagen.stages.judge import judge
from datagen.stages.pack import pack
from datagen.stages.publication import Publication, publish
from datagen.store import Store

# Times that one worker begins a job again for damaged attempts before it doubts the store.
MAX_REPAIRS = 100
# What a worker that lives for weeks keeps of jobs.
_MAX_OPEN_JOBS = 8
# How often a unit at work looks whether its job was cancelled, at most.
_LOOK_S = 1.0

STAGES: dict[str, Callable[[JobWork, Unit, Callable[[], None]], None]] = {
    GENERATE: generate,
    JUDGE: judge,
    PACK: pack,
    FINISH: finish,
}


class Worker:
    """One worker process. is_dead: whether the owner of a lease is known to be gone; None if only
    leases tell. check_stop: called between batches; what it raises ends the step, and the unit is
    given back. on_opened: called with a job whose next stage was opened: others may come for it.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        settings: Settings,
        *,
        owner: str,
        is_dead: Callable[[str], bool] | None = None,
        check_stop: Callable[[], None] = lambda: None,
        on_opened: Callable[[int], None] = lambda job_id: None,
    ) -> None:
        self.catalog = catalog
        self.store = store
        self.settings = settings
        self.owner = owner
        self.is_dead = is_dead
        self.check_stop = check_stop
        self.on_opened = on_opened
        self._work: OrderedDict[int, JobWork] = OrderedDict()
        memory = settings.model_memory_gb
        self._samplers = SamplerCache(None if memory is None else int(memory * 1e9))
        self._repairs = Counter[int]()

    def step(self, job_id: int, kinds: Sequence[str] | None = None) -> bool:
        """Claims one unit of the job and works on it. Returns False if none could be claimed.

        kinds: of unit that this worker takes; None is any.

        Raises RetryableError, after giving the unit back, when the store or the database is full
        or out of reach. Every other failure of the work is recorded with the unit.
        """
        unit = claim_unit(
            self.catalog,
            job_id=job_id,
            owner=self.owner,
            lease_s=self.settings.lease_s,
            max_tries=self.settings.max_tries,
            is_dead=self.is_dead,
            kinds=kinds,
        )
        if unit is None:
            self._advance(job_id)
            return False
        failpoint("engine.claimed")
        try:
            with UnitHeartbeat(self.catalog, unit, self.settings, self.check_stop) as heartbeat:
                self._do(unit, heartbeat.check)
        except LeaseLostError:
            return True
        except (DamagedAttemptsError, LostAttemptsError) as error:
            self._make_again(unit, error)
        except RetryableError as error:
            self._give_back(unit, error, count_try=False)
            raise
        except DatagenError as error:
            fail_unit(self.catalog, unit, error=str(error))
        except Exception as error:  # the edge of a task: recorded, tried again, then quarantined
            self._give_back(unit, error, count_try=True)
        except BaseException as error:  # interrupted: others may go on at once
            self._give_back(unit, error, count_try=False)
            raise
        self._advance(job_id, has_judged=unit.kind == JUDGE)
        return True

    def _do(self, unit: Unit, check_abort: Callable[[], None]) -> None:
        job = self._job(unit.job_id)
        if job.publication is not None:
            publish(self.catalog, self.store, unit, Publication.from_json(job.publication))
        else:
            STAGES[unit.kind](self._job_work(job), unit, check_abort)

    def _advance(self, job_id: int, *, has_judged: bool = False) -> None:
        """Judging opens a stage itself, in its own transaction."""
        if advance_job(self.catalog, job_id) or has_judged:
            self.on_opened(job_id)

    def _make_again(self, unit: Unit, error: DamagedAttemptsError | LostAttemptsError) -> None:
        """The cache is no truth: what is damaged in it is forgotten, and the job begins again with
        what is sound. A store that damages what it is given fails the job in the end."""
        self._repairs[unit.job_id] += 1
        if self._repairs[unit.job_id] > MAX_REPAIRS:
            fail_unit(self.catalog, unit, error=f"{error}; given up after {MAX_REPAIRS} times")
            return
        if isinstance(error, DamagedAttemptsError):
            self._forget_damaged(unit.job_id, error.object_key)
        work = self._job_work(self._job(unit.job_id))
        positions = range(work.plan.num_generate_units)
        begin_again(self.catalog, unit.job_id, [NewUnit(GENERATE, 0, p, None) for p in positions])

    def _forget_damaged(self, job_id: int, object_key: str) -> None:
        damaged = [object_key]
        if self.store.size(object_key) is None:  # then all may be gone: backups have none
            keys = attempt_keys(self.catalog, job_id)
            damaged += [key for key in keys if self.store.size(key) is None]
        for key in damaged:
            # In this order: a store that refuses, for want of rights say, has nothing forgotten.
            self.store.delete(key)
            forget_attempts(self.catalog, key)

    def _give_back(self, unit: Unit, error: BaseException, *, count_try: bool) -> None:
        reason = f"{type(error).__name__}: {error}"
        try:
            release_unit(self.catalog, unit, error=reason, count_try=count_try)
        except CatalogUnavailableError:
            return  # the lease will run out, or the owner's lock be found free

    def _job(self, job_id: int) -> Job:
        job = get_job(self.catalog, job_id)
        if job is None:
            raise NotFoundError(f"job {job_id} does not exist in this catalog")
        return job

    def _job_work(self, job: Job) -> JobWork:
        """Kept for the jobs last worked on; read anew when a job was restarted."""
        work = self._work.pop(job.id, None)
        if work is None or work.job.context_id != job.context_id:
            work = open_job(job, self.catalog, self.store, self.settings, self._samplers)
        self._work[job.id] = work
        while len(self._work) > _MAX_OPEN_JOBS:
            self._work.popitem(last=False)
        return work


def open_job(
    job: Job,
    catalog: Catalog,
    store: Store,
    settings: Settings,
    samplers: SamplerCache | None = None,
) -> JobWork:
    """Raises JobError if the job's model has changed, RevokedError if it was revoked."""
    import cv2

    cv2.setNumThreads(settings.threads_per_worker)
    settings, catalog = settings.of(job.tenant), catalog.of(job.tenant)
    folders = models_dirs_of_stored(catalog, store, settings, job.recipe_body)
    resolved = resolve_stored(job.recipe_body, folders, DeploymentRules.of(settings))
    cache = SamplerCache() if samplers is None else samplers
    return JobWork(
        job=job,
        resolved=resolved,
        plan=Plan(resolved.recipe, unit_size=job.unit_size),
        catalog=catalog,
        store=store,
        settings=settings,
        load_sampler=lambda: cache.get(
            resolved,
            job.batch_size,
            lambda: load_sampler(resolved, settings, batch_size=job.batch_size),
        ),
    )


def load_sampler(
    resolved: ResolvedRecipe, settings: Settings, *, batch_size: int | None = None
) -> Sampler:
    """The recipe's model at its one batch shape. Pins torch's threads for the process."""
    if resolved.spec.needs_weights:
        import torch

        torch.set_num_threads(settings.threads_per_worker)
    return resolved.spec.load(
        resolved.config,
        resolved.model.weights,
        resolved.options,
        batch_size=batch_size or resolved.batch_size,
        device=settings.device,
    )


class UnitHeartbeat(Heartbeat):
    """Of a claimed unit; looks as well whether its job still wants it."""

    def __init__(
        self,
        catalog: Catalog,
        unit: Unit,
        settings: Settings,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            f"unit {unit.id}",
            lambda: renew_lease(catalog, unit, lease_s=settings.lease_s),
            settings,
            check_stop,
        )
        self._catalog = catalog
        self._job_id = unit.job_id
        self._looked = time.monotonic()

    def check(self) -> None:
        """Also raises LeaseLostError when the job was cancelled."""
        if time.monotonic() - self._looked >= _LOOK_S:
            with contextlib.suppress(CatalogUnavailableError):
                if not is_active(self._catalog, self._job_id):
                    self.lose()
            self._looked = time.monotonic()
        super().check()
