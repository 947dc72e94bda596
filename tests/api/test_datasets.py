"""Data sets through the API: lists, versions, samples, files and bytes; deprecated and revoked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from datagen.manifest import Manifest
from datagen.revocation import erase_all
from datagen.settings import load_settings
from tests.api.conftest import Api, recipe, run_api


@pytest.fixture(params=["embedded", "servers"], scope="module")
def full(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """acme has small@1 (filtered), small@2 (grown) and other@1; nothing of it is changed here."""
    home = tmp_path_factory.mktemp("datasets")
    environ: dict[str, str] = {}
    patch = pytest.MonkeyPatch()
    if request.param == "servers":
        postgres = request.getfixturevalue("postgres_server")
        s3 = request.getfixturevalue("s3_server")
        postgres.execute("CREATE DATABASE api_datasets")
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        environ = {
            "DATAGEN_DATABASE_URL": postgres.url("api_datasets"),
            "DATAGEN_STORE_URL": f"s3://{s3.bucket}/api-datasets",
            "DATAGEN_S3_ENDPOINT_URL": s3.endpoint_url,
        }
    with run_api(load_settings(environ, home=home)) as api:
        filtered = [{"filter": "blank", "min_contrast": 0.0}]
        api.publish({"filters": filtered})
        dogs = {"name": "dog", "count": 40, "attributes": {"age": 3}}
        grown = [{"name": "cat", "count": 70}, dogs]
        api.publish({"classes": grown, "filters": filtered})
        api.publish({"name": "other"})
        yield api
    patch.undo()
    if request.param == "servers":
        postgres.execute("DROP DATABASE api_datasets WITH (FORCE)")


def every(client: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    """Of all pages."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = client.get(path, params=query | ({"cursor": cursor} if cursor else {})).json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    return response.status_code, body["type"].rpartition(":")[2]


V1 = "/datasets/small/versions/1"


# --- lists ----------------------------------------------------------------------------------------


def test_data_sets_are_listed_by_name(full: Api) -> None:
    listed = every(full.acme, "/datasets", limit=1)
    assert [(d["name"], d["versions"], d["latest"]) for d in listed] == [
        ("other", 1, 1),
        ("small", 2, 2),
    ]
    assert every(full.other, "/datasets") == []


def test_versions_are_listed_newest_first(full: Api) -> None:
    listed = every(full.acme, "/datasets/small/versions", limit=1)
    assert [v["version"] for v in listed] == [2, 1]
    latest = full.acme.get("/datasets/small/versions/latest").json()
    assert latest == listed[0]
    assert latest["num_samples"] == 110
    assert latest["path"].endswith("acme/datasets/small/2")


@pytest.mark.parametrize(
    "path",
    [
        "/datasets/small/versions",
        V1,
        V1 + "/manifest",
        V1 + "/samples",
        V1 + "/files",
        V1 + "/objects/manifest.json",
        V1 + "/diff?against=2",
        "/datasets/small/versions/latest",
    ],
)
def test_another_tenants_versions_do_not_exist(full: Api, path: str) -> None:
    assert full.acme.get(path).status_code == 200
    assert problem(full.other.get(path)) == (404, "not-found")


def test_another_tenant_changes_nothing(full: Api) -> None:
    for action in ("deprecate", "revoke"):
        answer = full.other.post(f"{V1}/{action}", json={"reason": "mine now"})
        assert problem(answer) == (404, "not-found")
    assert full.acme.get(V1).json()["deprecated_at"] is None


def test_a_cursor_is_of_its_tenant_and_list(full: Api) -> None:
    cursor = full.acme.get(V1 + "/samples?limit=5").json()["next_cursor"]
    assert problem(full.other.get("/datasets", params={"cursor": cursor})) == (404, "not-found")
    wrong = [
        "/datasets",
        "/datasets/small/versions/2/samples",
        V1 + "/samples?class_name=cat",
        V1 + "/samples?min_score=blank:0.1",
    ]
    for path in wrong:
        answer = full.acme.get(path, params={**httpx.URL(path).params, "cursor": cursor})
        assert problem(answer) == (404, "not-found"), path


def test_what_is_no_version_is_told(full: Api) -> None:
    assert problem(full.acme.get("/datasets/small/versions/9")) == (404, "not-found")
    assert problem(full.acme.get("/datasets/nothing/versions/1")) == (404, "not-found")
    assert problem(full.acme.get("/datasets/nothing/versions")) == (404, "not-found")
    for number in ("0", "-1", "x", "1.5", "99999999999"):
        assert problem(full.acme.get(f"/datasets/small/versions/{number}")) == (422, "invalid")


