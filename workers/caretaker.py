"""The thread beside the work: tells the catalog that the worker lives, sweeps, and ends a process
that claims nothing while there is work for it. Started by the command line of this package.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable

from datagen.catalog.units import claimable
from datagen.catalog.workers import forget_worker, register_worker, worker_seen
from workers.duties import Duties, guarded
from workers.process import WorkerProcess

logger = logging.getLogger(__name__)

# What a supervisor sees of a worker that the watchdog ended.
STUCK_EXIT_CODE = 75
# Sweeps between two rounds of all duties, which are beat's to begin.
_SWEEPS_PER_ROUND = 6


class Watchdog:
    """look() returns whether the worker is stuck: for patience_s, it claimed nothing and was not at
    work while units that it may claim waited."""

    def __init__(
        self, process: WorkerProcess, *, patience_s: float, clock: Callable[[], float]
    ) -> None:
        self._process = process
        self._patience_s = patience_s
        self._clock = clock
        self._seen_claims = -1
        self._waiting_since = clock()

    def look(self) -> bool:
        activity = self._process.activity
        has_moved = activity.is_busy or activity.num_claims != self._seen_claims
        self._seen_claims = activity.num_claims
        if has_moved or not self._has_work():
            self._waiting_since = self._clock()
        return self._clock() - self._waiting_since > self._patience_s

    def _has_work(self) -> bool:
        queues = set(self._process.role.queues)
        return any(waiting.queue in queues for waiting in claimable(self._process.catalog))


class Caretaker:
    def __init__(self, process: WorkerProcess, duties: Duties, *, patience_s: float) -> None:
        self._process = process
        self._duties = duties
        self._watchdog = Watchdog(process, patience_s=patience_s, clock=time.monotonic)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="caretaker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """The worker goes away in good order."""
        self._done.set()
        name = self._process.name
        guarded("leave", lambda: forget_worker(self._process.catalog, name))

    def _run(self) -> None:
        round_number = 0
        pause_s = 0.0
        while not self._done.wait(pause_s):
            guarded("report", self._report)
            if self._process.role.takes_ticks and round_number % _SWEEPS_PER_ROUND == 0:
                self._duties.do_all()
            else:
                guarded("sweep", self._duties.sweep)
            guarded("watchdog", self._watch)
            round_number += 1
            # Not in step with the other workers, who do the same.
            pause_s = self._process.settings.sweep_s * random.uniform(0.8, 1.2)

    def _report(self) -> None:
        process = self._process
        has_claimed = process.activity.is_busy
        if not worker_seen(process.catalog, process.name, has_claimed=has_claimed):
            register_worker(
                process.catalog,
                process.name,
                queues=list(process.role.kinds),
                fingerprint=process.role.fingerprint,
            )

    def _watch(self) -> None:
        if not self._watchdog.look():
            return
        self._process.waker.ping()  # with the broker down, a new process would be as deaf
        logger.error("this worker claims nothing while units wait for it: it ends, to start anew")
        logging.shutdown()
        os._exit(STUCK_EXIT_CODE)  # its main thread may hang in anything
