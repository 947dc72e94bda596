"""What one worker process holds and does: wired once, at its start. Called by tasks.py.

A generate worker makes raw images alone, on its device; a cpu worker does all the rest. Each takes
only the jobs whose pinned fingerprint it has: the queues are named after fingerprints.
"""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from datagen import failpoints
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import FINISH, GENERATE, JUDGE, PACK
from datagen.engine import Worker
from datagen.errors import DatagenError, InputError, RetryableError
from datagen.fingerprint import (
    cpu_queue,
    generation_print,
    generation_queue,
    packing_print,
    queue_name,
)
from datagen.generators import GENERATORS
from datagen.settings import Settings
from datagen.store import open_store
from datagen.submission import PRIORITIES
from datagen.sweeper import wake_job
from workers.app import TICKS
from workers.waker import Waker

logger = logging.getLogger(__name__)

# After a fault of the store or the database, which the next unit would most likely meet as well.
PAUSE_S = 1.0


class Stopped(BaseException):
    """The process was asked to end: the unit at hand is given back at once."""


@dataclass(frozen=True)
class Role:
    """kinds: base name of a queue -> the kinds of unit that this worker takes from its jobs.
    fingerprint: what it brings to them."""

    name: str
    kinds: Mapping[str, tuple[str, ...]]
    fingerprint: Mapping[str, object]
    takes_ticks: bool

    @property
    def queues(self) -> list[str]:
        """In the order of taking: every interactive one before any batch one."""
        bases = list(self.kinds)
        served = [queue_name(base, priority) for priority in PRIORITIES for base in bases]
        return [TICKS, *served] if self.takes_ticks else served


def generate_role(settings: Settings, families: Sequence[str] = ()) -> Role:
    """families: of the generators that it serves; all if none is named. Raises InputError."""
    unknown = sorted(set(families) - set(GENERATORS))
    if unknown:
        raise InputError(
            f"--families names {', '.join(unknown)}; expected some of {', '.join(GENERATORS)}"
        )
    specs = [GENERATORS[family] for family in families or GENERATORS]
    prints = {
        spec.name: generation_print(
            spec, device=settings.device, threads=settings.threads_per_worker
        )
        for spec in specs
    }
    kinds = {generation_queue(spec, settings): (GENERATE,) for spec in specs}
    return Role("generate", kinds, prints, takes_ticks=False)


def cpu_role() -> Role:
    kinds = {cpu_queue(): (JUDGE, PACK, FINISH)}
    return Role("cpu", kinds, {"packing": packing_print()}, takes_ticks=True)


@dataclass
class Activity:
    """What the watchdog asks. Written by the working thread, read by the caretaker's.

    busy_since: by the monotonic clock; None between two messages.
    """

    busy_since: float | None = None
    num_claims: int = 0


@dataclass
class WorkerProcess:
    """stop_asked: whether the process is to end."""

    settings: Settings
    role: Role
    catalog: Catalog
    waker: Waker
    engine: Worker
    name: str
    stop_asked: Callable[[], bool]
    activity: Activity = field(default_factory=Activity)

    def step(self, job_id: int) -> bool:
        """At most one unit of the job. Returns whether its message is still of use."""
        self.activity.busy_since = time.monotonic()
        try:
            done = self._step(job_id)
        except Stopped:
            done = True
        except RetryableError as error:
            logger.warning("job %s: %s", job_id, error)
            time.sleep(PAUSE_S)
            done = True
        except DatagenError as error:
            logger.error("job %s: %s", job_id, error)
            return False
        finally:
            self.activity.busy_since = None
        self.activity.num_claims += done
        return done

    def _step(self, job_id: int) -> bool:
        job = get_job(self.catalog, job_id)
        if job is None:
            return False
        bases = (job.generate_queue, job.cpu_queue)
        kinds = [kind for base in bases if base for kind in self.role.kinds.get(base, ())]
        # None: it was restarted under another fingerprint, and the message is of before that.
        return bool(kinds) and self.engine.step(job_id, kinds)


def open_process(settings: Settings, role: Role, stop_asked: Callable[[], bool]) -> WorkerProcess:
    """Connects to nothing yet: a server that is down at the start is waited for by the work."""
    failpoints.arm(settings.failpoints, settings.failpoints_dir)
    catalog = Catalog(settings.database_url, tenant=None)
    store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)
    waker = Waker(settings.broker_url)
    name = f"{role.name}-{socket.gethostname()[:20]}-{os.getpid()}-{uuid.uuid4().hex[:12]}"

    def check_stop() -> None:
        if stop_asked():
            raise Stopped

    engine = Worker(
        catalog,
        store,
        settings,
        owner=name,
        check_stop=check_stop,
        on_opened=lambda job_id: wake_job(catalog, job_id, waker.wake),
    )
    return WorkerProcess(settings, role, catalog, waker, engine, name, stop_asked)
