"""The thread beside the work: tells the catalog that the worker lives, sweeps, and ends a process
that claims nothing while there is work for it, or that never ends a unit.

Started by run.py.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from datagen.catalog.workers import forget_worker, register_worker, worker_seen
from workers.duties import guarded, sweep_once
from workers.process import WorkerProcess

logger = logging.getLogger(__name__)

# What a supervisor sees of a worker that the watchdog ended.
STUCK_EXIT_CODE = 75


@dataclass(frozen=True)
class Patience:
    """idle_s: without a claim while units wait. unit_s: with one unit, which takes minutes, or
    without a step of a training."""

    idle_s: float = 120.0
    unit_s: float = 3600.0


class Watchdog:
    """look() returns why the worker is taken to be stuck, or None. clock: monotonic."""

    def __init__(
        self,
        process: WorkerProcess,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._process = process
        self._patience = patience
        self._clock = clock
        self._seen_claims = 0
        self._waiting_since = clock()

    def look(self) -> str | None:
        activity, now = self._process.activity, self._clock()
        busy_since = activity.busy_since
        if busy_since is not None and now - busy_since > self._patience.unit_s:
            return f"it has been at one unit for {now - busy_since:.0f} s"
        has_claimed = activity.num_claims != self._seen_claims
        self._seen_claims = activity.num_claims
        if busy_since is not None or has_claimed or not self._process.has_work():
            self._waiting_since = now
        if now - self._waiting_since > self._patience.idle_s:
            return f"it has claimed nothing for {now - self._waiting_since:.0f} s while units wait"
        return None


class Caretaker:
    def __init__(self, process: WorkerProcess, patience: Patience) -> None:
        self._process = process
        self._watchdog = Watchdog(process, patience)
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
        process = self._process
        pause_s = 0.0
        while not self._done.wait(pause_s):
            guarded("report", self._report)
            guarded(
                "sweep",
                lambda: sweep_once(process.catalog, process.settings, process.waker.wake),
            )
            guarded("watchdog", self._watch)
            # Not in step with the other workers, who do the same.
            pause_s = process.settings.sweep_s * random.uniform(0.8, 1.2)

    def _report(self) -> None:
        process = self._process
        has_claimed = process.activity.busy_since is not None
        if not worker_seen(process.catalog, process.name, has_claimed=has_claimed):
            register_worker(
                process.catalog,
                process.name,
                queues=list(process.role.kinds),
                fingerprint=process.role.fingerprint,
            )

    def _watch(self) -> None:
        reason = self._watchdog.look()
        if reason is None:
            return
        self._process.waker.ping()  # with the broker down, a new process would be as deaf
        logger.error("this worker is stuck and ends, to be started again: %s", reason)
        logging.shutdown()
        os._exit(STUCK_EXIT_CODE)  # its main thread may hang in anything
