"""Trainings through the API: submitted once, listed, followed, cancelled, tried again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from datagen.catalog.tenants import Quota, set_quota
from datagen.catalog.training_claims import claim_training, commit_checkpoint, fail_training
from datagen.catalog.trainings import Training
from datagen.catalog.workers import register_worker
from datagen.settings import Settings
from datagen.trainer import Trainer
from tests.api.conftest import ACME, Api, run_api
from tests.training.tiny_data import tiny_recipe_text, write_tiny_data

HEADERS = {"Idempotency-Key": "k"}
YAML = {"Content-Type": "application/yaml"}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, training_data_dir=tmp_path / "images")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """The text of a recipe whose images a worker may read."""
    data = write_tiny_data(tmp_path / "images" / "tiny", 120)
    return tiny_recipe_text("cgan", data, num_images=16)


def recipe(**data: Any) -> dict[str, Any]:
    """data: in place of what the recipe says of the images."""
    content: dict[str, Any] = yaml.safe_load(tiny_recipe_text("cgan", Path("s3://elsewhere/tiny")))
    content["data"] = content["data"] | data
    return content


def post(client: httpx.Client, content: dict[str, Any], key: str = "k") -> httpx.Response:
    return client.post("/trainings", json={"recipe": content}, headers={"Idempotency-Key": key})


def claim(api: Api) -> Training:
    found = claim_training(api.catalog, owner="one", lease_s=60, max_tries=3)
    assert found is not None
    return found


def test_a_recipe_becomes_a_model_of_the_tenant(api: Api, tiny: str) -> None:
    made = api.acme.post("/trainings", content=tiny, headers=HEADERS | YAML)
    assert made.status_code == 201, made.text
    training = made.json()
    assert (training["state"], training["name"]) == ("QUEUED", "tiny-cgan")
    assert training["recipe"]["generator"] == "cgan"
    assert "a worker of queue train" in training["waiting_for"]
    assert [(queue, count) for queue, _, count in api.wakes] == [("train", 1)]
    path = training["links"]["self"].removeprefix("/v1")
    assert made.headers["location"] == f"/v1{path}"
    assert Trainer(api.catalog, api.store, api.settings, owner="one").step()
    done = api.acme.get(path).json()
    assert (done["state"], done["error"], done["waiting_for"]) == ("PUBLISHED", None, None)
    assert done["checkpoint_images_seen"] == 16
    model = api.acme.get(done["links"]["model"].removeprefix("/v1")).json()
    assert (model["digest"], model["registered"]) == (done["model_digest"], True)
    assert api.other.get(path).status_code == 404
    with api.acme.stream("GET", f"{path}/events") as answer:
        text = "".join(answer.iter_text())
    types = [line.removeprefix("event: ") for line in text.splitlines() if "event: " in line]
    expected = ["training.created", "training.started", "training.published"]
    assert [each for each in types if each != "progress"] == expected


def test_the_same_key_gives_the_same_training(any_api: Api) -> None:
    first, again = post(any_api.acme, recipe()), post(any_api.acme, recipe())
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    refused = post(any_api.acme, recipe(held_out=50))
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "header.Idempotency-Key"
    busy = post(any_api.acme, recipe(held_out=50), key="other")
    assert (busy.status_code, busy.json()["type"]) == (409, "urn:datagen:problem:conflict")
    assert post(any_api.other, recipe()).status_code == 201


def test_a_fault_is_told_with_its_field_and_in_text_with_its_line(api: Api) -> None:
    wrong = recipe() | {"seed": "three", "generator": "gan"}
    fields = {each["field"] for each in post(api.acme, wrong).json()["errors"]}
    assert fields == {"recipe.seed"}
    text = (
        "version: 1\nname: toy\ngenerator: gan\ndata: {path: 's3://b/c', licence: MIT, source: x}\n"
    )
    text += "schedule: {num_images: 8, learning_rate: 0.1}\n"
    answer = api.acme.post("/trainings", content=text, headers=HEADERS | YAML)
    [error] = answer.json()["errors"]
    assert error["field"] == "recipe.generator"
    assert "recipe:3: generator" in error["message"]
    assert "did you mean" in error["expected"]
    odd = api.acme.post("/trainings", content=b"\xff", headers=HEADERS | YAML)
    assert odd.status_code == 422, odd.text
    number = api.acme.post(
        "/trainings",
        content=b'{"recipe": {"seed": NaN}}',
        headers=HEADERS | {"Content-Type": "application/json"},
    )
    assert number.status_code in (400, 422)
    assert api.acme.get("/trainings").json()["items"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/etc",
        "../../secret",
        "s3://",
        "s3://abc/../c",
        "s3://abc/c?x",
        "s3://x@y/z",
        "s3://ab/c",
        "s3://Bucket/c",
        "s3://[abc/c",
        "s3://abc/a\tb",
        "s3://abc/a\0b",
        "s3://abc/" + "x" * 1024,
        "a\0b",
        "x" * 300,
        "x/" * 4000,
        "circle",
    ],
)
def test_images_that_no_worker_may_read_are_refused(api: Api, tmp_path: Path, path: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "circle").symlink_to("circle")
    answer = post(api.acme, recipe(path=path))
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "recipe.data.path"


def test_a_link_does_not_lead_out_of_the_folder(api: Api, tmp_path: Path, tiny: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "images" / "link").symlink_to(tmp_path / "secret")
    assert post(api.acme, recipe(path="link")).status_code == 422
    assert post(api.acme, recipe(path="tiny")).status_code == 201


def test_without_a_folder_all_images_are_in_s3(settings: Settings) -> None:
    with run_api(replace(settings, training_data_dir=None)) as api:
        [error] = post(api.acme, recipe(path="tiny")).json()["errors"]
        assert "no folder is readable" in error["expected"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("s3://bucket/data/acme/uploads/tiny", 201),
        ("s3://bucket/uploads/tiny", 201),
        ("s3://bucket/data2/tiny", 201),
        ("s3://bucket/data/other/uploads/tiny", 422),
        ("s3://bucket/data", 422),
        ("s3://bucket", 422),
    ],
)
def test_the_store_is_closed_but_for_the_tenants_own_part(
    settings: Settings, path: str, status: int
) -> None:
    with run_api(replace(settings, store_url="s3://bucket/data")) as api:
        assert post(api.acme, recipe(path=path)).status_code == status


def test_an_unknown_source_and_a_folder_to_start_from_are_refused(api: Api) -> None:
    content = recipe()
    content["data"] = {"registered": "wards@2", "held_out": 60}
    assert post(api.acme, content).json()["errors"][0]["field"] == "recipe.data.registered"
    refused = post(api.acme, recipe() | {"init": "/models/toy"})
    assert refused.json()["errors"][0]["field"] == "recipe.init"


def test_a_pipeline_of_the_workers_machine_is_refused(api: Api) -> None:
    content = recipe() | {"generator": "lora", "objective": {}}
    refused = post(api.acme, content | {"network": {"pipeline": "/models/secret"}})
    assert refused.json()["errors"][0]["field"] == "recipe.network.pipeline"
    pinned = {"pipeline": "owner/name", "revision": "0" * 40}
    assert post(api.acme, content | {"network": pinned}).status_code == 201


def test_a_name_that_no_model_can_have_is_refused_at_once(api: Api) -> None:
    [own, *_] = [each["name"] for each in api.acme.get("/models").json()["items"]]
    refused = post(api.acme, recipe() | {"name": own})
    assert (refused.status_code, "service's own" in refused.text) == (409, True)
    with api.catalog.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO tombstones (tenant, kind, subject, digest, reason, actor, created_at) "
            "VALUES ('acme', 'model', 'tiny-cgan', 'd', 'asked to', 'ops', 1)"
        )
    assert post(api.acme, recipe()).status_code == 410
    assert post(api.other, recipe()).status_code == 201


def test_lists_by_page_state_and_name(api: Api) -> None:
    for number in range(3):
        assert post(api.acme, recipe() | {"name": f"toy-{number}"}, key=f"k{number}").is_success
    first = api.acme.get("/trainings?limit=2").json()
    rest = api.acme.get(f"/trainings?limit=2&cursor={first['next_cursor']}").json()
    names = [each["name"] for each in first["items"] + rest["items"]]
    assert names == ["toy-2", "toy-1", "toy-0"]
    assert first["items"][0]["recipe"] is None
    assert rest["next_cursor"] is None
    assert len(api.acme.get("/trainings?state=RUNNING").json()["items"]) == 0
    assert len(api.acme.get("/trainings?state=QUEUED&name=toy-1").json()["items"]) == 1
    assert api.other.get("/trainings").json()["items"] == []
    metrics = api.acme.get("/metrics").text
    assert 'datagen_trainings{state="QUEUED"} 3.0' in metrics


def test_cancel_and_retry(any_api: Api) -> None:
    api = any_api
    path = f"/trainings/{post(api.acme, recipe()).json()['id']}"
    assert api.acme.post(f"{path}/retry").status_code == 409
    held = claim(api)
    commit_checkpoint(api.catalog, held, {"a": "b"}, images_seen=8)
    fail_training(api.catalog, held, error="the images are gone")
    failed = api.acme.get(path).json()
    assert (failed["state"], failed["error"]) == ("FAILED", "the images are gone")
    retried = api.acme.post(f"{path}/retry").json()
    assert (retried["state"], retried["checkpoint_images_seen"]) == ("QUEUED", 8)
    assert len(api.wakes) == 2
    assert api.other.post(f"{path}/cancel").status_code == 404
    assert api.acme.post(f"{path}/cancel").json()["state"] == "CANCELLED"
    assert api.acme.post(f"{path}/cancel").json()["state"] == "CANCELLED"
    actions = [row["action"] for row in api.acme.get("/audit").json()["items"]]
    assert {"training.submit", "training.retry", "training.cancel"} <= set(actions)


def test_scopes_quota_and_workers(api: Api) -> None:
    with api.client(api.key("read")) as reader:
        assert post(reader, recipe()).status_code == 403
        assert reader.get("/trainings").status_code == 200
    set_quota(api.catalog, ACME, Quota(max_running_jobs=0))
    assert post(api.acme, recipe()).status_code == 429
    set_quota(api.catalog, ACME, Quota())
    register_worker(api.catalog, "one", queues=["train"], fingerprint={})
    assert post(api.acme, recipe()).json()["waiting_for"] is None


@pytest.fixture
def running(api: Api) -> str:
    """The path of one at work, which has told how far it is."""
    path = f"/trainings/{post(api.acme, recipe()).json()['id']}"
    held = claim(api)
    told = {
        "images_seen": 24,
        "seconds": 12.0,
        "losses": {"generator": 0.5},
        "best_distance": None,
        "best_images_seen": 0,
    }
    with api.catalog.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE trainings SET progress = ? WHERE id = ?", (json.dumps(told), held.id)
        )
    return path


def test_progress_has_a_pace(api: Api, running: str) -> None:
    progress = api.acme.get(running).json()["progress"]
    assert (progress["images_seen"], progress["num_images"]) == (24, 96)
    assert progress["seconds_left"] == 36.0
