"""A job's event stream, read as a client does: over a connection that stays open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import httpx

from datagen.api.events import MAX_STREAMS
from datagen.catalog.jobs import retry_job
from tests.api.conftest import Api

Event = tuple[str | None, str, dict]


def read(response: httpx.Response) -> Iterator[Event]:
    event_id, kind = None, "message"
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if name == "id":
            event_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            yield event_id, kind, json.loads(value)
            event_id, kind = None, "message"


def all_events(api: Api, uid: str, **options: object) -> list[Event]:
    with api.acme.stream("GET", f"/jobs/{uid}/events", **options) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(read(response))


def test_an_ended_job_tells_its_story_and_ends(any_api: Api) -> None:
    job = any_api.publish()
    found = all_events(any_api, job["id"])
    kept = [(kind, body["state"]) for event_id, kind, body in found if event_id is not None]
    assert kept[0] == ("job.created", "RUNNING")
    assert kept[-1] == ("job.published", "PUBLISHED")
    assert [kind for _, kind, _ in found if kind == "progress"] == ["progress"]
    ids = [int(event_id) for event_id, _, _ in found if event_id is not None]
    assert ids == sorted(ids)
    assert all(body["job_id"] == job["id"] for i, _, body in found if i is not None)


def test_a_stream_goes_on_after_the_last_event_that_was_seen(api: Api) -> None:
    uid = api.publish()["id"]
    found = [event for event in all_events(api, uid) if event[0] is not None]
    seen = found[1][0]
    after_header = all_events(api, uid, headers={"Last-Event-ID": str(seen)})
    assert [e[0] for e in after_header if e[0]] == [e[0] for e in found[2:]]
    after_query = all_events(api, uid, params={"after": str(seen)})
    assert after_query == after_header
    last = found[-1][0]
    assert [e[1] for e in all_events(api, uid, params={"after": str(last)})] == ["progress"]


def test_a_bad_event_id_is_a_problem(api: Api) -> None:
    uid = api.submit()["id"]
    for value in ("x", "-1", str(2**63), "1e3"):
        response = api.acme.get(f"/jobs/{uid}/events", headers={"Last-Event-ID": value})
        assert response.status_code == 422, value
        assert response.json()["errors"][0]["field"] == "header.Last-Event-ID"


def test_events_come_while_the_job_runs(api: Api) -> None:
    uid = api.submit()["id"]
    with api.acme.stream("GET", f"/jobs/{uid}/events") as response:
        events = read(response)
        assert next(events)[1] == "job.created"
        assert next(events)[2]["units_done"] == 0
        api.work(uid)
        rest = list(events)
    assert rest[-1][1] in ("job.published", "progress")
    assert "job.published" in [kind for _, kind, _ in rest]


def test_a_job_that_is_tried_again_goes_on_in_the_same_stream(api: Api) -> None:
    changes = {
        "filters": [{"filter": "blank", "min_contrast": 0.5}],
        "limits": {"max_attempts_per_class": 2},
    }
    uid = api.submit(changes)["id"]
    api.work(uid)
    retry_job(api.catalog, api.job(uid).id)
    with api.acme.stream("GET", f"/jobs/{uid}/events") as response:
        events = read(response)
        kinds = []
        while "job.retried" not in kinds:
            kinds.append(next(events)[1])
        assert "job.failed" in kinds, "the failure of before does not end the stream"
        api.acme.post(f"/jobs/{uid}/cancel")
        assert "job.cancelled" in [kind for _, kind, _ in events]


def test_a_tenant_has_at_most_so_many_streams_open(api: Api) -> None:
    path = f"/jobs/{api.submit()['id']}/events"
    with ExitStack() as stack:
        for _ in range(MAX_STREAMS):
            opened = stack.enter_context(api.acme.stream("GET", path))
            assert opened.status_code == 200
        refused = api.acme.get(path)
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:datagen:problem:quota"
        others = api.submit(client=api.other)["id"]
        with api.other.stream("GET", f"/jobs/{others}/events") as response:
            assert response.status_code == 200
    uid = api.publish({"name": "ended"})["id"]
    for _ in range(100):  # the server notices that they were closed
        answer = api.acme.get(f"/jobs/{uid}/events")
        if answer.status_code == 200:
            break
    assert "job.published" in answer.text
