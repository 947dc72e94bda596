"""Sources through the API: registered where the service may read, shown with all that came of
them, withdrawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from datagen.catalog.sources import record_use
from datagen.settings import Settings
from tests.api.conftest import Api
from tests.test_sources import write_images

TERMS = {
    "name": "wards",
    "licence": "CC-BY-4.0",
    "description": "Wards of a test",
    "permitted_use": "research on wards",
    "permitted_uses": ["research"],
    "consent": "broad consent, version 2",
    "contact": "data@example.org",
    "expires_on": "2100-01-31",
}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    write_images(tmp_path / "images" / "wards")
    write_images(tmp_path / "private", seed=1)
    return replace(settings, training_data_dir=tmp_path / "images")


@pytest.fixture
def server_settings(server_settings: Settings, settings: Settings) -> Settings:
    return replace(server_settings, training_data_dir=settings.training_data_dir)


def post(client: httpx.Client, **changes: Any) -> httpx.Response:
    return client.post("/sources", json=TERMS | {"location": "wards"} | changes)


def test_a_source_is_registered_listed_and_shown(api: Api) -> None:
    answer = post(api.acme)
    assert answer.status_code == 201, answer.text
    source = answer.json()
    assert {key: source[key] for key in TERMS} == TERMS
    assert (source["version"], source["num_images"], source["generation_depth"]) == (1, 12, 0)
    assert post(api.acme).status_code == 200
    prolonged = post(api.acme, expires_on=None).json()
    assert (prolonged["version"], prolonged["digest"]) == (2, source["digest"])
    page = api.acme.get("/sources", params={"limit": 1}).json()
    rest = api.acme.get("/sources", params={"cursor": page["next_cursor"]}).json()
    assert page["items"] + rest["items"] == [source, prolonged]
    shown = api.acme.get("/sources/wards@1").json()
    assert shown.pop("derived")["sources"] == ["wards@1", "wards@2"]
    assert shown == source
    assert api.other.get("/sources").json()["items"] == []
    assert api.other.get("/sources/wards").status_code == 404


@pytest.mark.parametrize(
    "location",
    [
        "/etc",
        "../private",
        "nowhere",
        "s3:///x",
        "s3://b/../x",
        "file:///etc",
        "wards\0",
        "wards\n| evil",
        "s3://wards/\t",
        "w" * 300,
        "w/" * 600,
    ],
)
def test_nothing_else_of_the_machine_is_read(api: Api, location: str) -> None:
    answer = post(api.acme, location=location)
    assert answer.status_code == 422, answer.text
    assert str(api.settings.home) not in answer.text
    assert api.acme.get("/sources").json()["items"] == []


def test_terms_and_scopes_are_checked(api: Api) -> None:
    assert post(api.acme, expires_on="2100-02-31").status_code == 422
    assert post(api.acme, consent="").status_code == 422
    assert post(api.acme, licence="MIT\n").status_code == 422
    assert post(api.acme, description="a\0b").status_code == 422
    assert post(api.acme, profile="admin").status_code == 422
    with api.client(api.key("read")) as client:
        assert post(client).status_code == 403
    with api.client(api.key("submit")) as client:
        assert post(client).status_code == 201
        answer = client.post("/sources/wards/withdraw", json={"reason": "x"})
        assert answer.status_code == 403


def test_a_withdrawn_source_takes_along_what_came_of_it(any_api: Api) -> None:
    """The noise model stands for one that was trained on it."""
    api = any_api
    source = post(api.acme).json()
    made = api.publish({"name": "toys"})
    model = api.acme.get("/models/noise").json()
    record_use(
        api.catalog.of("acme"),
        source_name="wards",
        source_version=1,
        model_name="noise",
        model_digest=model["digest"],
        data_sha256="a" * 64,
    )
    derived = api.acme.get("/sources/wards").json()["derived"]
    assert derived["models"] == [{"name": "noise", "digest": model["digest"]}]
    version = {"name": "toys", "version": 1, "digest": made["digest"]}
    assert derived["versions"] == [version]
    assert derived["trainings"][0]["data_sha256"] == "a" * 64

    body = {"reason": "consent withdrawn"}
    planned = api.acme.post("/sources/wards/withdraw", json=body | {"dry_run": True}).json()
    assert (planned["dry_run"], planned["versions"]) == (True, [version])
    assert api.acme.get("/datasets/toys/versions/1").status_code == 200
    done = api.acme.post("/sources/wards/withdraw", json=body).json()

    assert (done["dry_run"], done["versions"]) == (False, [version])
    assert api.acme.get("/datasets/toys/versions/1").status_code == 410
    assert api.acme.get("/models/noise").status_code == 410
    assert api.other.get("/models/noise").status_code == 200
    assert api.acme.get("/sources/wards").json()["withdrawn_reason"] == "consent withdrawn"
    again = post(api.acme, name="others")
    assert (again.status_code, "consent withdrawn" in again.json()["detail"]) == (410, True)
    revoked = api.acme.get("/lineage/sources/" + source["digest"]).json()["revoked"]
    assert revoked["reason"] == "consent withdrawn"
    actions = [row["action"] for row in api.acme.get("/audit").json()["items"]]
    assert {"source.register", "source.withdraw"} <= set(actions)
