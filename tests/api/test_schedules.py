"""Schedules over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import update

from datagen.catalog.tables import schedules
from datagen.schedules import fire_due
from tests.api.conftest import Api, recipe


def body(**changes: Any) -> dict[str, Any]:
    content = {
        "name": "nightly",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "recipe": recipe(),
    }
    return content | changes


def made(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    response = client.post("/schedules", json=body(**changes))
    assert response.status_code == 201, response.text
    assert response.headers["location"] == f"/v1/schedules/{response.json()['id']}"
    found: dict[str, Any] = response.json()
    return found


def only_error(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    [error] = response.json()["errors"]
    assert isinstance(error, dict)
    return error


def fire(api: Api, schedule: dict[str, Any]) -> int:
    """As if the schedule's time had come."""
    with api.catalog.transaction() as connection:
        connection.execute(
            update(schedules).where(schedules.c.id == schedule["id"]).values(next_fire_at=1)
        )
    return fire_due(api.catalog, api.store, api.settings, lambda *_: None)


def test_a_schedule_shows_its_next_five_fire_times(any_api: Api) -> None:
    schedule = made(any_api.acme)
    times = [
        datetime.fromisoformat(text).astimezone(ZoneInfo("Europe/Berlin"))
        for text in schedule["next_fire_times"]
    ]
    assert len(times) == 5
    assert times == sorted(set(times))
    # On the day that the clocks go forward, there is no half past two.
    assert {f"{time:%H:%M}" for time in times} <= {"02:30", "03:00"}
    assert (schedule["new_seed"], schedule["priority"], schedule["paused"]) == (
        True,
        "batch",
        False,
    )
    assert schedule["last_fires"] == []
    assert any_api.acme.get(f"/schedules/{schedule['id']}").json() == schedule
    assert any_api.acme.get("/schedules").json() == {"items": [schedule], "next_cursor": None}


def test_a_fire_is_seen_with_its_job(any_api: Api) -> None:
    schedule = made(any_api.acme)
    assert fire(any_api, schedule) == 1
    [shown] = any_api.acme.get(f"/schedules/{schedule['id']}").json()["last_fires"]
    job = any_api.acme.get(f"/jobs/{shown['job_id']}").json()
    assert (job["name"], job["version"], job["state"]) == ("small", 1, "RUNNING")
    assert shown["error"] is None


def test_a_fire_past_the_quota_leaves_its_reason(api: Api) -> None:
    from datagen.catalog.tenants import Quota, set_quota

    schedule = made(api.acme)
    set_quota(api.catalog, "acme", Quota(0, None, None))
    assert fire(api, schedule) == 0
    [shown] = api.acme.get(f"/schedules/{schedule['id']}").json()["last_fires"]
    assert shown["job_id"] is None
    assert "quota" in shown["error"] or "running" in shown["error"]


def test_a_paused_schedule_fires_nothing_until_it_goes_on(api: Api) -> None:
    schedule = made(api.acme)
    place = f"/schedules/{schedule['id']}"
    for _ in range(2):
        paused = api.acme.patch(place, json={"paused": True})
        assert paused.status_code == 200
        assert (paused.json()["paused"], paused.json()["next_fire_times"]) == (True, [])
    assert fire(api, schedule) == 0
    assert api.acme.patch(place, json={"paused": False}).json() == schedule
    assert fire_due(api.catalog, api.store, api.settings, lambda *_: None) == 0, "not made up for"


def test_a_deleted_schedule_is_gone_and_its_name_free(api: Api) -> None:
    schedule = made(api.acme)
    fire(api, schedule)
    place = f"/schedules/{schedule['id']}"
    taken = api.acme.post("/schedules", json=body())
    assert (taken.status_code, taken.json()["type"]) == (409, "urn:datagen:problem:conflict")
    assert api.acme.delete(place).status_code == 204
    assert api.acme.get(place).status_code == 404
    assert api.acme.delete(place).status_code == 404
    assert len(api.acme.get("/jobs").json()["items"]) == 1, "its jobs stay"
    made(api.acme)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("cron", "61 * * * *", "another minute than '61': 0-59"),
        ("cron", "* * * *", "five parts, minute hour day-of-month month day-of-week"),
        ("cron", "0 0 30 FEB *", "a day that exists"),
        ("cron", 5, "a valid string"),
        ("timezone", "Europe/Berlim", "did you mean 'Europe/Berlin'"),
        ("timezone", "../../etc/passwd", "IANA"),
        ("name", "No Name", "pattern"),
        ("priority", "urgent", "'interactive' or 'batch'"),
        ("new_seed", "yes", "a valid boolean"),
        ("color", "red", "no such field"),
    ],
)
def test_a_bad_field_is_named_with_what_is_expected(
    api: Api, field: str, value: Any, expected: str
) -> None:
    error = only_error(api.acme.post("/schedules", json=body(**{field: value})))
    assert error["field"] == field
    assert expected in error["expected"]
    assert api.acme.get("/schedules").json()["items"] == []


def test_a_bad_recipe_is_refused_before_it_could_ever_fire(api: Api) -> None:
    unknown = body(recipe=recipe({"generator": {"model": "noize"}}))
    error = only_error(api.acme.post("/schedules", json=unknown))
    assert error["field"] == "recipe.generator.model"
    assert "did you mean 'noise'" in error["expected"]
    error = only_error(api.acme.post("/schedules", json=body(recipe=recipe({"seed": -1}))))
    assert error["field"] == "recipe.seed"


def test_another_tenants_schedules_do_not_exist(api: Api) -> None:
    schedule = made(api.acme)
    place = f"/schedules/{schedule['id']}"
    for response in (
        api.other.get(place),
        api.other.patch(place, json={"paused": True}),
        api.other.delete(place),
    ):
        assert response.status_code == 404
    assert api.other.get("/schedules").json()["items"] == []
    assert made(api.other)["id"] != schedule["id"], "names are each tenant's own"
    assert api.acme.get(place).json() == schedule


def test_a_reading_key_changes_nothing(api: Api) -> None:
    schedule = made(api.acme)
    place = f"/schedules/{schedule['id']}"
    with api.client(api.key("read")) as reader:
        assert reader.get(place).json() == schedule
        assert reader.post("/schedules", json=body(name="other")).status_code == 403
        assert reader.patch(place, json={"paused": True}).status_code == 403
        assert reader.delete(place).status_code == 403


def test_pages_hold_every_schedule_once(api: Api) -> None:
    names = [f"s{number}" for number in range(5)]
    for name in reversed(names):
        made(api.acme, name=name)
    found, cursor = [], None
    while True:
        query = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.acme.get("/schedules", params=query).json()
        found += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert api.other.get("/schedules", params={"cursor": cursor}).status_code == 404
    assert found == names


def test_changes_are_audited(api: Api) -> None:
    place = f"/schedules/{made(api.acme)['id']}"
    api.acme.patch(place, json={"paused": True})
    api.acme.patch(place, json={"paused": False})
    api.acme.delete(place)
    actions = {entry["action"] for entry in api.acme.get("/audit").json()["items"]}
    assert {f"schedule.{what}" for what in ("create", "pause", "resume", "delete")} <= actions
