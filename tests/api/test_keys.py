"""API keys and the audit log, through the API."""

from __future__ import annotations

from datagen.catalog.audit import verify_chain
from tests.api.conftest import ACME, OTHER, Api


def test_a_key_is_shown_once_and_opens_what_it_says(api: Api) -> None:
    body = {"name": "ci", "scopes": ["submit", "read"], "expires_in_days": 30}
    made = api.acme.post("/keys", json=body)
    assert made.status_code == 201
    key = made.json()
    assert (key["scopes"], key["revoked_at"]) == (["read", "submit"], None)
    assert key["expires_at"] > key["created_at"]
    with api.client(key["key"]) as client:
        assert client.get("/jobs").status_code == 200
        assert client.get("/keys").status_code == 403
    listed = api.acme.get("/keys").json()["items"]
    assert [entry["name"] for entry in listed] == ["admin", "ci"]
    assert {entry["key"] for entry in listed} == {None}


def test_pages_of_keys_hold_every_key_once(any_api: Api) -> None:
    for number in range(4):
        any_api.key("read", name=f"k{number}")
    seen, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = any_api.acme.get("/keys", params=query).json()
        seen += [key["name"] for key in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == ["admin", "k0", "k1", "k2", "k3"]


def test_another_tenants_key_does_not_exist(api: Api) -> None:
    key_id = api.key("read").split("_")[1]
    assert api.other.delete(f"/keys/{key_id}").status_code == 404
    assert [key["name"] for key in api.other.get("/keys").json()["items"]] == ["admin"]


def test_bad_keys_are_not_made(api: Api) -> None:
    for body in (
        {"name": "", "scopes": ["read"]},
        {"name": "a\x00", "scopes": ["read"]},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["root"]},
        {"name": "a", "scopes": ["read"], "expires_in_days": 0},
        {"name": "a", "scopes": ["read"], "expires_in_days": 10**30},
        {"name": "a", "scopes": ["read"], "tenant": OTHER},
    ):
        assert api.acme.post("/keys", json=body).status_code == 422, body
    assert len(api.acme.get("/keys").json()["items"]) == 1


def test_making_and_revoking_are_audited_in_a_sound_chain(api: Api) -> None:
    key_id = api.acme.post("/keys", json={"name": "x", "scopes": ["read"]}).json()["id"]
    api.acme.delete(f"/keys/{key_id}")
    page = api.acme.get("/audit", params={"limit": 1}).json()
    following = api.acme.get("/audit", params={"cursor": page["next_cursor"]}).json()
    entries = page["items"] + following["items"]
    assert [(e["action"], e["target"]) for e in entries] == [
        ("key.revoke", key_id),
        ("key.create", key_id),
    ]
    assert all(len(e["hash"]) == 64 and e["actor"] for e in entries)
    report = verify_chain(api.catalog, ACME)
    assert (report.num_rows, report.broken_at, report.head_hash) == (2, None, entries[0]["hash"])
