"""Images in S3, brought to a folder for as long as they are read. Called by `datagen train`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from datagen.errors import InputError, MachineError
from datagen.store import ObjectInfo, Store, open_store

_MAX_BYTES = 256 << 30
_NUM_THREADS = 16


@contextmanager
def local_images(
    path: Path,
    *,
    folder: Path,
    endpoint_url: str | None,
    profile: str | None = None,
    max_bytes: int | None = None,
) -> Iterator[Path]:
    """Yields path itself; of s3://bucket/prefix, a copy in a new folder below `folder`, which is
    gone when the block ends: what is kept could be stale. profile: of the AWS configuration.
    max_bytes: of all objects.

    Raises InputError if nothing lies there, StoreError if it cannot be read, MachineError if the
    copy cannot be written.
    """
    if (address := s3_address(path)) is None:
        yield path
        return
    store = open_store(address, endpoint_url=endpoint_url, profile=profile)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="images-", dir=folder) as place:
        copy = Path(place, path.name)
        fetch_images(store, copy, address=address, max_bytes=max_bytes or _MAX_BYTES)
        yield copy


def s3_address(path: Path) -> str | None:
    """None if it is no address of S3. A Path holds s3://bucket as s3:/bucket."""
    if path.parts[:1] != ("s3:",):
        return None
    return "s3://" + "/".join(path.parts[1:])


def fetch_images(store: Store, folder: Path, *, address: str, max_bytes: int = _MAX_BYTES) -> None:
    """Every object of the store, at its key below the folder. Keys cannot leave it: see
    datagen.store.interface.key_fault."""
    objects = list(store.list(""))
    if not objects:
        raise InputError(
            f"data {address}: no object there; name the prefix of the images, or the bucket, and "
            "check DATAGEN_S3_ENDPOINT_URL"
        )
    size_bytes = sum(each.size_bytes for each in objects)
    if size_bytes > max_bytes:
        raise InputError(
            f"data {address}: {size_bytes:,} bytes in {len(objects):,} objects; expected at most "
            f"{max_bytes:,}: name a narrower prefix"
        )
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        try:
            for _ in threads.map(lambda each: _fetch(store, each, folder), objects):
                pass
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(store: Store, wanted: ObjectInfo, folder: Path) -> None:
    path = folder / wanted.key
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with store.open(wanted.key) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    except OSError as error:
        raise MachineError(
            f"{store.url(wanted.key)} cannot be written to {path}: {error.strerror}; free space, "
            "or set another --home"
        ) from None
