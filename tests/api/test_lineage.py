"""Lineage through the API: everything behind an image, everything that a model or source made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from datagen import __version__
from datagen.filters import FILTERS
from datagen.images import decode_png
from datagen.plan import attempt_key, attempt_seed, augmentation_seed
from tests.api.conftest import Api
from tests.api.test_models import TINY_RECIPE, contents, problem, upload
from tests.test_revocation import DATA, trained_model

FILTERED: dict[str, Any] = {
    "filters": [{"filter": "blank", "min_contrast": 0.0}],
    "augmentations": [{"transform": "HorizontalFlip", "p": 1.0}],
}


@pytest.fixture
def trained(tmp_path: Path) -> dict[str, bytes]:
    return contents(trained_model(tmp_path / "upload" / "xray"))


def test_everything_behind_an_image_is_told(any_api: Api) -> None:
    api = any_api
    job = api.publish(FILTERED)
    grown = [{"name": "cat", "count": 61}, {"name": "dog", "count": 40, "attributes": {"age": 3}}]
    api.publish(FILTERED | {"classes": grown})
    api.publish(FILTERED | {"name": "unlike", "seed": 8})

    found = api.acme.get("/lineage/samples/small/1/cat-00000007").json()

    sample = found["sample"]
    seeds = (7, "cat", 7, sample["attempt"])
    assert sample["seed"] == attempt_seed(*seeds)
    assert sample["augmentation_seed"] == augmentation_seed(*seeds)
    key = attempt_key(found["attempt_context"], "cat", 7, sample["attempt"])
    assert sample["attempt_key"] == key
    assert sample["augmentations"][0]["transform"] == "HorizontalFlip"
    assert set(sample["scores"]) == {"blank"}
    assert found["recipe"]["name"] == "small"
    assert (found["recipe_digest"], found["recipe_seed"]) == (job["recipe_digest"], 7)
    assert found["model"]["name"] == "noise"
    assert found["model"]["licence"]
    assert found["model"]["training"] is None
    assert found["fingerprint"] == job["fingerprint"]
    assert found["code_version"] == __version__
    assert found["job"]["id"] == job["id"]
    assert found["job"]["created_by"]
    assert found["rejected"] == []
    holders = [(h["name"], h["version"], h["split"]) for h in found["versions"]]
    assert holders == [("small", 1, sample["split"]), ("small", 2, sample["split"])]
    latest = api.acme.get("/lineage/samples/small/latest/cat-00000060").json()
    assert [h["version"] for h in latest["versions"]] == [2]


def test_rejected_attempts_are_told_with_their_reasons(api: Api) -> None:
    api.publish()
    scores = every_score(api.acme, "small")
    bound = sorted(scores.values())[len(scores) // 2]
    strict = [{"filter": "blank", "min_contrast": bound}]
    api.publish({"name": "strict", "filters": strict})
    samples = api.acme.get("/datasets/strict/versions/1/samples?limit=100").json()["items"]
    later = next(sample for sample in samples if sample["attempt"] > 0)

    found = api.acme.get(f"/lineage/samples/strict/1/{later['key']}").json()

    assert [r["attempt"] for r in found["rejected"]] == list(range(later["attempt"]))
    assert all("blank" in r["reason"] for r in found["rejected"])


def every_score(client: httpx.Client, name: str) -> dict[str, float]:
    """Measured on the version's images: it had no filter."""
    items = client.get(f"/datasets/{name}/versions/1/samples?limit=100").json()["items"]
    found = {}
    for item in items:
        end = item["offset"] + item["size"] - 1
        png = client.get(
            f"/datasets/{name}/versions/1/objects/{item['shard']}",
            headers={"Range": f"bytes={item['offset']}-{end}"},
        ).content
        found[item["key"]] = float(
            FILTERS["blank"].score(np.stack([decode_png(png)]), ["any"], None)[0]
        )
    return found


def test_training_data_is_told_with_licence_and_digest(
    any_api: Api, trained: dict[str, bytes]
) -> None:
    api = any_api
    model = upload(api.acme, trained).json()
    api.publish(TINY_RECIPE | {"image_size": [8, 12]})

    behind = api.acme.get("/lineage/samples/tiny/1/disc-0").json()
    made = api.acme.get("/lineage/models/xray").json()
    source = api.acme.get(f"/lineage/sources/{DATA}").json()

    training = {
        "source": "random weights of a test",
        "licence": "Apache-2.0",
        "sha256": DATA,
        "num_train": 1,
        "num_held_out": 1,
    }
    assert behind["model"]["digest"] == model["digest"]
    assert behind["model"]["training"] == training
    for found in (made, source):
        assert [origin["training"] for origin in found["models"]] == [training]
        assert [(v["name"], v["version"]) for v in found["versions"]["items"]] == [("tiny", 1)]
        assert (found["num_jobs"], found["num_versions"], found["num_samples"]) == (1, 1, 8)
        assert found["size_bytes"] > 0
        assert found["revoked"] is None


