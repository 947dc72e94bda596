"""Who owns a unit in embedded mode: a process, by a file lock that it holds for life.

The kernel frees the lock when the process dies, however it dies, so that a rerun takes its units
over at once instead of waiting for their leases. Called by embedded.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from datagen.settings import Settings


def _lock_path(settings: Settings, owner: str) -> Path:
    return settings.home / "workers" / f"{owner}.lock"


@contextlib.contextmanager
def owner_lock(settings: Settings) -> Iterator[str]:
    """A name for this worker, and a lock on it that dies with the process."""
    owner = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
    path = _lock_path(settings, owner)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield owner
        finally:
            path.unlink(missing_ok=True)


def is_dead(settings: Settings, owner: str) -> bool:
    """Whether the owner's process is gone. Only workers of one home can tell; others wait for the
    lease to run out."""
    try:
        with open(_lock_path(settings, owner)) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        # In the embedded catalog all owners are of this home: a lock that is gone is a clean end.
        return settings.database_url.startswith("sqlite")


def drop_stale_locks(settings: Settings) -> None:
    """Removes the lock files of processes that died."""
    for path in (settings.home / "workers").glob("*.lock"):
        if is_dead(settings, path.stem):
            path.unlink(missing_ok=True)
