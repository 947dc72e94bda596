"""validate and plan."""

from __future__ import annotations

from dataclasses import replace

from datagen.recipe import canonical_json, recipe_digest_of
from datagen.settings import Settings
from tests.api.conftest import Api, recipe, run_api

YAML = b"""version: 1
name: small
image_size: [8, 12]
classes:
  - name: cat
    count: 0
generator:
  model: noise
  channels: 1
"""


def validate(api: Api, **request: object) -> dict:
    response = api.acme.post("/recipes/validate", **request)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_valid_recipe_is_told_resolved_and_pinned(api: Api) -> None:
    found = validate(api, json={"recipe": recipe()})
    assert (found["valid"], found["errors"]) == (True, [])
    assert found["resolved"]["generator"]["model_digest"]
    assert found["digest"] == recipe_digest_of(canonical_json(found["resolved"]))
    assert found["digest"] == api.submit()["recipe_digest"]


def test_every_fault_is_told_with_its_field(api: Api) -> None:
    found = validate(api, json={"recipe": {"version": 2, "name": "A", "extra": 1}})
    assert (found["valid"], found["resolved"], found["digest"]) == (False, None, None)
    fields = {error["field"] for error in found["errors"]}
    assert fields == {"version", "name", "extra", "image_size", "classes", "generator"}


def test_yaml_is_told_by_line(api: Api) -> None:
    found = validate(api, content=YAML, headers={"Content-Type": "application/yaml"})
    (error,) = found["errors"]
    assert (error["field"], error["line"]) == ("classes[0].count", 6)
    sound = YAML.replace(b"count: 0", b"count: 3")
    typed = {"Content-Type": "Application/YAML; charset=utf-8"}
    assert validate(api, content=sound, headers=typed)["valid"] is True


def test_faults_that_only_models_can_see_are_told(api: Api) -> None:
    found = validate(api, json={"recipe": recipe({"generator": {"model": "noise", "chanels": 1}})})
    assert [error["field"] for error in found["errors"]] == ["generator.chanels"]


def test_a_validated_recipe_leaves_no_trace(api: Api) -> None:
    validate(api, json={"recipe": recipe()})
    assert api.acme.get("/jobs").json()["items"] == []
    assert list(api.store.list("")) == []


def test_a_plan_counts_and_prices(settings: Settings) -> None:
    priced = replace(
        settings, price_per_device_hour=3600.0, price_per_gb_month=1000.0, currency="EUR"
    )
    with run_api(priced) as api:
        before = api.acme.post("/recipes/plan", json={"recipe": recipe()}).json()
        assert before["num_images"] == 100
        assert before["counts"]["cat"] == {"train": 48, "val": 9, "test": 3}
        assert before["cost"]["currency"] == "EUR"
        assert before["cost"]["storage_per_month"] > 0
        assert before["cost"]["device"] is None, "nobody has measured the model yet"
        job = api.publish()
        after = api.acme.post("/recipes/plan", json={"recipe": recipe({"seed": 8})}).json()
        assert after["seconds"] > 0
        assert after["cost"]["device"] > 0
        seconds, num_bytes = job["cost"]["device_seconds"], job["cost"]["bytes"]
        assert job["cost"]["amount"] == seconds + num_bytes * 1e-6
        usage = api.acme.get("/usage").json()
        assert usage["cost"]["device_seconds"] == seconds
        assert usage["images_last_day"] == 100
        assert api.other.get("/usage").json()["bytes"] == 0
