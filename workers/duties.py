"""What is to be done from time to time, whoever is asked to, and however many are at once.

Called by the tick that beat sends and, should beat or the broker be dead, by each CPU worker's
caretaker. Every duty decides in the database who does it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial

from datagen.catalog.catalog import Catalog
from datagen.catalog.workers import forget_dead
from datagen.schedules import fire_due
from datagen.settings import Settings
from datagen.store import Store
from datagen.sweeper import Wake, sweep
from datagen.webhook_delivery import deliver_due

logger = logging.getLogger(__name__)

# Of those that find a job's units waiting, one wakes its queues in so many sweeps.
WAKE_AFTER_SWEEPS = 2


class Duties:
    """catalog: of all tenants."""

    def __init__(self, catalog: Catalog, store: Store, settings: Settings, wake: Wake) -> None:
        self._catalog = catalog
        self._settings = settings
        self._wake = wake
        self._sender: threading.Thread | None = None
        self._all: Mapping[str, Callable[[], object]] = {
            "sweep": self.sweep,
            "forget dead workers": lambda: forget_dead(catalog),
            "schedules": lambda: fire_due(catalog, store, settings, wake),
            "webhooks": self.send_webhooks,
        }

    def sweep(self) -> None:
        wake_after_s = WAKE_AFTER_SWEEPS * self._settings.sweep_s
        sweep(self._catalog, self._wake, wake_after_s=wake_after_s)

    def send_webhooks(self) -> None:
        """In a thread of its own: receivers may take seconds, and units wait for none of them."""
        if self._sender is None or not self._sender.is_alive():
            deliver = partial(deliver_due, self._catalog, self._settings)
            self._sender = threading.Thread(
                target=guarded, args=("webhooks", deliver), name="webhooks", daemon=True
            )
            self._sender.start()

    def do_all(self) -> None:
        for name, duty in self._all.items():
            guarded(name, duty)


def guarded(name: str, duty: Callable[[], object]) -> None:
    """The edge of a duty: it fails alone, and is done again the next time."""
    try:
        duty()
    except Exception as error:
        logger.warning("%s: %s: %s", name, type(error).__name__, error)
