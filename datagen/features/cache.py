"""Features on disk, one small file per image, named by what they were made from.

Used by compute_features. A file that is cut, changed or of another shape is made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError

_DIGEST_BYTES = 32
_KEEP_SHARE = 0.9  # of the bound, after eviction


class FeatureCache:
    """folder: made when missing. max_bytes: once it is passed, the oldest files go first."""

    def __init__(self, folder: Path, *, max_bytes: int = 2 * 2**30) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._num_bytes = sum(size for _, _, size in self._entries())

    def fill(
        self,
        rows: NDArray[np.float32],
        images: NDArray[np.uint8],
        *,
        key: str,
        extract: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    ) -> None:
        """Writes the features of images (N, H, W, C) into rows (N, dim). key: of the extractor."""
        paths = [self._path(image, key) for image in images]
        missing = [i for i, path in enumerate(paths) if not _read(path, rows[i])]
        if not missing:
            return
        rows[missing] = extract(images[missing])
        for i in missing:
            if np.isfinite(rows[i]).all():
                self._write(paths[i], rows[i])
        if self._num_bytes > self.max_bytes:
            self._evict()

    def _path(self, image: NDArray[np.uint8], key: str) -> Path:
        sha = hashlib.sha256(f"{key} {image.shape} ".encode())
        sha.update(np.ascontiguousarray(image).data)
        digest = sha.hexdigest()
        return self.folder / digest[:2] / f"{digest}.f32"

    def _write(self, path: Path, row: NDArray[np.float32]) -> None:
        content = row.astype("<f4").tobytes()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(file.name, path)
        except OSError as error:
            raise InputError(
                f"feature cache {self.folder}: {error}; expected a folder that can be written"
            ) from error
        self._num_bytes += _DIGEST_BYTES + len(content)

    def _entries(self) -> list[tuple[float, Path, int]]:
        """(time of writing, path, bytes) of every file, unfinished ones too."""
        found = []
        for path in self.folder.glob("??/*.*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process evicted it
                continue
            found.append((status.st_mtime, path, status.st_size))
        return found

    def _evict(self) -> None:
        entries = sorted(self._entries())
        self._num_bytes = sum(size for _, _, size in entries)
        for _, path, size in entries:
            if self._num_bytes <= self.max_bytes * _KEEP_SHARE:
                break
            path.unlink(missing_ok=True)
            self._num_bytes -= size


def _read(path: Path, row: NDArray[np.float32]) -> bool:
    """Whether the file held a sound row of this length, which is then in `row`."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    digest, values = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if len(values) != 4 * len(row) or hashlib.sha256(values).digest() != digest:
        return False
    row[:] = np.frombuffer(values, "<f4")
    return True
