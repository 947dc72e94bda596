"""What was found out about a version, put beside its data in a folder of its own.

Called by `datagen pull` and the client, after a layout was written: the README.md of a layout is
its own, so that loaders find what they look for in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from datagen.errors import StoreError, VerifyError

FOLDER = "evaluation"
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}")


def write_beside(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """files: name -> content. Returns the paths within `folder`. Raises VerifyError for a name that
    could lie elsewhere, StoreError if it cannot be written."""
    for name in files:
        if not FILE_NAME.fullmatch(name):
            raise VerifyError(f"attachment {name[:80]!r}: expected a plain file name")
    try:
        for name, data in files.items():
            (folder / FOLDER).mkdir(exist_ok=True)
            (folder / FOLDER / name).write_bytes(data)
    except OSError as error:
        raise StoreError(
            f"cannot write {folder / FOLDER}: {error.strerror or error}; the data beside it are "
            "whole"
        ) from error
    return [f"{FOLDER}/{name}" for name in files]