# --- the manifest and the bytes -------------------------------------------------------------------


def test_the_manifest_is_as_published(full: Api) -> None:
    version = full.acme.get(V1).json()
    answer = full.acme.get(V1 + "/manifest")
    assert hashlib.sha256(answer.content).hexdigest() == version["manifest_sha256"]
    assert Manifest.from_bytes(answer.content).digest == version["digest"]


def test_every_file_is_listed_and_can_be_had(full: Api) -> None:
    manifest = Manifest.from_bytes(full.acme.get(V1 + "/manifest").content)
    named = [*manifest.shards, *manifest.index, *manifest.documents]
    files = full.acme.get(V1 + "/files").json()
    assert sorted(f["path"] for f in files) == sorted(
        ["manifest.json", *(entry.path for entry in named)]
    )
    for file in files:
        through = full.acme.get(f"{V1}/objects/{file['path']}")
        assert through.status_code == 200
        assert hashlib.sha256(through.content).hexdigest() == file["sha256"]
        assert len(through.content) == file["size_bytes"]
        assert through.headers["etag"] == f'"{file["sha256"]}"'
        if full.settings.s3_endpoint_url is None:
            assert file["url"] is None
        else:
            direct = httpx.get(file["url"], trust_env=False)
            assert direct.content == through.content
            assert "X-Amz-Expires=60" in file["url"]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=5-999999999", 5, None),
        ("bytes=-999999999", 0, None),
    ],
)
def test_a_range_of_an_object(full: Api, asked: str, first: int, last: int | None) -> None:
    path = full.acme.get(V1 + "/files").json()[-2]["path"]
    whole = full.acme.get(f"{V1}/objects/{path}").content
    part = full.acme.get(f"{V1}/objects/{path}", headers={"Range": asked})
    expected = whole[first:] if last is None else whole[first : last + 1]
    assert (part.status_code, part.content) == (206, expected)
    begin = first % len(whole)
    assert part.headers["content-range"] == (
        f"bytes {begin}-{begin + len(expected) - 1}/{len(whole)}"
    )


