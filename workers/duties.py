"""What is to be done from time to time, whoever is asked to, and however many are at once.

Each CPU worker has a thread for it, which a tick of beat wakes; should beat or the broker be dead,
it wakes by itself. Every duty decides in the database who does it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from datagen.catalog.catalog import Catalog
from datagen.catalog.workers import forget_dead
from datagen.retention import collect
from datagen.revocation import erase_revoked
from datagen.schedules import fire_due
from datagen.settings import Settings
from datagen.store import Store
from datagen.sweeper import Wake, sweep, sweep_trainings
from datagen.trainer import collect_trainings
from datagen.webhook_delivery import deliver_due

logger = logging.getLogger(__name__)

# Of those that find a job's units waiting, one wakes its queues in so many sweeps.
WAKE_AFTER_SWEEPS = 2
# Without a tick for so many sweeps, the thread goes to work unasked.
UNASKED_SWEEPS = 6
HOUSEKEEPING_S = 60.0


@dataclass(frozen=True)
class Duty:
    name: str
    do: Callable[[], object]
    every_s: float = 0.0


class Duties:
    """catalog: of all tenants. Slow ones, such as a webhook's target that does not answer, hold up
    neither the work nor the worker's signs of life: they have this thread to themselves."""

    def __init__(self, catalog: Catalog, store: Store, settings: Settings, wake: Wake) -> None:
        self._pause_s = UNASKED_SWEEPS * settings.sweep_s
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="duties", daemon=True)
        self._last_done: dict[str, float] = {}
        self._duties = (
            Duty("sweep", lambda: sweep_once(catalog, settings, wake)),
            Duty("schedules", lambda: fire_due(catalog, store, settings, wake)),
            Duty("webhooks", lambda: deliver_due(catalog, settings)),
            Duty("erasure", lambda: erase_revoked(catalog, store)),
            Duty("retention", lambda: collect(catalog, store), HOUSEKEEPING_S),
            Duty("checkpoints", lambda: collect_trainings(catalog, store), HOUSEKEEPING_S),
            Duty("dead workers", lambda: forget_dead(catalog), HOUSEKEEPING_S),
        )

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """Returns at once. Asked while at it, the thread goes through all of them again."""
        self._asked.set()

    def do_all(self) -> None:
        for duty in self._duties:
            now = time.monotonic()
            if now - self._last_done.get(duty.name, -duty.every_s) >= duty.every_s:
                self._last_done[duty.name] = now
                guarded(duty.name, duty.do)

    def _run(self) -> None:
        while True:
            self._asked.wait(self._pause_s)
            self._asked.clear()
            self.do_all()


def sweep_once(catalog: Catalog, settings: Settings, wake: Wake) -> None:
    wake_after_s = WAKE_AFTER_SWEEPS * settings.sweep_s
    sweep(catalog, wake, wake_after_s=wake_after_s)
    sweep_trainings(catalog, wake, max_tries=settings.max_tries, wake_after_s=wake_after_s)


def guarded(name: str, duty: Callable[[], object]) -> None:
    """The edge of a duty: it fails alone, and is done again the next time."""
    try:
        duty()
    except Exception as error:
        logger.warning("%s: %s: %s", name, type(error).__name__, error)
