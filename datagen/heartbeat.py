"""The thread that keeps a lease while its owner works. Called by engine and trainings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from datagen.errors import CatalogUnavailableError, LeaseLostError
from datagen.settings import Settings


class Heartbeat:
    """Renews a lease while the block runs, and tells the work when it was lost.

    what: is held, for messages. renew: False if it is someone else's now. check_stop: see check.
    """

    def __init__(
        self,
        what: str,
        renew: Callable[[], bool],
        settings: Settings,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._what = what
        self._renew = renew
        self._check_stop = check_stop
        self._settings = settings
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()

    def lose(self) -> None:
        """Nobody wants the work any more."""
        self._lost.set()

    def check(self) -> None:
        """Called between batches. Raises LeaseLostError if the lease is someone else's now, and
        whatever check_stop raises."""
        self._check_stop()
        if self._lost.is_set():
            raise LeaseLostError(f"{self._what} was lost while it was worked on")

    def _beat(self) -> None:
        renewed = time.monotonic()
        while not self._done.wait(self._settings.heartbeat_s):
            try:
                held = self._renew()
            except CatalogUnavailableError:
                held = time.monotonic() - renewed < self._settings.lease_s
            else:
                renewed = time.monotonic()
            if not held:
                self._lost.set()
                return
