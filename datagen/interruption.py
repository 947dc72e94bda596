"""Ctrl-C that is never lost. Called by embedded.

Python raises KeyboardInterrupt wherever the main thread is; inside a finaliser or a C callback it
is printed and forgotten. So the signal is remembered too, and asked for between two units.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """While open, SIGINT raises KeyboardInterrupt, at the latest in the next check().

    Outside the main thread, where signals cannot be handled, it does nothing.
    """

    def __init__(self) -> None:
        self._seen = threading.Event()
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)

    def check(self) -> None:
        if self._seen.is_set():
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._seen.set()
        raise KeyboardInterrupt
