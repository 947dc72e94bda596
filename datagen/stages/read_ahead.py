"""Ranges of objects, read with some of what follows them. Called by the stages.

Shards take the images of a class one after the other from the same few objects: with a request
for each, a store's answers take longer than the work.
"""

from __future__ import annotations

from collections import OrderedDict

from datagen.store import Store

_KEPT_BYTES = 2**24


class ReadAhead:
    """Keeps the last span of each object, and _KEPT_BYTES in all: the longest unused goes first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._spans: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._num_bytes = 0

    def get_range(self, key: str, start: int, length: int, *, ahead: int, size: int) -> bytes:
        """As the store's. ahead: bytes to read if they must be read, of an object of size bytes."""
        if key in self._spans:
            first, data = self._spans[key]
            if first <= start and start + length <= first + len(data):
                self._spans.move_to_end(key)
                return data[start - first : start - first + length]
        data = self._store.get_range(key, start, max(length, min(ahead, size - start)))
        self.forget(key)
        self._keep(key, start, data)
        return data[:length]

    def forget(self, key: str) -> None:
        """What was read of the object: the next time it is read again."""
        if key in self._spans:
            self._num_bytes -= len(self._spans.pop(key)[1])

    def _keep(self, key: str, start: int, data: bytes) -> None:
        self._spans[key] = (start, data)
        self._num_bytes += len(data)
        while self._num_bytes > _KEPT_BYTES:
            self.forget(next(iter(self._spans)))