@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=-", "bytes=0-1,3-4", "chars=1-2", "x"])
def test_a_range_that_is_none_gives_the_whole(full: Api, asked: str) -> None:
    answer = full.acme.get(V1 + "/objects/README.md", headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.content == full.acme.get(V1 + "/objects/README.md").content


def test_a_range_beyond_the_object_is_refused(full: Api) -> None:
    for asked in ("bytes=99999999-", "bytes=-0"):
        answer = full.acme.get(V1 + "/objects/README.md", headers={"Range": asked})
        assert problem(answer) == (416, "range")


@pytest.mark.parametrize(
    "path",
    [
        "shards/nothing.tar",
        "../2/manifest.json",
        "..%2F2%2Fmanifest.json",
        "%2e%2e/2/manifest.json",
        "../../../other/datasets/small/1/manifest.json",
        "/etc/passwd",
        "tombstone.json",
    ],
)
def test_only_what_the_manifest_names_can_be_had(full: Api, path: str) -> None:
    if path == "tombstone.json":  # an object that is there, and that no manifest names
        key = "acme/datasets/other/1/attachments/notes"
        full.store.put_new(key, b"x")
        answer = full.acme.get("/datasets/other/versions/1/objects/attachments/notes")
        assert problem(answer) == (404, "not-found")
        return
    # Written as it is: httpx would resolve the dots.
    url = httpx.URL(f"{full.url}/v1{V1}/objects/").copy_with(
        raw_path=f"/v1{V1}/objects/{path}".encode()
    )
    answer = full.acme.send(full.acme.build_request("GET", url))
    assert answer.status_code in (404, 422)


# --- samples --------------------------------------------------------------------------------------


def test_samples_are_paged_in_order_without_gaps(full: Api) -> None:
    listed = every(full.acme, V1 + "/samples", limit=7)
    keys = [f"cat-{o:08d}" for o in range(60)] + [f"dog-{o:08d}" for o in range(40)]
    assert [sample["key"] for sample in listed] == keys
    first = listed[0]
    assert first["shard"].startswith("shards/0000")
    assert set(first["scores"]) == {"blank"}
    shard = full.acme.get(
        f"{V1}/objects/{first['shard']}",
        headers={"Range": f"bytes={first['offset']}-{first['offset'] + first['size'] - 1}"},
    )
    assert hashlib.sha256(shard.content).hexdigest() == first["image_sha256"]


def test_samples_are_filtered(full: Api) -> None:
    everything = every(full.acme, V1 + "/samples")
    scores = sorted(sample["scores"]["blank"] for sample in everything)
    low, high = scores[20], scores[80]

    def matching(**query: Any) -> set[str]:
        return {sample["key"] for sample in every(full.acme, V1 + "/samples", limit=9, **query)}

    def those(condition: Any) -> set[str]:
        return {sample["key"] for sample in everything if condition(sample)}

    assert matching(class_name="dog") == those(lambda s: s["class_name"] == "dog")
    assert matching(split="val") == those(lambda s: s["split"] == "val")
    assert matching(split="val", class_name="cat") == those(
        lambda s: (s["split"], s["class_name"]) == ("val", "cat")
    )
    exact = {"min_score": f"blank:{low:.12f}", "max_score": f"blank:{high:.12f}"}
    between = those(lambda s: low - 1e-9 <= s["scores"]["blank"] <= high + 1e-9)
    assert len(between) - len(matching(**exact)) in (0, 1, 2)  # the ends, as they were rounded
    assert matching(**exact) <= between
    assert len(matching(**exact)) > 50
    assert matching(class_name="cat", **exact) == {
        key for key in matching(**exact) if key.startswith("cat")
    }
    assert matching(class_name="cow") == matching(split="nothing") == set()
    assert matching(min_score="absent:0") == set()
    assert matching(model="noise") == {sample["key"] for sample in everything}
    digest = full.acme.get("/models/noise").json()["digest"]
    assert matching(model=digest) == {sample["key"] for sample in everything}
    assert matching(model="other-model") == set()


@pytest.mark.parametrize(
    "query",
    [
        "min_score=blank",
        "min_score=blank:nan",
        "min_score=blank:x",
        "max_score='\"]:1",
        "limit=0",
        "limit=201",
        "cursor=%3D",
        "class_name=" + "x" * 64,
        "&".join(["min_score=blank:1"] * 9),
    ],
)
def test_a_filter_that_is_none_is_refused(full: Api, query: str) -> None:
    assert full.acme.get(f"{V1}/samples?{query}").status_code in (400, 404, 422)


def test_a_rare_score_is_found_over_short_pages(full: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datagen.catalog.browse.WINDOW_ROWS", 10)
    everything = every(full.acme, V1 + "/samples")
    best = max(everything, key=lambda sample: sample["scores"]["blank"])
    bound = best["scores"]["blank"] - 1e-9
    first = full.acme.get(V1 + "/samples", params={"min_score": f"blank:{bound:.12f}"}).json()
    assert first["next_cursor"] is not None
    assert len(first["items"]) <= 1
    found = every(full.acme, V1 + "/samples", min_score=f"blank:{bound:.12f}")
    assert [sample["key"] for sample in found] == [best["key"]]


# --- what differs ---------------------------------------------------------------------------------


def test_the_diff_of_two_versions(full: Api) -> None:
    found = full.acme.get(V1 + "/diff", params={"against": "2"}).json()
    assert found["images"] == {"added": 10, "removed": 0, "changed": 0, "unchanged": 100}
    assert found["classes"]["cat"]["added"] == [[60, 69]]
    assert [change["field"] for change in found["recipe"]] == ["classes.cat.count"]
    assert found == full.acme.get(V1 + "/diff", params={"against": "latest"}).json()


# --- deprecated and revoked -----------------------------------------------------------------------


def test_a_deprecated_version_can_be_used_on_and_says_so(any_api: Api) -> None:
    api = any_api
    api.publish()
    answer = api.acme.post(V1 + "/deprecate", json={"reason": "use small@2"})
    assert answer.status_code == 200
    found = api.acme.get(V1).json()
    assert found["deprecated_reason"] == "use small@2"
    assert found["deprecated_at"] is not None
    assert api.acme.get(V1 + "/manifest").status_code == 200
    assert actions(api) == ["dataset.deprecate"]


def actions(api: Api) -> list[str]:
    rows = api.acme.get("/audit").json()["items"]
    return [row["action"] for row in rows if row["action"].startswith(("dataset", "model"))]


def test_a_revoked_version_is_gone_with_its_digest_told(any_api: Api) -> None:
    api = any_api
    digest = api.publish()["digest"]
    files = api.acme.get(V1 + "/files").json()
    before = len(list(api.store.list("acme/datasets/")))

    planned = api.acme.post(V1 + "/revoke", json={"reason": "wrong labels", "dry_run": True})
    assert planned.json()["versions"] == [{"name": "small", "version": 1, "digest": digest}]
    assert api.acme.get(V1).status_code == 200

    done = api.acme.post(V1 + "/revoke", json={"reason": "wrong labels"}).json()

    assert (done["kind"], done["subject"], done["digest"]) == ("version", "small@1", digest)
    for path in ("", "/manifest", "/samples", "/files", "/objects/README.md", "/diff?against=1"):
        answer = api.acme.get(V1 + path)
        assert problem(answer) == (410, "revoked"), path
        assert digest in answer.json()["detail"]
        assert "wrong labels" in answer.json()["detail"]
    listed = api.acme.get("/datasets/small/versions").json()["items"]
    assert [(v["revoked_reason"], v["digest"]) for v in listed] == [("wrong labels", digest)]
    assert api.store.size("acme/datasets/small/1/manifest.json") is None
    tombstone = json.loads(api.store.get("acme/datasets/small/1/tombstone.json"))
    assert tombstone["digest"] == digest
    assert len(list(api.store.list("acme/datasets/"))) == before  # one more, one less
    erase_all(api.catalog, api.store)
    for file in files:
        if file["url"] is not None:
            assert httpx.get(file["url"], trust_env=False).status_code == 404
    assert [each.key for each in api.store.list("acme/")] == [
        "acme/datasets/small/1/tombstone.json"
    ]
    assert actions(api) == ["dataset.revoke"]
    resubmitted = api.acme.post(
        "/jobs", json={"recipe": recipe()}, headers={"Idempotency-Key": "once-more"}
    )
    assert problem(resubmitted) == (410, "revoked")
    again = api.acme.post(V1 + "/revoke", json={"reason": "again"}).json()
    assert (again["already"], again["versions"]) == (True, [])


def test_only_an_administrator_revokes(api: Api) -> None:
    api.publish()
    allowed = {
        ("read", "deprecate"): 403,
        ("read", "revoke"): 403,
        ("submit", "revoke"): 403,
        ("submit", "deprecate"): 200,
    }
    for (scope, action), status in allowed.items():
        with api.client(api.key(scope)) as client:
            answer = client.post(f"{V1}/{action}", json={"reason": "x"})
        assert answer.status_code == status, (scope, action)
    assert api.acme.get(V1).json()["revoked_at"] is None


@pytest.mark.parametrize(
    "body",
    [{}, {"reason": ""}, {"reason": "x" * 501}, {"reason": 1}, {"reason": "x", "force": True}],
)
def test_a_reason_is_needed(api: Api, body: dict[str, Any]) -> None:
    api.publish()
    assert problem(api.acme.post(V1 + "/revoke", json=body)) == (422, "invalid")
    assert api.acme.get(V1).status_code == 200


def test_what_was_changed_or_lost_in_the_store_is_damaged(api: Api) -> None:
    api.publish()
    root = "acme/datasets/small/1/"
    shard = next(f["path"] for f in api.acme.get(V1 + "/files").json() if "shards/" in f["path"])
    changed = api.store.get(root + "manifest.json").replace(b"small", b"other")
    for key in (root + "manifest.json", root + shard):
        api.store.delete(key)
    missing = api.acme.get(f"{V1}/objects/{shard}")
    lost = api.acme.get(V1 + "/manifest")
    api.store.put_new(root + "manifest.json", changed)
    api.store.put_new(root + shard, b"short")
    cut = api.acme.get(f"{V1}/objects/{shard}", headers={"Range": "bytes=0-99"})
    other = api.acme.get(V1 + "/manifest")
    as_object = api.acme.get(V1 + "/objects/manifest.json")
    for answer, path in (
        (missing, shard),
        (cut, shard),
        *((each, "manifest.json") for each in (lost, other, as_object)),
    ):
        assert problem(answer) == (502, "damaged")
        assert answer.json()["detail"].startswith(f"small@1: {path} ")
        assert api.settings.home.name not in answer.text
