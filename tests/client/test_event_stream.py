"""A job's events, whatever happens to the connections that bring them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.client import AsyncClient, Client, ServiceUnavailableError
from datagen.client.event_stream import EventReader
from datagen.client.results import Event, Job, Progress
from datagen.errors import JobError, NotFoundError
from tests.client.faulty_server import FaultyServer, answer, drop, faulty_server, problem, stream
from tests.client.test_patience import JOB, KEY

UID = "a" * 32


def text(event_id: int | None, kind: str, **body: object) -> str:
    id_line = "" if event_id is None else f"id: {event_id}\n"
    return f"{id_line}event: {kind}\ndata: {json.dumps(body)}\n\n"


PARTS = [
    text(1, "job.created"),
    text(2, "job.stage", stage="generate", round=0),
    text(None, "progress", stage="generate", units_done=1, units_total=8),
    text(3, "job.stage", stage="pack", round=0),
    text(4, "job.published"),
]


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as server:
        yield server


def read_sync(server: FaultyServer, *, after: str | None = None) -> list[Event]:
    with Client(server.url, KEY, max_retries=3) as client:
        return list(client.events(UID, after=after))


def read_async(server: FaultyServer, *, after: str | None = None) -> list[Event]:
    async def read() -> list[Event]:
        async with AsyncClient(server.url, KEY, max_retries=3) as client:
            return [event async for event in client.events(UID, after=after)]

    return anyio.run(read)


both = pytest.mark.parametrize("read", [read_sync, read_async])
Read = Callable[..., list[Event]]


@both
def test_a_broken_stream_is_taken_up_where_it_broke(server: FaultyServer, read: Read) -> None:
    half = PARTS[3][: len(PARTS[3]) // 2]
    server.turns.extend(
        [stream(*PARTS[:3], half), drop, problem(503, "unavailable", "away"), stream(*PARTS[3:])]
    )
    events = read(server)
    assert [e.id for e in events] == ["1", "2", None, "3", "4"]
    assert [e.type for e in events if e.id][-1] == "job.published"
    resumed = [request.headers.get("Last-Event-ID") for request in server.seen]
    assert resumed == [None, "2", "2", "2"]


@both
def test_a_stream_that_is_closed_between_events_is_opened_again(
    server: FaultyServer, read: Read
) -> None:
    server.turns.extend([stream(PARTS[0]), stream(*PARTS[1:])])
    assert [e.id for e in read(server) if e.id] == ["1", "2", "3", "4"]


@both
def test_reading_goes_on_after_the_event_last_seen(server: FaultyServer, read: Read) -> None:
    server.turns.append(stream(*PARTS[3:]))
    assert [e.id for e in read(server, after="2")] == ["3", "4"]
    assert server.seen[0].headers["Last-Event-ID"] == "2"


@both
def test_events_of_a_job_that_is_over_end_though_none_is_new(
    server: FaultyServer, read: Read
) -> None:
    server.turns.extend([stream(": nothing\n\n"), answer({**JOB, "state": "PUBLISHED"})])
    assert read(server, after="4") == []


@both
def test_a_retried_job_is_followed_past_its_failure(server: FaultyServer, read: Read) -> None:
    parts = [text(1, "job.failed"), text(2, "job.retried"), text(3, "job.published")]
    server.turns.extend([stream(*parts[:2]), stream(parts[2])])
    assert [e.id for e in read(server)] == ["1", "2", "3"]


@both
def test_a_stream_that_never_comes_back_is_given_up(server: FaultyServer, read: Read) -> None:
    server.turns.append(stream(PARTS[0]))
    server.turns.append(answer(JOB))  # of the look whether the job is over: not reached
    with pytest.raises(ServiceUnavailableError):
        read(server)


@both
def test_an_unknown_job_is_no_broken_stream(server: FaultyServer, read: Read) -> None:
    server.turns.append(problem(404, "not-found", "no such job"))
    with pytest.raises(NotFoundError):
        read(server)
    assert len(server.seen) == 1


def wait_sync(server: FaultyServer, report: Callable[[Progress], None]) -> Job:
    with Client(server.url, KEY, max_retries=1) as client:
        return client.wait(UID, on_progress=report)


def wait_async(server: FaultyServer, report: Callable[[Progress], None]) -> Job:
    async def wait() -> Job:
        async with AsyncClient(server.url, KEY, max_retries=1) as client:
            return await client.wait(UID, on_progress=report)

    return anyio.run(wait)


both_wait = pytest.mark.parametrize("wait", [wait_sync, wait_async])
Wait = Callable[[FaultyServer, Callable[[Progress], None]], Job]
PUBLISHED = {**JOB, "state": "PUBLISHED", "digest": "d" * 64}


@both_wait
def test_waiting_reports_progress_and_returns_the_published_job(
    server: FaultyServer, wait: Wait
) -> None:
    server.turns.extend([answer(JOB), stream(*PARTS), answer(PUBLISHED)])
    told: list[Progress] = []
    assert wait(server, told.append).digest == "d" * 64
    assert [(p.stage, p.units_done, p.units_total) for p in told] == [("generate", 1, 8)]


@both_wait
def test_waiting_asks_again_and_again_where_no_stream_comes_through(
    server: FaultyServer, wait: Wait
) -> None:
    path = f"/v1/jobs/{UID}"
    server.routes[path + "/events"] = problem(503, "unavailable", "no streams here")
    progress = {"stage": "pack", "units_done": 1, "units_total": 2}
    server.turns.extend([answer({**JOB, "progress": progress}), answer(PUBLISHED)])
    told: list[Progress] = []
    assert wait(server, told.append).state == "PUBLISHED"
    assert [p.stage for p in told] == ["pack"]
    assert path + "/events" in server.paths()


@both_wait
@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_waiting_for_a_job_without_a_version_is_an_error(
    server: FaultyServer, wait: Wait, state: str
) -> None:
    server.turns.append(answer({**JOB, "state": state, "error": "class cat: no more attempts"}))
    with pytest.raises(JobError, match=f"{state}: class cat") as caught:
        wait(server, lambda progress: None)
    assert caught.value.exit_code == 4


@given(st.lists(st.integers(1, 40)))
def test_where_the_bytes_are_cut_changes_no_event(cuts: list[int]) -> None:
    """A line separator of Unicode is no line end."""
    whole = (": hello\n\n" + "".join(PARTS) + text(5, "x", a="b\u2028c")).encode()
    reader, events, start = EventReader(), list[Event](), 0
    for length in [*cuts, len(whole)]:
        events += reader.feed(whole[start : start + length])
        start += length
    assert [e.id for e in events] == ["1", "2", None, "3", "4", "5"]
    assert events[-1].body == {"a": "b\u2028c"}


def test_lines_may_end_with_crlf_and_data_may_have_several() -> None:
    found = list(EventReader().feed(b'id: 7\r\nevent: x\r\ndata: {"a":\r\ndata: 1}\r\n\r\n'))
    assert found == [Event("7", "x", {"a": 1})]


def test_data_that_is_no_json_is_refused() -> None:
    with pytest.raises(ServiceUnavailableError, match="no JSON"):
        list(EventReader().feed(b"data: {\n\n"))
