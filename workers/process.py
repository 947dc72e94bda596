"""What one worker process holds and does: wired once, at its start. Called by tasks.py.

A generate worker makes raw images alone, on its device; a train worker trains models, one at a
time; a cpu worker does all the rest. Of jobs, each takes only those whose pinned fingerprint it
has: the queues are named after fingerprints.
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
from datagen.catalog.training_claims import has_waiting
from datagen.catalog.trainings import TRAIN_QUEUE
from datagen.catalog.units import claimable
from datagen.engine import Worker
from datagen.errors import DatagenError, InputError, MachineError, RetryableError
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
from datagen.trainer import Trainer
from workers.app import TICKS
from workers.waker import Waker

logger = logging.getLogger(__name__)

# After a fault of the store or the database, which the next unit would most likely meet as well.
PAUSE_S = 1.0
# After a fault of this machine, so that others take what it gave back.
MACHINE_PAUSE_S = 60.0


class Stopped(BaseException):
    """The process was asked to end: the unit at hand is given back at once."""


@dataclass(frozen=True)
class Role:
    """kinds: base name of a queue -> the kinds of unit that this worker takes from its jobs.
    fingerprint: what it brings to them. trains: it takes trainings, which have a queue alone."""

    name: str
    kinds: Mapping[str, tuple[str, ...]]
    fingerprint: Mapping[str, object]
    takes_ticks: bool
    trains: bool = False

    @property
    def queues(self) -> list[str]:
        """In the order of taking: every interactive one before any batch one."""
        if self.trains:
            return [TRAIN_QUEUE]
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


def train_role(settings: Settings) -> Role:
    """Raises MachineError if the device is not there: every training would meet the same."""
    from datagen.training.processes import check_device

    check_device(settings.device)
    return Role("train", {TRAIN_QUEUE: ()}, {}, takes_ticks=False, trains=True)


@dataclass
class Activity:
    """What the watchdog asks. Written by the working thread, read by the caretaker's.

    busy_since: by the monotonic clock; None between two messages. A training's every step is new.
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
    trainer: Trainer
    name: str
    stop_asked: Callable[[], bool]
    activity: Activity = field(default_factory=Activity)

    def step(self, job_id: int) -> bool:
        """At most one unit of the job. Returns whether its message is still of use."""
        return self._work(f"job {job_id}", lambda: self._step(job_id))

    def train(self) -> bool:
        """At most one training, to its end. Returns whether its message is still of use."""
        return self._work("training", self.trainer.step)

    def has_work(self) -> bool:
        """Whether something waits that this worker may claim."""
        if self.role.trains:
            return has_waiting(self.catalog)
        queues = set(self.role.queues)
        return any(waiting.queue in queues for waiting in claimable(self.catalog))

    def _work(self, what: str, do: Callable[[], bool]) -> bool:
        self.activity.busy_since = time.monotonic()
        try:
            done = do()
        except Stopped:
            done = True
        except RetryableError as error:
            logger.warning("%s: %s", what, error)
            time.sleep(PAUSE_S)
            done = True
        except MachineError as error:
            logger.error("%s: this machine is at fault: %s", what, error)
            self._pause(MACHINE_PAUSE_S)
            done = True
        except DatagenError as error:
            logger.error("%s: %s", what, error)
            return False
        finally:
            self.activity.busy_since = None
        self.activity.num_claims += done
        return done

    def _pause(self, seconds: float) -> None:
        """Or until the process is to end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stop_asked():
            time.sleep(PAUSE_S)

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
    activity = Activity()

    def note_progress() -> None:
        activity.busy_since = time.monotonic()

    trainer = Trainer(
        catalog, store, settings, owner=name, check_stop=check_stop, on_progress=note_progress
    )
    return WorkerProcess(
        settings, role, catalog, waker, engine, trainer, name, stop_asked, activity
    )