def test_what_a_model_made_is_paged(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.publish({"name": name, "classes": [{"name": "cat", "count": 2}]})
    first = api.acme.get("/lineage/models/noise", params={"limit": 2}).json()
    cursor = first["versions"]["next_cursor"]
    rest = api.acme.get("/lineage/models/noise", params={"limit": 2, "cursor": cursor}).json()
    names = [v["name"] for page in (first, rest) for v in page["versions"]["items"]]
    assert (names, rest["versions"]["next_cursor"]) == (["a", "b", "c"], None)


def test_an_unused_shipped_model_has_its_source(api: Api) -> None:
    made = api.acme.get("/lineage/models/fashion-mnist-cgan").json()
    sha256 = made["models"][0]["training"]["sha256"]
    assert (made["num_versions"], made["versions"]["items"]) == (0, [])
    source = api.acme.get(f"/lineage/sources/{sha256}").json()
    names = [m["name"] for m in source["models"]]
    shipped = ["fashion-mnist-cgan", "fashion-mnist-ect", "fashion-mnist-edm", "fashion-text-edm"]
    assert names == shipped


def test_another_tenants_lineage_does_not_exist(api: Api, trained: dict[str, bytes]) -> None:
    upload(api.acme, trained)
    api.publish(TINY_RECIPE | {"image_size": [8, 12]})
    for path in (
        "/lineage/samples/tiny/1/disc-0",
        "/lineage/models/xray",
        f"/lineage/sources/{DATA}",
    ):
        assert api.acme.get(path).status_code == 200
        assert problem(api.other.get(path)) == (404, "not-found")
    api.publish({"name": "theirs"}, client=api.other)
    made = api.acme.get("/lineage/models/noise").json()
    assert (made["num_jobs"], made["versions"]["items"]) == (0, [])


def test_what_is_not_there_is_told(api: Api) -> None:
    api.publish()
    for path, status in {
        "/lineage/samples/small/1/cow-0": 404,
        "/lineage/samples/small/1/cat-99": 404,
        "/lineage/samples/small/9/cat-0": 404,
        "/lineage/samples/small/1/cat": 422,
        "/lineage/models/nothing": 404,
        "/lineage/models/No": 422,
        f"/lineage/sources/{'0' * 64}": 404,
        "/lineage/sources/abc": 422,
    }.items():
        assert api.acme.get(path).status_code == status, path


def test_a_source_is_revoked_and_remembered(any_api: Api, trained: dict[str, bytes]) -> None:
    api = any_api
    upload(api.acme, trained)
    digest = api.publish(TINY_RECIPE | {"image_size": [8, 12]})["digest"]
    reason = {"reason": "consent withdrawn"}

    planned = api.acme.post(f"/lineage/sources/{DATA}/revoke", json=reason | {"dry_run": True})
    done = api.acme.post(f"/lineage/sources/{DATA}/revoke", json=reason).json()

    assert planned.json() == done | {"dry_run": True}
    assert [m["name"] for m in done["models"]] == ["xray"]
    assert [v["digest"] for v in done["versions"]] == [digest]
    found = api.acme.get(f"/lineage/sources/{DATA}").json()
    assert found["revoked"]["reason"] == "consent withdrawn"
    assert found["revoked"]["revoked_by"]
    [version] = found["versions"]["items"]
    assert version["digest"] == digest
    assert "consent withdrawn" in version["revoked_reason"]
    answer = api.acme.get("/lineage/samples/tiny/1/disc-0")
    assert problem(answer) == (410, "revoked")
    assert problem(api.other.post(f"/lineage/sources/{DATA}/revoke", json=reason)) == (
        404,
        "not-found",
    )
    with api.client(api.key("submit")) as client:
        refused = client.post(f"/lineage/sources/{DATA}/revoke", json=reason)
    assert refused.status_code == 403
    assert json.loads(api.store.get("acme/datasets/tiny/1/tombstone.json"))["digest"] == digest
