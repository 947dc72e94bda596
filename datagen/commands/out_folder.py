"""The folder that --out names: made before minutes of work, given back if they come to nothing, and
filled with whole files alone. Called by evaluate."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from datagen.errors import InputError, StoreError


@contextmanager
def out_folder(out: Path) -> Iterator[None]:
    """Folders that were made for it are removed if the block fails. Raises InputError if it cannot
    be written into."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        _make(out)
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # it holds files, or was never made
                folder.rmdir()
        raise


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """files: name -> content. All of them or, on an error, none: what lay there before stays.

    Raises StoreError.
    """
    partial = {name: out / f".{name}.partial-{secrets.token_hex(4)}" for name in files}
    try:
        for name, data in files.items():
            partial[name].write_bytes(data)
        for name, path in partial.items():
            path.replace(out / name)
    except OSError as error:
        raise StoreError(
            f"--out {out}: {' and '.join(files)} cannot be written ({error.strerror or error}); "
            "make room there, or name another folder, and run the same command again"
        ) from error
    finally:
        for path in partial.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}; name another folder") from None
    if not os.access(out, os.W_OK | os.X_OK):
        raise InputError(f"--out {out}: Permission denied; name another folder")
