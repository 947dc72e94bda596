"""API keys: only hashes are kept, and each tenant has its own."""

from __future__ import annotations

import re

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.keys import create_key, find_key, hash_of, list_keys, revoke_key
from datagen.errors import NotFoundError


def make(catalog: Catalog, *, tenant: str = "acme", **options: float) -> tuple[str, str]:
    row, key = create_key(
        catalog, tenant=tenant, name="x", scopes=("read", "submit"), created_by="me", **options
    )
    return row.id, key


def test_a_key_is_found_by_its_id_and_told_by_its_secret(any_catalog: Catalog) -> None:
    key_id, key = make(any_catalog)
    match = re.fullmatch(r"dg_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", key)
    assert match is not None
    assert match[1] == key_id
    row = find_key(any_catalog, key_id)
    assert row is not None
    assert row.secret_sha256 == hash_of(match[2])
    assert (row.tenant, row.scopes, row.is_expired) == ("acme", ("read", "submit"), False)
    assert find_key(any_catalog, "0" * 16) is None


def test_no_two_keys_are_alike(any_catalog: Catalog) -> None:
    assert len({key for _ in range(50) for key in make(any_catalog)}) == 100


def test_a_key_expires_by_the_databases_clock(any_catalog: Catalog) -> None:
    past, future = make(any_catalog, expires_in_s=-1.0), make(any_catalog, expires_in_s=60.0)
    rows = [find_key(any_catalog, key_id) for key_id, _ in (past, future)]
    assert [row is not None and row.is_expired for row in rows] == [True, False]


def test_a_tenant_sees_and_revokes_its_own_alone(any_catalog: Catalog) -> None:
    mine, _ = make(any_catalog)
    theirs, _ = make(any_catalog, tenant="other")
    acme = any_catalog.of("acme")
    assert [row.id for row in list_keys(acme, limit=10)] == [mine]
    assert {row.id for row in list_keys(any_catalog, limit=10)} == {mine, theirs}
    assert find_key(acme, theirs) is None
    with pytest.raises(NotFoundError, match=theirs):
        revoke_key(acme, theirs)


def test_a_revoked_key_stays_revoked_since_then(any_catalog: Catalog) -> None:
    key_id, _ = make(any_catalog)
    revoke_key(any_catalog, key_id)
    first = find_key(any_catalog, key_id)
    revoke_key(any_catalog, key_id)
    assert first is not None
    assert first.revoked_at is not None
    assert find_key(any_catalog, key_id) == first


def test_pages_of_keys_hold_each_once(any_catalog: Catalog) -> None:
    made = {make(any_catalog)[0] for _ in range(5)}
    seen, after = [], None
    while page := list_keys(any_catalog, limit=2, after=after):
        seen += [row.id for row in page]
        after = (page[-1].created_at, page[-1].id)
    assert len(seen) == 5
    assert set(seen) == made
