"""A folder as canonical tars: equal folders give equal bytes. Called by exports.

Names are sorted within each folder, a folder stands before what is in it, times and owners are
zero, modes 0644 and 0755. Source of the layout: POSIX.1-2001, pax(1) "pax Interchange Format",
which is ustar wherever a name or a size fits into that.
"""

from __future__ import annotations

import heapq
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_BLOCK_BYTES = tarfile.BLOCKSIZE
# What is held of a folder's names at a time: a folder may have millions.
_NAMES = 2**16


def move_into_tars(
    folder: Path,
    stem: Path,
    *,
    max_bytes: int,
    check_abort: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Returns {stem}.tar; or {stem}-{i, 5 digits}-of-{n}.tar, where one would pass max_bytes: each
    of them a tar of whole files, all to be unpacked into one folder. A file is never divided.

    Each file goes once it is written, so that the disk holds little more than the files alone; in
    the end `folder` is empty. check_abort: called before each file.
    """
    parts: list[Path] = []
    target: BinaryIO | None = None
    try:
        for path, name in _members(folder, ""):
            check_abort()
            size = None if path.is_dir() else path.stat().st_size
            if target is not None and target.tell() + (size or 0) > max_bytes:
                _close(target)
                target = None
            if target is None:
                parts.append(stem.with_name(f"{stem.name}-{len(parts):05d}.tar"))
                target = parts[-1].open("wb")
            _move(path, name, size, target)
        if target is not None:
            _close(target)
    finally:
        if target is not None:
            target.close()
    return [part.rename(_name(stem, i, len(parts))) for i, part in enumerate(parts)]


def _name(stem: Path, index: int, count: int) -> Path:
    return stem.with_name(
        f"{stem.name}.tar" if count == 1 else f"{stem.name}-{index:05d}-of-{count:05d}.tar"
    )


def _members(folder: Path, prefix: str) -> Iterator[tuple[Path, str]]:
    """(path, name in the tar); a file is expected to be gone when the next is asked for."""
    while names := _first_names(folder):
        for name in names:
            path = folder / name
            yield path, prefix + name
            if path.is_dir():
                yield from _members(path, f"{prefix}{name}/")
                path.rmdir()


def _first_names(folder: Path) -> list[str]:
    """Of those that are left."""
    with os.scandir(folder) as entries:
        return heapq.nsmallest(_NAMES, (entry.name for entry in entries))


def _move(path: Path, name: str, size: int | None, target: BinaryIO) -> None:
    """size: None of a folder. TarInfo's own times and owners are zero."""
    member = tarfile.TarInfo(name)
    if size is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        member.size = size
    target.write(member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict"))
    if size is not None:
        with path.open("rb") as source:
            shutil.copyfileobj(source, target)
        target.write(bytes(-size % _BLOCK_BYTES))
        path.unlink()


def _close(target: BinaryIO) -> None:
    end = target.tell() + 2 * _BLOCK_BYTES
    target.write(bytes(2 * _BLOCK_BYTES + -end % tarfile.RECORDSIZE))
    target.close()
