"""Keeps the stack's programs running: starts them in order, starts again what ends, stops all.

Called by `datagen up` and by the tests. One thread starts every child, because a child dies with
the thread that started it (see leash): a supervisor that is killed leaves no orphan behind.
"""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TypeVar

from datagen.errors import NotFoundError
from datagen.stack.programs import Program, end, launch, wait_ready

_POLL_S = 0.1
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
# While a child is waited for: one that was killed just now can still be in the way of the first.
_HOPELESS_RESTARTS = 4
# A child that ran this long was well: its next end is the first again.
_STEADY_S = 20.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Child:
    """process: None while it is stopped, or waits for its next start at `due` (monotonic)."""

    program: Program
    process: subprocess.Popen[bytes] | None
    started: float
    due: float = 0.0
    pause_s: float = 0.0
    num_restarts: int = 0
    exit_code: int | None = None


class Supervisor:
    """on_restart: told the name, the exit code and the pause before each restart."""

    def __init__(
        self, on_restart: Callable[[str, int, float], None] = lambda name, code, pause_s: None
    ) -> None:
        self._on_restart = on_restart
        self._children: dict[str, Child] = {}
        self._orders: queue.Queue[Callable[[], None]] = queue.Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_all()
        self._closing.set()
        self._thread.join()

    def start(self, program: Program) -> None:
        """Returns when it can do its work. Raises ServiceMissingError."""
        self.launch(program)
        self.await_ready(program.name)

    def launch(self, program: Program) -> subprocess.Popen[bytes]:
        """Does not wait until it is ready."""
        return self._ordered(lambda: self._launch(program))

    def await_ready(self, name: str) -> None:
        """Of one that was launched. Raises ServiceMissingError if it keeps ending."""
        program = self._child(name).program
        wait_ready(program, lambda: self._child(name).num_restarts < _HOPELESS_RESTARTS)

    def stop(self, *names: str) -> None:
        """Cleanly, side by side, and for good."""
        self._ordered(lambda: self._stop(*names))

    def stop_all(self) -> None:
        """Side by side; those that serve others after the rest."""
        self._ordered(self._stop_all)

    def restart(self, name: str) -> None:
        """A clean stop and a start, waited for."""
        program = self._child(name).program
        self.stop(name)
        self.start(program)

    def pid(self, name: str) -> int | None:
        """None while it does not run."""
        process = self._child(name).process
        return None if process is None or process.poll() is not None else process.pid

    def names(self) -> list[str]:
        return list(self._children)

    def num_restarts(self, name: str) -> int:
        return self._child(name).num_restarts

    def last_exit_code(self, name: str) -> int | None:
        """Of the run before its last restart; negative: the signal that ended it."""
        return self._child(name).exit_code

    def _child(self, name: str) -> Child:
        try:
            return self._children[name]
        except KeyError:
            raise NotFoundError(
                f"no program {name!r} is supervised; there are: {', '.join(self._children)}"
            ) from None

    def _ordered(self, order: Callable[[], Result]) -> Result:
        """Carried out by the thread that owns the children."""
        answer: Future[Result] = Future()

        def carry_out() -> None:
            try:
                answer.set_result(order())
            except BaseException as error:
                answer.set_exception(error)

        self._orders.put(carry_out)
        return answer.result()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._orders.get(timeout=_POLL_S)()
            except queue.Empty:
                self._look_after()

    def _look_after(self) -> None:
        now = time.monotonic()
        for name, child in self._children.items():
            if child.process is not None and (code := child.process.poll()) is not None:
                steady = now - child.started > _STEADY_S
                pause_s = _FIRST_PAUSE_S if steady or not child.pause_s else child.pause_s * 2
                pause_s = min(pause_s, _LONGEST_PAUSE_S)
                self._on_restart(name, code, pause_s)
                self._children[name] = replace(
                    child, process=None, due=now + pause_s, pause_s=pause_s, exit_code=code
                )
            elif child.process is None and child.due and now >= child.due:
                self._children[name] = replace(
                    child,
                    process=launch(child.program),
                    started=now,
                    due=0.0,
                    num_restarts=child.num_restarts + 1,
                )

    def _launch(self, program: Program) -> subprocess.Popen[bytes]:
        process = launch(program)
        self._children[program.name] = Child(program, process, time.monotonic())
        return process

    def _stop(self, *names: str) -> None:
        children = {name: self._child(name) for name in names}
        deadlines = {}
        for name, child in children.items():
            if child.process is not None:
                child.process.send_signal(child.program.stop)
                deadlines[name] = time.monotonic() + child.program.grace_s
        for name, child in children.items():
            if child.process is not None:
                end(child.process, deadlines[name])
            self._children[name] = replace(child, process=None, due=0.0)

    def _stop_all(self) -> None:
        for serves_others in (False, True):
            self._stop(
                *(
                    name
                    for name, child in self._children.items()
                    if child.program.serves_others is serves_others
                )
            )
