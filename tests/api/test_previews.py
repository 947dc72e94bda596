"""Previews: the first images of each class, the same as the job's own."""

from __future__ import annotations

import base64

from datagen.images import decode_png
from tests.api.conftest import Api, recipe


def preview(api: Api, **changes: object) -> str:
    response = api.acme.post("/previews", json={"recipe": recipe(changes)})
    assert response.status_code == 201, response.text
    job = response.json()
    assert (job["kind"], job["priority"], job["state"]) == ("preview", "interactive", "RUNNING")
    assert job["links"]["self"] == f"/v1/previews/{job['id']}"
    return str(job["id"])


def test_a_preview_shows_eight_images_of_each_class(any_api: Api) -> None:
    uid = preview(any_api)
    assert any_api.acme.get(f"/previews/{uid}").json() == {
        "state": "RUNNING",
        "error": None,
        "images": [],
    }
    any_api.work(uid)
    shown = any_api.acme.get(f"/previews/{uid}").json()
    assert shown["state"] == "PUBLISHED"
    places = [(image["class_name"], image["ordinal"]) for image in shown["images"]]
    assert places == [(name, i) for name in ("cat", "dog") for i in range(8)]
    for image in shown["images"]:
        assert decode_png(base64.b64decode(image["png_base64"])).shape == (8, 12, 1)


def test_a_preview_of_fewer_images_shows_them_all(api: Api) -> None:
    uid = preview(api, classes=[{"name": "cat", "count": 3}])
    api.work(uid)
    assert len(api.acme.get(f"/previews/{uid}").json()["images"]) == 3


def test_the_job_finds_the_previews_images_made(api: Api) -> None:
    uid = preview(api)
    api.work(uid)
    shown = api.acme.get(f"/previews/{uid}").json()["images"]
    job = api.publish()
    with api.catalog.reading() as connection:
        rows = connection.exec_driver_sql(
            "SELECT jobs.uid, sum(num_generated) FROM units JOIN jobs ON jobs.id = units.job_id "
            "WHERE units.kind = 'generate' GROUP BY jobs.uid"
        )
        made = {row[0]: row[1] for row in rows}
        raw = connection.exec_driver_sql(
            "SELECT count(DISTINCT raw_sha256) FROM samples WHERE ordinal < 8"
        ).scalar_one()
    assert made == {uid: 16, job["id"]: 84}
    assert raw == len(shown) == 16, "preview and job hold the same raw images"


def test_a_preview_is_no_dataset_and_no_job_of_the_list(api: Api) -> None:
    uid = preview(api)
    api.work(uid)
    assert api.acme.get("/jobs").json()["items"] == []
    job = api.publish()
    assert job["version"] == 1


def test_a_deleted_preview_ends(api: Api) -> None:
    uid = preview(api)
    assert api.acme.delete(f"/previews/{uid}").status_code == 204
    assert api.acme.get(f"/previews/{uid}").json()["state"] == "CANCELLED"
    assert api.acme.delete(f"/previews/{uid}").status_code == 204


def test_another_tenants_preview_does_not_exist(api: Api) -> None:
    uid = preview(api)
    assert api.other.get(f"/previews/{uid}").status_code == 404
    assert api.other.delete(f"/previews/{uid}").status_code == 404


def test_a_job_is_no_preview(api: Api) -> None:
    uid = api.submit()["id"]
    assert api.acme.get(f"/previews/{uid}").status_code == 404


def test_a_preview_of_too_many_classes_is_refused(api: Api) -> None:
    classes = [{"name": f"c{i}", "count": 1} for i in range(1001)]
    response = api.acme.post("/previews", json={"recipe": recipe({"classes": classes})})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "recipe.classes"
