"""A version from a service into a folder: objects fetched and proven, then written as a format.

Called by both clients. Finished objects are kept in a hidden folder beside the target until the
pull succeeds, so that a pull given again fetches the rest alone. An object that is cut or changed
on the way never gets its name there.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from datagen.client.results import FileEntry, Pulled
from datagen.errors import InputError, NotFoundError, StoreError, VerifyError
from datagen.formats import FORMATS
from datagen.formats.beside import write_beside
from datagen.formats.version import CHUNK_BYTES, VersionReader
from datagen.manifest import Manifest, ObjectEntry
from datagen.recipe import suggest

NUM_CONNECTIONS = 4
# Before each try; the first goes to the store itself, the others through the service.
PAUSES_S = (0.0, 0.0, 0.5, 2.0)

# Signed addresses work for a minute from when they were listed.
FRESH_S = 30.0

# A stream of an object's bytes, by its entry and the number of the try.
OpenStream = Callable[[FileEntry, int], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True)
class RemoteVersion:
    """manifest: as published, bytes and all. list_files: with addresses signed at the call.
    attached: fetches what goes beside the data, file name -> content."""

    manifest: bytes
    manifest_sha256: str
    list_files: Callable[[], Iterable[FileEntry]]
    attached: Callable[[], Mapping[str, bytes]]


def pull_version(
    remote: RemoteVersion,
    out: Path,
    *,
    layout: str | None,
    open_stream: OpenStream,
    on_progress: Callable[[int, int], None],
) -> Pulled:
    """layout: a format; None is the first of the recipe's. on_progress: samples done, of all.

    Raises InputError if `out` exists, VerifyError if an object differs from the manifest.
    """
    manifest = _manifest(remote)
    layout = layout or str(manifest.recipe["output"]["formats"][0])
    if layout not in FORMATS:
        known = ", ".join(FORMATS)
        raise InputError(f"format {layout!r}: expected {known}{suggest(layout, FORMATS)}")
    attached = remote.attached()
    objects = out.absolute().with_name(f".{out.absolute().name}.objects-{manifest.digest[:12]}")
    with closing(_Objects(objects, remote, manifest, open_stream)) as source:
        reader = VersionReader(source, "", manifest)
        for done in FORMATS[layout](reader, out):
            on_progress(done, manifest.num_samples)
    shutil.rmtree(objects, ignore_errors=True)
    beside = write_beside(out, attached)
    return Pulled(
        name=manifest.name,
        version=manifest.version,
        digest=manifest.digest,
        format=layout,
        num_samples=manifest.num_samples,
        path=str(out.absolute()),
        attached=tuple(beside),
    )


def _manifest(remote: RemoteVersion) -> Manifest:
    found = hashlib.sha256(remote.manifest).hexdigest()
    if found != remote.manifest_sha256:
        raise VerifyError(
            f"manifest.json: sha256 {found}, expected {remote.manifest_sha256}: it was changed "
            "after it was published, or on the way; pull again, then restore it from a backup"
        )
    return Manifest.from_bytes(remote.manifest)


class _Objects:
    """What a format reads from: fetches the shards, a few at once, when the first is asked for."""

    def __init__(
        self, folder: Path, remote: RemoteVersion, manifest: Manifest, open_stream: OpenStream
    ) -> None:
        self._folder = folder
        self._listing = _Listing(remote.list_files)
        self._shards = manifest.shards
        self._open_stream = open_stream
        self._fetched: dict[str, Future[Path]] = {}
        self._pool = ThreadPoolExecutor(NUM_CONNECTIONS, thread_name_prefix="datagen-pull")

    def open(self, key: str) -> BinaryIO:
        if not self._fetched:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise _cannot_write(self._folder, error) from error
            for entry in self._shards:
                self._fetched[entry.path] = self._pool.submit(self._fetch, entry)
        return self._fetched[key].result().open("rb")

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        with suppress(OSError):  # it holds what the next pull need not fetch again
            self._folder.rmdir()

    def _fetch(self, entry: ObjectEntry) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", entry.sha256):
            raise VerifyError(f"manifest.json: {entry.path}: sha256 {entry.sha256[:80]!r} is none")
        path = self._folder / entry.sha256
        if path.is_file() and _digest_of(path) == (entry.size_bytes, entry.sha256):
            return path
        fault: Exception | None = None
        for num_try, pause_s in enumerate(PAUSES_S):
            time.sleep(pause_s)
            try:
                return self._fetch_once(self._listing.find(entry.path), entry, path, num_try)
            except (StoreError, VerifyError) as error:
                fault = error
        assert fault is not None
        raise fault

    def _fetch_once(self, source: FileEntry, entry: ObjectEntry, path: Path, num_try: int) -> Path:
        """Into a file of another name, which is gone unless its bytes are the right ones."""
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        sha256, size_bytes = hashlib.sha256(), 0
        try:
            with self._open_stream(source, num_try) as chunks, partial.open("wb") as file:
                for chunk in chunks:
                    size_bytes += len(chunk)
                    if size_bytes > entry.size_bytes:
                        break
                    sha256.update(chunk)
                    file.write(chunk)
            if (size_bytes, sha256.hexdigest()) != (entry.size_bytes, entry.sha256):
                raise VerifyError(
                    f"{entry.path}: {size_bytes} bytes, sha256 {sha256.hexdigest()}: expected "
                    f"{entry.size_bytes} bytes, sha256 {entry.sha256}; it was cut or changed on "
                    "the way or in the store: pull again, then run `datagen verify`"
                )
            partial.replace(path)
        except OSError as error:
            raise _cannot_write(path, error) from error
        finally:
            partial.unlink(missing_ok=True)
        return path


class _Listing:
    """The files of a version, asked for again before their addresses run out."""

    def __init__(self, list_files: Callable[[], Iterable[FileEntry]]) -> None:
        self._list_files = list_files
        self._lock = threading.Lock()
        self._files: dict[str, FileEntry] = {}
        self._listed_at = -math.inf

    def find(self, path: str) -> FileEntry:
        """Raises NotFoundError, and what the service raises: a version may be revoked meanwhile."""
        with self._lock:
            if time.monotonic() - self._listed_at > FRESH_S:
                asked_at = time.monotonic()
                self._files = {entry.path: entry for entry in self._list_files()}
                self._listed_at = asked_at
            found = self._files.get(path)
        if found is None:
            raise NotFoundError(
                f"{path} is in the manifest, and the service does not offer it: ask its operator "
                "to run `datagen verify`"
            )
        return found


def _digest_of(path: Path) -> tuple[int, str]:
    sha256, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
            size_bytes += len(chunk)
    return size_bytes, sha256.hexdigest()


def _cannot_write(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror or error}; check its permissions and the space left"
    )
