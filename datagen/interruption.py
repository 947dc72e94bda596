"""Ctrl-C and SIGTERM that are never lost and never strike in the wrong place. Called by embedded.

An exception that a signal raises anywhere can leave a transaction open or a lock held. So a signal
is only remembered, and asked for where stopping is safe: between two units, and between the batches
of one. A second Ctrl-C ends the process at once, which the engine survives as it does a power cut.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from types import FrameType, TracebackType
from typing import Any

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While open, check() raises KeyboardInterrupt once SIGINT or SIGTERM has come.

    Outside the main thread, where signals cannot be handled, it does nothing.
    """

    def __init__(self) -> None:
        self._seen = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle) for number in _STOPS}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)  # see blocked_signals
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        if self._seen:
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._seen and number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._seen = True


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """A child started inside holds its stop signals back until it opens its own Interruption."""
    resource_tracker.ensure_running()  # or the first child would start it, which unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
