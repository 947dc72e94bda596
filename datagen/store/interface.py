"""What a store of objects promises, and the checks that both stores share."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from datagen.errors import ObjectExistsError, StoreError

MAX_KEY_BYTES = 1024
MAX_KEY_PART_BYTES = 255  # the longest file name; SeaweedFS has the same limit
STREAM_BUFFER_BYTES = 1 << 20
# A revoked object may be fetched for this long by an address that was given out before.
PRESIGNED_S = 60


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    size_bytes: int


class Store(Protocol):
    """Objects are created once and never changed. Every method raises a StoreError if it fails.

    A key is relative, at most 1024 bytes, with parts of at most 255 bytes that do not start with
    a dot. Calls from several threads, processes and machines at once are safe.
    """

    def put_new(self, key: str, data: bytes) -> bool:
        """Creates the object, durably. False: an equal object is there already.

        Raises ObjectExistsError if another object has the key. A retry after a lost reply finds
        the object of its first try, so False is a success like True.
        """
        ...

    def put_file(self, key: str, path: Path) -> bool:
        """As put_new, of a file's bytes; the file may be larger than the memory."""
        ...

    def get(self, key: str) -> bytes:
        """Raises ObjectMissingError."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Returns exactly `length` bytes; raises StoreError if the object ends before."""
        ...

    def open(self, key: str) -> BinaryIO:
        """A stream to read once, forwards, in a `with`. Raises ObjectMissingError at once."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes, or None if there is no such object."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose key starts with prefix ("" for all), in the byte order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """An object that is not there is no error."""
        ...

    def url(self, key: str) -> str:
        """The address that people and other tools know the object by."""
        ...

    def presign(self, key: str, *, expires_s: int = PRESIGNED_S) -> str | None:
        """An address by which anyone may read the object for so long; None if this store has none.

        Asks nobody whether the object exists.
        """
        ...

    def check(self) -> None:
        """Raises a StoreError that says what to do if objects cannot be created here."""
        ...


def check_key(key: str) -> str:
    """Raises StoreError if the key could leave the store, or cannot be kept by every store."""
    fault = key_fault(key)
    if fault is not None:
        shown = key if len(key) <= 80 else key[:77] + "..."
        raise StoreError(
            f"object key {shown!r} {fault}: expected a relative path of at most {MAX_KEY_BYTES} "
            f"bytes, parts of 1 to {MAX_KEY_PART_BYTES} bytes, none starting with a dot"
        )
    return key


def key_fault(key: str) -> str | None:
    try:
        num_bytes = len(key.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    if num_bytes > MAX_KEY_BYTES:
        return f"has {num_bytes} bytes"
    if re.search(r"[\x00-\x1f\x7f]", key):
        return "has a control character"
    for part in key.split("/"):
        if not part:
            return "has an empty part"
        if part.startswith("."):
            return f"has the part {part[:80]!r}"
        if len(part.encode()) > MAX_KEY_PART_BYTES:
            return f"has a part of {len(part.encode())} bytes"
    return None


def check_prefix(prefix: str) -> str:
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def check_length(data: bytes, *, url: str, start: int, length: int) -> bytes:
    if len(data) != length:
        raise StoreError(
            f"{url} ends before byte {start + length}: the offset is of another object, or the "
            "object was cut; run `datagen verify`"
        )
    return data


def differs(url: str, *, num_bytes: int, source: BinaryIO) -> ObjectExistsError:
    """source: of what was to be put."""
    source.seek(0)
    digest, wanted_bytes = hashlib.sha256(), 0
    while piece := source.read(STREAM_BUFFER_BYTES):
        digest.update(piece)
        wanted_bytes += len(piece)
    wanted = f"{wanted_bytes} bytes, sha256 {digest.hexdigest()[:16]}..."
    return ObjectExistsError(
        f"{url} exists with other content ({num_bytes} bytes) than was to be put ({wanted}), and "
        "objects never change; if `datagen verify` calls it damaged, remove it and run again"
    )


class ForwardStream(io.RawIOBase):
    """Reads a source forwards only, with the store's errors, so that both stores act alike."""

    def __init__(self, source: Any, guard: Callable[[], AbstractContextManager[Any]]) -> None:
        super().__init__()
        self._source = source
        self._guard = guard

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._guard():
            chunk = self._source.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._source.close()
        super().close()


def same_bytes(first: BinaryIO, second: BinaryIO) -> bool:
    """Piece by piece; both streams are read from where they are."""
    while True:
        piece = first.read(STREAM_BUFFER_BYTES)
        if piece != second.read(STREAM_BUFFER_BYTES):
            return False
        if not piece:
            return True
