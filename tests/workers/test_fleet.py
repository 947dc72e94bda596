"""Real worker processes behind the real API: priorities, stop signals, a broker that restarts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from datagen.catalog.jobs import get_job_by_uid
from datagen.catalog.rows import DONE, GENERATE, LEASED
from datagen.catalog.units import unit_progress, unit_totals
from datagen.catalog.workers import live_queues, live_workers
from datagen.fingerprint import cpu_queue
from tests.stack import ServiceStack
from workers.caretaker import STUCK_EXIT_CODE

pytestmark = pytest.mark.slow

SLOW = {"DATAGEN_FAILPOINTS": "generate.batch=sleep:0.2"}
ENDED = ("PUBLISHED", "FAILED", "CANCELLED")

Start = Callable[..., str]


def recipe(name: str, count: int = 64) -> dict[str, Any]:
    return {
        "version": 1,
        "name": name,
        "image_size": [8, 8],
        "classes": [{"name": "cat", "count": count}],
        "generator": {"model": "noise", "channels": 1},
        "splits": {"ratios": {"train": 1.0}},
    }


@pytest.fixture
def start(service_stack: ServiceStack) -> Iterator[Start]:
    """Workers that are gone after the test."""
    started: list[str] = []

    def start(role: str, **options: Any) -> str:
        started.append(service_stack.start_worker(role, **options))
        return started[-1]

    yield start
    service_stack.stop(*started)


@pytest.fixture
def client(service_stack: ServiceStack) -> Iterator[httpx.Client]:
    with service_stack.client() as client:
        yield client


def submit(client: httpx.Client, body: dict[str, Any]) -> str:
    answer = client.post(
        "/jobs", json={"recipe": body}, headers={"Idempotency-Key": f"key-{body['name']}"}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def state(client: httpx.Client, uid: str) -> str:
    return str(client.get(f"/jobs/{uid}").json()["state"])


def units(stack: ServiceStack, uid: str, kind: str, unit_state: str) -> int:
    with stack.catalog() as catalog:
        job = get_job_by_uid(catalog, uid)
        assert job is not None
        return unit_progress(catalog, job.id).get((kind, unit_state), 0)


def wait_published(stack: ServiceStack, client: httpx.Client, *uids: str) -> None:
    for uid in uids:
        stack.wait(lambda uid=uid: state(client, uid) in ENDED, f"job {uid} ended")
        assert state(client, uid) == "PUBLISHED", client.get(f"/jobs/{uid}").text


def test_a_job_is_published_by_a_generate_and_a_cpu_worker(
    service_stack: ServiceStack, client: httpx.Client, start: Start
) -> None:
    start("generate"), start("cpu"), start("beat")
    uid = submit(client, recipe("plain"))
    wait_published(service_stack, client, uid)
    answer = client.get(f"/jobs/{uid}").json()
    assert answer["progress"]["classes"]["cat"]["made"] == 64
    with service_stack.catalog() as catalog:
        assert cpu_queue() in live_queues(catalog)


def test_a_preview_goes_before_a_running_batch(
    service_stack: ServiceStack, client: httpx.Client, start: Start
) -> None:
    """Two units of the batch at most: the one at hand, and one that was claimed meanwhile."""
    start("generate", env=SLOW), start("cpu")
    batch = submit(client, recipe("huge", 20_000))
    service_stack.wait(lambda: units(service_stack, batch, GENERATE, DONE), "the batch runs")
    before = units(service_stack, batch, GENERATE, DONE)
    preview = client.post("/previews", json={"recipe": recipe("tiny")}).json()["id"]
    service_stack.wait(lambda: units(service_stack, preview, GENERATE, DONE), "it was generated")
    assert units(service_stack, batch, GENERATE, DONE) - before <= 2
    service_stack.wait(
        lambda: len(client.get(f"/previews/{preview}").json()["images"]) == 8, "the preview"
    )
    assert state(client, batch) == "RUNNING"
    client.post(f"/jobs/{batch}/cancel")


def test_a_stopped_worker_gives_its_unit_back_and_takes_its_name_off_the_list(
    service_stack: ServiceStack, client: httpx.Client, start: Start
) -> None:
    name = start("generate", env=SLOW)
    uid = submit(client, recipe("given-back", 20_000))
    service_stack.wait(lambda: units(service_stack, uid, GENERATE, LEASED), "a unit is leased")
    service_stack.stop(name)
    assert units(service_stack, uid, GENERATE, LEASED) == 0
    with service_stack.catalog() as catalog:
        assert not [row for row in live_workers(catalog) if row.name.startswith("generate")]
    client.post(f"/jobs/{uid}/cancel")


def test_a_killed_worker_costs_one_unit(
    service_stack: ServiceStack, client: httpx.Client, start: Start
) -> None:
    name = start("generate", env=SLOW)
    start("cpu")
    uid = submit(client, recipe("killed", 5_000))
    service_stack.wait(lambda: units(service_stack, uid, GENERATE, LEASED), "a unit is leased")
    assert service_stack.kill(name, signal.SIGKILL)
    wait_published(service_stack, client, uid)
    with service_stack.catalog() as catalog:
        job = get_job_by_uid(catalog, uid)
        assert job is not None
        totals = unit_totals(catalog, job.id)
    assert totals["claims"] - totals["units"] == 1


def test_workers_hear_again_after_each_restart_of_the_broker(
    service_stack: ServiceStack, client: httpx.Client, start: Start
) -> None:
    """Also those whose acknowledgement failed because the broker was away."""
    start("generate"), start("cpu")
    wait_published(service_stack, client, submit(client, recipe("before")))
    for number in range(3):
        service_stack.restart_valkey()
        wait_published(service_stack, client, submit(client, recipe(f"restart-{number}")))


def test_a_flushed_broker_loses_nothing(
    service_stack: ServiceStack, client: httpx.Client, start: Start
) -> None:
    start("generate", env=SLOW), start("cpu")
    uid = submit(client, recipe("flushed", 5_000))
    service_stack.wait(lambda: units(service_stack, uid, GENERATE, DONE), "the job runs")
    service_stack.flush_valkey()
    assert state(client, uid) == "RUNNING"
    wait_published(service_stack, client, uid)


def test_a_job_submitted_while_the_broker_is_down_is_done_when_it_is_back(
    service_stack: ServiceStack, client: httpx.Client, start: Start
) -> None:
    start("generate"), start("cpu")
    service_stack.stop("valkey")
    uid = submit(client, recipe("unheard"))
    service_stack.supervisor.start(service_stack.valkey.program)
    wait_published(service_stack, client, uid)


def test_the_watchdog_ends_a_worker_that_hangs_in_a_unit(
    service_stack: ServiceStack, client: httpx.Client, start: Start
) -> None:
    marks = service_stack.folder / "marks"
    env = {
        "DATAGEN_FAILPOINTS": "generate.batch=sleep:600*1",
        "DATAGEN_FAILPOINTS_DIR": str(marks),
    }
    name = start("generate", env=env, arguments=("--unit-limit", "3"))
    start("cpu")
    uid = submit(client, recipe("hanging"))
    wait_published(service_stack, client, uid)
    assert list(marks.iterdir()), "the fault did not fire"
    assert service_stack.supervisor.num_restarts(name) == 1
    assert service_stack.supervisor.last_exit_code(name) == STUCK_EXIT_CODE
