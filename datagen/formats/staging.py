"""A folder that appears whole or not at all. Used by every exporter."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datagen.errors import InputError, StoreError


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yields a hidden sibling of `target` to write into, renamed to it when the block succeeds.

    On any error, or when the exporter is abandoned, the sibling is removed. A killed process
    leaves it behind, as `.{name}.partial-{random}`, and no `target`.
    Raises InputError if `target` exists and is not an empty folder, StoreError if it cannot be
    written.
    """
    target = Path(os.path.abspath(target))
    if target.is_symlink() or (target.exists() and not _is_empty_folder(target)):
        raise InputError(f"{target}: exists already; expected a new or empty folder, name another")
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(target)
    except OSError as error:
        raise StoreError(
            f"cannot write {target}: {error.strerror or error}; "
            "check its permissions and the space left"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
