"""What is to be done from time to time, whoever is asked to, and however many are at once.

Called by the tick that beat sends and, should beat or the broker be dead, by each CPU worker's
caretaker. Every duty decides in the database who does it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from datagen.catalog.catalog import Catalog
from datagen.catalog.workers import forget_dead
from datagen.settings import Settings
from datagen.store import Store
from datagen.sweeper import Wake, sweep

logger = logging.getLogger(__name__)

# Of those that find a job's units waiting, one wakes its queues in so many sweeps.
WAKE_AFTER_SWEEPS = 2


class Duties:
    """catalog: of all tenants."""

    def __init__(self, catalog: Catalog, store: Store, settings: Settings, wake: Wake) -> None:
        self._catalog = catalog
        self._settings = settings
        self._wake = wake
        self._all: Mapping[str, Callable[[], object]] = {
            "sweep": self.sweep,
            "forget dead workers": lambda: forget_dead(catalog),
        }

    def sweep(self) -> None:
        wake_after_s = WAKE_AFTER_SWEEPS * self._settings.sweep_s
        sweep(self._catalog, self._wake, wake_after_s=wake_after_s)

    def do_all(self) -> None:
        for name, duty in self._all.items():
            guarded(name, duty)


def guarded(name: str, duty: Callable[[], object]) -> None:
    """The edge of a duty: it fails alone, and is done again the next time."""
    try:
        duty()
    except Exception as error:
        logger.warning("%s: %s: %s", name, type(error).__name__, error)
