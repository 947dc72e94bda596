"""A folder that appears whole or not at all. Used by every exporter."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datagen.errors import InputError, StoreError

# Between a folder's making and its lock, at most.
_YOUNG_S = 2.0


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yields a hidden sibling of `target` to write into, renamed to it when the block succeeds.

    On any error, or when the exporter is abandoned, the sibling is removed. A killed process
    leaves it behind, as `.{name}.partial-{random}`, and no `target`; the next one for the same
    target removes it.
    Raises InputError if `target` exists and is not an empty folder, StoreError if it cannot be
    written.
    """
    target = Path(os.path.abspath(target))
    if target.is_symlink() or (target.exists() and not _is_empty_folder(target)):
        raise InputError(f"{target}: exists already; expected a new or empty folder, name another")
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        partial.mkdir()
        with _lock(partial):
            yield partial
            partial.rename(target)
    except OSError as error:
        raise StoreError(
            f"cannot write {target}: {error.strerror or error}; "
            "check its permissions and the space left"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(target: Path) -> None:
    """Of killed processes; what a living one holds stays, and what one may be about to hold."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.partial-*"):
        if not re.fullmatch(r"[0-9a-f]{8}", path.name.rpartition("-")[2]):
            continue
        with suppress(OSError):
            if time.time() - path.stat().st_mtime < _YOUNG_S:
                continue
            with _lock(path) as is_abandoned:
                if is_abandoned:
                    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Until the block or the process ends. False: another has it, or there are no locks here."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_held = True
    except OSError:
        is_held = False
    try:
        yield is_held
    finally:
        os.close(descriptor)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
