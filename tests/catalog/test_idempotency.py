"""Idempotency keys: one holder at a time, one answer for ever."""

from __future__ import annotations

import threading

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.idempotency import KeyReusedError, drop_key, take_key
from datagen.errors import ConflictError

BODY, OTHER_BODY = "a" * 64, "b" * 64


@pytest.fixture
def catalog(any_catalog: Catalog) -> Catalog:
    return any_catalog.of("acme")


def test_a_new_key_is_the_callers(catalog: Catalog) -> None:
    assert take_key(catalog, "k", body_sha256=BODY) is None


def test_a_key_that_is_held_is_a_conflict_until_its_lock_runs_out(catalog: Catalog) -> None:
    take_key(catalog, "k", body_sha256=BODY, lock_s=60)
    with pytest.raises(ConflictError, match="'k'"):
        take_key(catalog, "k", body_sha256=BODY)
    take_key(catalog, "late", body_sha256=BODY, lock_s=-1)
    assert take_key(catalog, "late", body_sha256=BODY) is None


def test_another_body_is_refused_before_and_after_the_lock(catalog: Catalog) -> None:
    for lock_s in (60.0, -1.0):
        key = f"k{lock_s}"
        take_key(catalog, key, body_sha256=BODY, lock_s=lock_s)
        with pytest.raises(KeyReusedError):
            take_key(catalog, key, body_sha256=OTHER_BODY)


def test_another_tenants_key_is_new(any_catalog: Catalog) -> None:
    take_key(any_catalog.of("acme"), "k", body_sha256=BODY)
    assert take_key(any_catalog.of("other"), "k", body_sha256=OTHER_BODY) is None


def test_a_dropped_key_is_free(catalog: Catalog) -> None:
    take_key(catalog, "k", body_sha256=BODY)
    drop_key(catalog, "k")
    assert take_key(catalog, "k", body_sha256=OTHER_BODY) is None


def test_of_many_at_once_one_gets_the_key(catalog: Catalog) -> None:
    won, lost = [], []
    gate = threading.Barrier(6)

    def take() -> None:
        gate.wait()
        try:
            won.append(take_key(catalog, "k", body_sha256=BODY))
        except ConflictError:
            lost.append(1)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (won, len(lost)) == ([None], 5)
