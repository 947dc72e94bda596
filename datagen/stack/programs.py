"""One child program of the stack: what runs, as whom, how it ends, and how to tell that it works.

Called by servers, which describes the servers, and by supervisor, which keeps them running.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datagen.errors import DatagenError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
_PROBE_S = 0.05
_LOG_TAIL = 2000


class ServiceMissingError(DatagenError):
    """A program is not installed, or does not start."""

    exit_code = 6


@dataclass(frozen=True)
class Program:
    """command: an absolute path and its arguments. log: a file that the output is appended to.

    user: a number, where the program must not run as root. stop: its clean end, which it has
    grace_s for. orphaned: what the kernel sends it when its supervisor dies. serves_others: it ends
    after all that do not. probe: raises until the program can do its work.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    stop: signal.Signals = signal.SIGTERM
    grace_s: float = STOP_TIMEOUT_S
    orphaned: signal.Signals = signal.SIGKILL
    serves_others: bool = False
    probe: Callable[[], None] = lambda: None


def launch(program: Program) -> subprocess.Popen[bytes]:
    """The child dies with the calling thread: call this from one that lives as long."""
    user = "-" if program.user is None else str(program.user)
    leash = [sys.executable, "-I", "-S", str(Path(__file__).with_name("leash.py"))]
    arguments = [str(os.getpid()), str(int(program.orphaned)), user, *program.command]
    with program.log.open("ab") as output:
        return subprocess.Popen(
            [*leash, *arguments],
            cwd=program.folder,
            env={"PATH": os.defpath, **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for us alone, who stop the child
        )


def wait_ready(program: Program, has_hope: Callable[[], bool]) -> None:
    """Until the probe passes; an answering port alone does not mean that a server can store.

    Raises ServiceMissingError with the end of the log.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return program.probe()
        except Exception as error:
            if not has_hope() or time.monotonic() > deadline:
                raise ServiceMissingError(
                    f"{program.name} does not start: {error}; the end of {program.log}:\n"
                    f"{log_tail(program.log)}"
                ) from error
        time.sleep(_PROBE_S)


def stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Cleanly, or by force if it takes too long."""
    process.send_signal(how)
    end(process, time.monotonic() + STOP_TIMEOUT_S)


def end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Of one that was told to stop: by force if it runs at the deadline (monotonic)."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def log_tail(log: Path) -> str:
    try:
        return log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")
    except OSError:
        return ""
