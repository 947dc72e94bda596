"""Jobs through the API: submitted once, listed by key, changed by those whose they are."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from datagen.catalog.idempotency import take_key
from datagen.catalog.tenants import Quota, set_quota
from datagen.catalog.workers import register_worker
from datagen.fingerprint import cpu_queue
from tests.api.conftest import ACME, Api, recipe

HEADERS = {"Idempotency-Key": "k"}


def test_a_submitted_job_is_made_and_delivers_exactly(any_api: Api) -> None:
    api = any_api
    job = api.submit()
    assert (job["state"], job["name"], job["version"]) == ("RUNNING", "small", 1)
    assert job["progress"]["classes"]["cat"] == {
        "requested": 60,
        "made": 0,
        "attempts": 0,
        "rejected": {},
    }
    assert [entry[0] for entry in api.wakes] == [f"{api.job(job['id']).generate_queue}.batch"]
    api.work(job["id"])
    done = api.acme.get(f"/jobs/{job['id']}").json()
    assert done["state"] == "PUBLISHED"
    assert done["counts"] == {
        "cat": {"train": 48, "val": 9, "test": 3},
        "dog": {"train": 32, "val": 6, "test": 2},
    }
    assert len(done["digest"]) == 64
    assert done["progress"]["classes"]["dog"]["made"] == 40
    assert done["progress"]["images_per_s"] > 0
    assert done["links"]["dataset"] == "/v1/datasets/small/versions/1"
    prefix = "acme/datasets/small/1/"
    assert prefix + "manifest.json" in {found.key for found in api.store.list("acme/")}


def test_the_same_key_and_body_give_the_same_job(any_api: Api) -> None:
    api = any_api
    body = {"recipe": recipe()}
    first = api.acme.post("/jobs", json=body, headers=HEADERS)
    again = api.acme.post("/jobs", json=body, headers=HEADERS)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == f"/v1/jobs/{first.json()['id']}"


def test_the_order_and_the_defaults_of_a_body_do_not_matter(api: Api) -> None:
    content = recipe()
    first = api.acme.post("/jobs", json={"recipe": content}, headers=HEADERS)
    turned = dict(reversed(content.items())) | {"limits": {"max_attempts_per_class": 8}}
    body = {"priority": "batch", "recipe": turned}
    again = api.acme.post("/jobs", json=body, headers=HEADERS)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])


def test_the_same_key_with_another_body_is_refused(any_api: Api) -> None:
    api = any_api
    api.submit(key="k")
    for body in ({"recipe": recipe({"seed": 8})}, {"recipe": recipe(), "priority": "interactive"}):
        response = api.acme.post("/jobs", json=body, headers=HEADERS)
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == "header.Idempotency-Key"
    assert len(api.acme.get("/jobs").json()["items"]) == 1


def test_a_key_in_flight_is_a_conflict(api: Api) -> None:
    job = api.submit(key="first")
    catalog = api.catalog.of(ACME)
    with catalog.transaction() as connection:  # as if the first request had not been answered yet
        connection.exec_driver_sql("UPDATE idempotency_keys SET job_id = NULL")
    response = api.acme.post(
        "/jobs", json={"recipe": recipe()}, headers={"Idempotency-Key": "first"}
    )
    assert response.status_code == 409
    assert 50 <= int(response.headers["retry-after"]) <= 60
    with catalog.transaction() as connection:
        connection.exec_driver_sql("UPDATE idempotency_keys SET locked_until = 0")
    assert api.submit(key="first")["id"] == job["id"], "its process died: the next one takes it"


def test_many_at_once_with_one_key_make_one_job(any_api: Api) -> None:
    api = any_api
    answers: list[tuple[int, str | None]] = []

    def send() -> None:
        with api.client(api.key("submit")) as client:
            response = client.post("/jobs", json={"recipe": recipe()}, headers=HEADERS)
            answers.append((response.status_code, response.json().get("id")))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert {status for status, _ in answers} <= {200, 201, 409}
    assert len([status for status, _ in answers if status == 201]) == 1
    assert len({uid for status, uid in answers if status in (200, 201)}) == 1
    assert len(api.acme.get("/jobs").json()["items"]) == 1


def test_a_request_that_fails_leaves_its_key_free(api: Api) -> None:
    body = {"recipe": recipe({"generator": {"model": "absent"}})}
    assert api.acme.post("/jobs", json=body, headers=HEADERS).status_code == 422
    assert take_key(api.catalog.of(ACME), "k", body_sha256="0" * 64) is None


def test_another_tenants_key_is_simply_new(api: Api) -> None:
    mine = api.submit(key="k")
    theirs = api.submit({"seed": 8}, key="k", client=api.other)
    assert mine["id"] != theirs["id"]
    assert theirs["version"] == 1


def test_a_recipe_that_has_a_job_gets_it_under_any_key(api: Api) -> None:
    first = api.submit(key="one")
    response = api.acme.post("/jobs", json={"recipe": recipe()}, headers={"Idempotency-Key": "two"})
    assert (response.status_code, response.json()["id"]) == (200, first["id"])


def test_another_tenants_job_does_not_exist(api: Api) -> None:
    uid = api.submit()["id"]
    for method, path, body in (
        ("GET", f"/jobs/{uid}", None),
        ("GET", f"/jobs/{uid}/events", None),
        ("POST", f"/jobs/{uid}/cancel", None),
        ("POST", f"/jobs/{uid}/retry", None),
        ("POST", f"/jobs/{uid}/restart", None),
        ("PATCH", f"/jobs/{uid}", {"priority": "interactive"}),
        ("POST", f"/jobs/{uid}/top-up", {"classes": {"cat": 70}}),
        ("GET", f"/previews/{uid}", None),
        ("DELETE", f"/previews/{uid}", None),
    ):
        response = api.other.request(method, path, json=body, headers=HEADERS)
        assert response.status_code == 404, (method, path)
    assert api.other.get("/jobs").json() == {"items": [], "next_cursor": None}
    assert api.job(uid).state == "RUNNING"
    assert api.job(uid).priority == "batch"


def test_pages_hold_every_job_once_newest_first(any_api: Api) -> None:
    api = any_api
    made = [api.submit({"seed": seed}, key=f"k{seed}")["id"] for seed in range(5)]
    seen, cursor = [], None
    for _ in range(3):
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.acme.get("/jobs", params=query).json()
        seen += [job["id"] for job in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == made[::-1]


def test_a_cursor_is_the_tenants_own(api: Api) -> None:
    for seed in range(2):
        api.submit({"seed": seed}, key=f"k{seed}")
    cursor = api.acme.get("/jobs", params={"limit": 1}).json()["next_cursor"]
    assert api.other.get("/jobs", params={"cursor": cursor}).status_code == 404
    assert api.acme.get("/keys", params={"cursor": cursor}).status_code == 404
    for bad in ("x", cursor[:-2], "e30", "bnVsbA", "W10", "W10" * 300):
        assert api.acme.get("/jobs", params={"cursor": bad}).status_code == 404, bad
    for bad in ("", "=", "é", "A" * 1025):
        assert api.acme.get("/jobs", params={"cursor": bad}).status_code == 422, bad


def test_jobs_are_filtered_by_state_name_and_time(api: Api) -> None:
    published = api.publish()
    running = api.submit({"name": "large"}, key="large")

    def ids(**query: Any) -> list[str]:
        return [job["id"] for job in api.acme.get("/jobs", params=query).json()["items"]]

    assert ids(state="PUBLISHED") == [published["id"]]
    assert ids(state=["PUBLISHED", "RUNNING"]) == [running["id"], published["id"]]
    assert ids(name="large") == [running["id"]]
    assert ids(created_after="2001-01-01T00:00:00Z") == [running["id"], published["id"]]
    assert ids(created_before="2001-01-01T00:00:00Z") == []
    assert ids(created_after="2100-01-01T00:00:00+02:00") == []


def test_a_cancelled_job_has_no_manifest_and_its_recipe_may_be_sent_again(api: Api) -> None:
    job = api.submit()
    cancelled = api.acme.post(f"/jobs/{job['id']}/cancel")
    assert cancelled.json()["state"] == "CANCELLED"
    assert api.acme.post(f"/jobs/{job['id']}/cancel").status_code == 200, "again is no error"
    api.work(job["id"])
    assert not [found for found in api.store.list("acme/") if "manifest" in found.key]
    assert api.submit(key="anew")["id"] != job["id"]


def test_a_published_job_is_neither_cancelled_nor_tried_again(api: Api) -> None:
    job = api.publish()
    for change in ("cancel", "retry", "restart"):
        response = api.acme.post(f"/jobs/{job['id']}/{change}")
        assert response.status_code == 409, change
        assert response.json()["type"] == "urn:datagen:problem:conflict"
    assert api.job(job["id"]).state == "PUBLISHED"


FAILING = {
    "filters": [{"filter": "blank", "min_contrast": 0.5}],
    "limits": {"max_attempts_per_class": 2},
}


def test_a_failed_job_says_why_and_can_be_tried_again(api: Api) -> None:
    job = api.submit(FAILING)
    api.work(job["id"])
    failed = api.acme.get(f"/jobs/{job['id']}").json()
    assert failed["state"] == "FAILED"
    assert "class cat" in failed["error"]
    again = api.acme.post(f"/jobs/{job['id']}/retry")
    assert (again.status_code, again.json()["state"]) == (200, "RUNNING")


def test_rejections_are_told_by_class_and_reason(api: Api) -> None:
    changes = {"filters": [{"filter": "blank", "min_contrast": 0.284}]}
    job = api.publish(changes)
    told = job["progress"]["classes"]["cat"]
    assert told["made"] == told["requested"] == 60
    assert sum(told["rejected"].values()) > 0
    assert told["attempts"] == 60 + sum(told["rejected"].values())


def test_progress_while_a_job_runs_counts_by_class(api: Api) -> None:
    many = {"classes": [{"name": "cat", "count": 700}, {"name": "dog", "count": 500}]}
    job = api.submit(many)
    api.work(job["id"], max_steps=1)
    progress = api.acme.get(f"/jobs/{job['id']}").json()["progress"]
    assert progress["stage"] == "generate"
    assert (progress["units_done"], progress["units_total"]) == (1, 5)
    assert progress["classes"]["cat"]["made"] == 256
    assert progress["classes"]["dog"]["made"] == 0
    assert progress["seconds_left"] > 0
    for _ in range(2):
        api.work(job["id"], max_steps=1)
    made = api.acme.get(f"/jobs/{job['id']}").json()["progress"]["classes"]
    assert (made["cat"]["made"], made["dog"]["made"]) == (700, 68)


def test_a_priority_is_changed_and_the_right_queue_woken(api: Api) -> None:
    job = api.submit()
    response = api.acme.patch(f"/jobs/{job['id']}", json={"priority": "interactive"})
    assert response.json()["priority"] == "interactive"
    assert api.wakes[-1][0].endswith(".interactive")
    assert api.acme.patch(f"/jobs/{job['id']}", json={"priority": "x"}).status_code == 422


def test_a_top_up_uses_what_exists(api: Api) -> None:
    job = api.publish()
    path = f"/jobs/{job['id']}/top-up"
    response = api.acme.post(path, json={"classes": {"cat": 75}}, headers=HEADERS)
    assert response.status_code == 201
    grown = response.json()
    assert (grown["name"], grown["version"]) == ("small", 2)
    api.work(grown["id"])
    done = api.acme.get(f"/jobs/{grown['id']}").json()
    assert sum(done["counts"]["cat"].values()) == 75
    with api.catalog.reading() as connection:
        made = connection.exec_driver_sql(
            "SELECT sum(num_generated) FROM units JOIN jobs ON jobs.id = units.job_id "
            f"WHERE jobs.uid = '{grown['id']}'"
        ).scalar_one()
    assert made == 15
    again = api.acme.post(path, json={"classes": {"cat": 75}}, headers=HEADERS)
    assert (again.status_code, again.json()["id"]) == (200, grown["id"])


@pytest.mark.parametrize(
    ("classes", "field"),
    [
        ({"cat": 59}, "classes.cat"),
        ({"cow": 10}, "classes.cow"),
        ({"cat": 0}, "classes.cat"),
        ({}, "classes"),
        ({"cat": 2**70}, "classes.cat"),
    ],
)
def test_a_top_up_that_shrinks_or_is_none_is_refused(
    api: Api, classes: dict[str, int], field: str
) -> None:
    job = api.submit(key="before")
    path = f"/jobs/{job['id']}/top-up"
    response = api.acme.post(path, json={"classes": classes}, headers=HEADERS)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


def test_quotas_are_kept(api: Api) -> None:
    set_quota(api.catalog, ACME, Quota(max_running_jobs=1, max_images_per_day=250))
    first = api.submit(key="one")
    assert api.submit(key="one")["id"] == first["id"], "what exists is no new job"
    body = {"recipe": recipe({"seed": 8})}
    refused = api.acme.post("/jobs", json=body, headers={"Idempotency-Key": "two"})
    assert refused.status_code == 429
    assert refused.json()["type"] == "urn:datagen:problem:quota"
    assert "1 running jobs" in refused.json()["detail"]
    api.work(first["id"])
    second = api.submit({"seed": 8}, key="two")
    api.work(second["id"])
    body = {"recipe": recipe({"seed": 9})}
    refused = api.acme.post("/jobs", json=body, headers={"Idempotency-Key": "three"})
    assert refused.headers["retry-after"] == "3600"
    assert refused.status_code == 429
    assert "200 images" in refused.json()["detail"]
    api.submit({"seed": 9}, client=api.other)
    set_quota(api.catalog, ACME, Quota(max_bytes=1))
    assert api.acme.post("/jobs", json=body, headers={"Idempotency-Key": "four"}).status_code == 429


def test_what_was_done_to_a_job_is_audited(api: Api) -> None:
    job = api.submit()
    api.acme.post(f"/jobs/{job['id']}/cancel")
    entries = api.acme.get("/audit").json()["items"]
    assert [(e["action"], e["target"]) for e in entries] == [
        ("job.cancel", job["id"]),
        ("job.submit", job["id"]),
    ]
    assert api.other.get("/audit").json()["items"] == []


def test_what_a_job_waits_for_is_told(api: Api) -> None:
    job = api.submit()
    assert job["waiting_for"].startswith("a worker of queue generate.noise.")
    assert api.publish({"seed": 8})["waiting_for"] is None


def test_a_job_of_an_older_fingerprint_says_so_and_begins_again(any_api: Api) -> None:
    api = any_api
    job = api.submit()
    queue = api.job(job["id"]).generate_queue
    with api.catalog.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE jobs SET generate_queue = 'generate.noise.old', cpu_queue = 'cpu.old', "
            """fingerprint = '{"generation": {"numpy": "1.0"}, "packing": {}}'"""
        )
    register_worker(api.catalog, "now", queues=[str(queue), cpu_queue()], fingerprint={})
    told = api.acme.get(f"/jobs/{job['id']}").json()
    assert told["fingerprint"]["generation"] == {"numpy": "1.0"}
    assert "generate.noise.old" in told["waiting_for"]
    assert f"/v1/jobs/{job['id']}/restart" in told["waiting_for"]
    again = api.acme.post(f"/jobs/{job['id']}/restart").json()
    assert (again["id"], again["waiting_for"]) == (job["id"], None)
    assert again["fingerprint"] == job["fingerprint"]
    assert api.wakes[-1][0] == f"{queue}.batch"
    assert api.work(job["id"]).state == "PUBLISHED"


def test_a_million_images_are_submitted_without_a_row_each(any_api: Api) -> None:
    many = {"classes": [{"name": f"c{i}", "count": 100_000} for i in range(10)]}
    job = any_api.submit(many)
    assert job["progress"]["classes"]["c9"]["requested"] == 100_000
    with any_api.catalog.reading() as connection:
        units = connection.exec_driver_sql("SELECT count(*) FROM units").scalar_one()
    assert units < 5_000


def test_only_small_jobs_are_interactive(api: Api) -> None:
    small, large = ({"name": "cat", "count": count} for count in (10_000, 10_001))
    name = {"name": "largest"}
    body = {"recipe": recipe({"classes": [large]}), "priority": "interactive"}
    cron = {"name": "s", "cron": "0 0 * * *", **body}
    job = api.submit({"classes": [large]})["id"]
    fitting = {"recipe": recipe({**name, "classes": [small]}), "priority": "interactive"}
    made = api.acme.post("/jobs", json=fitting, headers={"Idempotency-Key": "small"})
    assert made.status_code == 201
    grown = f"/jobs/{made.json()['id']}/top-up"
    refused = [
        api.acme.post("/jobs", json=body, headers={"Idempotency-Key": "large"}),
        api.acme.post("/schedules", json=cron),
        api.acme.patch(f"/jobs/{job}", json={"priority": "interactive"}),
        api.acme.post(
            grown, json={"classes": {"cat": 10_001}}, headers={"Idempotency-Key": "grown"}
        ),
    ]
    for response in refused:
        [error] = response.json()["errors"]
        assert (response.status_code, error["field"]) == (422, "priority")
        assert "'batch'" in error["expected"]
    assert api.acme.patch(f"/jobs/{job}", json={"priority": "batch"}).status_code == 200


def test_an_error_names_a_model_and_no_folder_of_the_server(api: Api) -> None:
    job = api.submit()["id"]
    digest = "0123456789abcdef" * 4
    folder = f"/srv/datagen/home/models-cache/acme/{digest}/xray"
    error = (
        f"model {folder}: damaged; {folder}/model.safetensors: cut; see 1/2 of http://a/models/b"
    )
    with api.catalog.transaction() as connection:
        connection.exec_driver_sql(f"UPDATE jobs SET state = 'FAILED', error = '{error}'")
    told = "model xray: damaged; xray/model.safetensors: cut; see 1/2 of http://a/models/b"
    assert api.acme.get(f"/jobs/{job}").json()["error"] == told
    assert api.acme.get("/jobs").json()["items"][0]["error"] == told
