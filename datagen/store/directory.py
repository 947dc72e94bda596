"""The store in a folder: for a laptop, a notebook, a test. Called through `open_store`."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from datagen.errors import ObjectMissingError, StoreError, StoreFullError, StoreUnavailableError
from datagen.store.interface import (
    PRESIGNED_S,
    STREAM_BUFFER_BYTES,
    ForwardStream,
    ObjectInfo,
    check_key,
    check_length,
    check_prefix,
    differs,
    key_fault,
    same_bytes,
)

# Inside the root, so that a link from it never leaves the file system.
TEMPORARY_FOLDER = ".tmp"
LEFTOVER_AGE_S = 24 * 3600.0

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PASSING = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.ENOENT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


class DirectoryStore:
    """Files below a folder, which appears with the first object.

    An object is written to a temporary file, synced, then linked to its name, which only one of
    several writers can do; a name is therefore never seen with half of its bytes, whatever dies.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary_folder = root / TEMPORARY_FOLDER
        self._synced_folders: set[Path] = set()

    def put_new(self, key: str, data: bytes) -> bool:
        return self._put(key, io.BytesIO(data))

    def put_file(self, key: str, path: Path) -> bool:
        with path.open("rb") as source:
            return self._put(key, source)

    def _put(self, key: str, source: BinaryIO) -> bool:
        path = self._path(key)
        with self._errors("write", path):
            created = not os.path.lexists(path) and self._create(path, source)
            if not created:
                self._require_equal(path, source)
            # Also for an equal object: its writer may not have come this far yet.
            _sync_folder(path.parent)
        return created

    def get(self, key: str) -> bytes:
        path = self._path(key)
        with self._read_errors(path):
            return path.read_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        assert min(start, length) >= 0
        path = self._path(key)
        with self._read_errors(path), path.open("rb") as file:
            file.seek(start)
            data = file.read(length)
        return check_length(data, url=path.absolute().as_uri(), start=start, length=length)

    def open(self, key: str) -> BinaryIO:
        path = self._path(key)
        with self._read_errors(path):
            source = path.open("rb", buffering=0)
        return io.BufferedReader(
            ForwardStream(source, lambda: self._read_errors(path)), STREAM_BUFFER_BYTES
        )

    def size(self, key: str) -> int | None:
        path = self._path(key)
        try:
            with self._read_errors(path):
                return path.stat().st_size if path.is_file() else None
        except ObjectMissingError:
            return None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        parent = check_prefix(prefix).rpartition("/")[0]
        yield from self._list_folder(parent + "/" if parent else "", prefix)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with self._errors("delete", path):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            except (IsADirectoryError, PermissionError):
                if not path.is_dir():
                    raise

    def url(self, key: str) -> str:
        return self._path(key).absolute().as_uri()

    def presign(self, key: str, *, expires_s: int = PRESIGNED_S) -> str | None:
        check_key(key)
        return None

    def check(self) -> None:
        with self._errors("write", self._root):
            first = self._write_temporary(io.BytesIO(b"probe"))
            second = first.with_suffix(".link")
            try:
                os.link(first, second)  # some network and FAT file systems have no links
                self._remove_leftovers(now_s=first.stat().st_mtime)
            finally:
                second.unlink(missing_ok=True)
                first.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _create(self, path: Path, source: BinaryIO) -> bool:
        self._make_folder(path.parent)
        temporary = self._write_temporary(source)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _write_temporary(self, source: BinaryIO) -> Path:
        self._make_folder(self._temporary_folder)
        path = self._temporary_folder / uuid4().hex
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(source, file, STREAM_BUFFER_BYTES)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path

    def _make_folder(self, folder: Path) -> None:
        """Makes the folder and syncs the way to it, once in the life of this store."""
        if folder in self._synced_folders and folder.is_dir():
            return
        top = self._root
        while not top.is_dir():
            top = top.parent
        folder.mkdir(parents=True, exist_ok=True)
        step = folder
        while step != top:
            step = step.parent
            _sync_folder(step)
        self._synced_folders.add(folder)

    def _require_equal(self, path: Path, source: BinaryIO) -> None:
        source.seek(0)
        with path.open("rb") as file:
            num_bytes = os.fstat(file.fileno()).st_size
            if same_bytes(file, source):
                return
        raise differs(path.absolute().as_uri(), num_bytes=num_bytes, source=source)

    def _list_folder(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        """folder: a key prefix that ends in a slash, or is empty."""
        path = self._root / folder
        with self._errors("list", path):
            if not path.is_dir():
                return
            with os.scandir(path) as entries:
                # With its slash a folder sorts as the keys in it do: "a-b", "a/c", "a0".
                names = sorted(
                    entry.name + "/" * entry.is_dir(follow_symlinks=False)
                    for entry in entries
                    if not entry.is_symlink()
                )
        for name in names:
            key = folder + name
            if key_fault(key.removesuffix("/")) is not None:
                continue
            if name.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._list_folder(key, prefix)
            elif key.startswith(prefix) and (num_bytes := self.size(key)) is not None:
                yield ObjectInfo(key, num_bytes)

    def _remove_leftovers(self, *, now_s: float) -> None:
        """Removes temporary files of writers that were killed, long after any put can last."""
        for path in self._temporary_folder.iterdir():
            try:
                if now_s - path.stat().st_mtime > LEFTOVER_AGE_S:
                    path.unlink()
            except FileNotFoundError:
                continue

    @contextmanager
    def _read_errors(self, path: Path) -> Iterator[None]:
        with self._errors("read", path):
            try:
                yield
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise ObjectMissingError(
                    f"{path.absolute().as_uri()} does not exist; if it should, run `datagen verify`"
                ) from None

    @contextmanager
    def _errors(self, action: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"cannot {action} {path}: {error.strerror or error}"
            elsewhere = "use another place (--home, or DATAGEN_STORE_URL)"
            if error.errno in _FULL:
                raise StoreFullError(
                    f"{what}; make room in {self._root}, then run the same command again"
                ) from error
            if error.errno in _REFUSED:
                raise StoreError(f"{what}; allow writing there, or {elsewhere}") from error
            if error.errno in _PASSING:
                raise StoreUnavailableError(
                    f"{what}; see that {self._root} is mounted and whole, then run again"
                ) from error
            if isinstance(error, (FileExistsError, NotADirectoryError, IsADirectoryError)):
                raise StoreError(
                    f"{what}: a file lies where a folder is needed, or a folder where a file is; "
                    f"move it away, or {elsewhere}"
                ) from error
            raise StoreError(f"{what}; {elsewhere}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
