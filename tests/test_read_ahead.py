"""Ranges of objects read with some of what follows them."""

from __future__ import annotations

from pathlib import Path

from datagen.stages.read_ahead import ReadAhead
from datagen.store import Store, open_store

DATA = bytes(range(256)) * 64


class CountingStore:
    """A real store's ranges, counted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.num_reads = 0

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.num_reads += 1
        return self._store.get_range(key, start, length)


def opened(folder: Path) -> CountingStore:
    store = open_store(folder.as_uri())
    for name in "ab":
        store.put_new(name, DATA)
    return CountingStore(store)


def test_following_ranges_are_read_once_and_are_those_of_the_object(tmp_path: Path) -> None:
    store = opened(tmp_path)
    ahead = ReadAhead(store)  # type: ignore[arg-type]
    for start in range(0, 4_000, 100):
        data = ahead.get_range("a", start, 100, ahead=1_000, size=len(DATA))
        assert data == DATA[start : start + 100]
    assert store.num_reads == 4


def test_nothing_is_asked_for_past_the_end(tmp_path: Path) -> None:
    ahead = ReadAhead(opened(tmp_path))  # type: ignore[arg-type]
    start = len(DATA) - 50
    assert ahead.get_range("a", start, 50, ahead=1_000, size=len(DATA)) == DATA[-50:]


def test_what_was_forgotten_is_read_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    ahead = ReadAhead(store)  # type: ignore[arg-type]
    for _ in range(2):
        ahead.get_range("a", 0, 10, ahead=100, size=len(DATA))
        ahead.get_range("b", 0, 10, ahead=100, size=len(DATA))
        ahead.forget("a")
    assert store.num_reads == 3


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    large = bytes(7 * 2**20)
    for name in "abc":
        store.put_new(name, large)
    counting = CountingStore(store)
    ahead = ReadAhead(counting)  # type: ignore[arg-type]
    for name in "abcabc":
        assert len(ahead.get_range(name, 0, 10, ahead=len(large), size=len(large))) == 10
    assert counting.num_reads == 6
