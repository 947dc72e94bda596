"""The whole service under faults: broker, database, workers and beats that stop, die or repeat.

Messages are never the truth: losing all of them, or getting each ten times, changes nothing.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from datagen.catalog.jobs import get_job_by_uid, list_jobs
from datagen.catalog.rows import ACTIVE_STATES, FAILED, Job
from datagen.catalog.schedules import NewSchedule, create_schedule, last_fires
from datagen.errors import CatalogUnavailableError
from datagen.recipe import RecipeDocument, canonical_json
from tests.faults.conftest import DigestOf
from tests.faults.fleet import Fleet, open_fleet
from tests.faults.recipes import busy_recipe, small_recipe
from tests.stack import ROOT, ServiceStack

pytestmark = pytest.mark.slow

# So long that faults find a job at work: a batch of generation, and a shard.
SLOW = "generate.batch=sleep:0.3;pack.before_put=sleep:0.4"


@pytest.fixture
def fleet(service_stack: ServiceStack, tmp_path: Path) -> Iterator[Fleet]:
    """To look at what the service did; its workers are Celery's."""
    with open_fleet(service_stack.settings, tmp_path, service_stack.environment) as opened:
        yield opened


@pytest.fixture
def stack(service_stack: ServiceStack) -> Iterator[ServiceStack]:
    """Workers and beats that a test starts end with it."""
    before = set(service_stack.supervisor.names())
    yield service_stack
    started = [name for name in service_stack.supervisor.names() if name not in before]
    for name in started:
        service_stack.kill(name, signal.SIGCONT)
    service_stack.stop(*started)


def start_workers(
    stack: ServiceStack, fleet: Fleet, *roles: str, failpoints: str = SLOW
) -> list[str]:
    env = {"DATAGEN_FAILPOINTS": failpoints, "DATAGEN_FAILPOINTS_DIR": str(fleet.marks)}
    return [stack.start_worker(role, env=env) for role in roles]


def submit(stack: ServiceStack, fleet: Fleet, document: RecipeDocument) -> Job:
    with stack.client() as client:
        reply = client.post(
            "/jobs",
            json={"recipe": document.recipe.to_json()},
            headers={"Idempotency-Key": f"submit-{document.recipe.name}"},
        )
    assert reply.status_code == 201, reply.text
    job = get_job_by_uid(fleet.catalog, reply.json()["id"])
    assert job is not None
    return job


def wait_ended(stack: ServiceStack, fleet: Fleet, job: Job) -> None:
    def ended() -> bool:
        try:
            return fleet.state_of(job) not in ACTIVE_STATES
        except CatalogUnavailableError:
            return False

    stack.wait(ended, f"job {job.name} ended", seconds=90)


def test_a_broker_restarted_twenty_times_loses_nothing(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf
) -> None:
    document = busy_recipe("broker", seed=101)
    start_workers(stack, fleet, "generate", "cpu", "cpu")
    job = submit(stack, fleet, document)
    fleet.wait_fired("generate.batch")
    pids = set()
    num_at_work = 0
    for _ in range(20):
        stack.restart_valkey()
        pids.add(stack.pid("valkey"))
        num_at_work += fleet.state_of(job) in ACTIVE_STATES
    assert len(pids) == 20
    assert num_at_work >= 5, "the job was over too early"
    wait_ended(stack, fleet, job)
    fleet.assert_published(job, digest_of(document))


def test_a_flushed_broker_loses_nothing(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf
) -> None:
    document = busy_recipe("flushed", seed=102)
    start_workers(stack, fleet, "generate", "cpu")
    job = submit(stack, fleet, document)
    num_flushed = 0
    with redis.Redis.from_url(stack.valkey.url) as broker:
        for name in ("generate.batch", "pack.before_put"):
            fleet.wait_fired(name)
            num_flushed += broker.dbsize()
            stack.flush_valkey()
    assert num_flushed > 0
    assert fleet.state_of(job) in ACTIVE_STATES
    wait_ended(stack, fleet, job)
    fleet.assert_published(job, digest_of(document))


def test_a_broker_that_is_down_at_submit_delays_a_job_and_no_more(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf
) -> None:
    document = small_recipe("brokerless", seed=103)
    start_workers(stack, fleet, "generate", "cpu")
    stack.supervisor.stop("valkey")
    try:
        with stack.client() as client:
            ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["broker"] != "ok"
        job = submit(stack, fleet, document)
    finally:
        stack.supervisor.start(stack.valkey.program)
    wait_ended(stack, fleet, job)
    fleet.assert_published(job, digest_of(document))


def test_a_database_that_restarts_every_second_loses_nothing(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf
) -> None:
    document = busy_recipe("database", seed=104)
    start_workers(stack, fleet, "generate", "cpu", "cpu")
    job = submit(stack, fleet, document)
    fleet.wait_fired("generate.batch")
    for _ in range(6):
        stack.restart_postgres()
        time.sleep(1.0)
    wait_ended(stack, fleet, job)
    fleet.assert_published(job, digest_of(document))


def test_every_message_ten_times_to_eight_workers_changes_nothing(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf, tmp_path: Path
) -> None:
    document = busy_recipe("tenfold", seed=105)
    log = tmp_path / "tenfold"
    env = {
        "PYTHONPATH": f"{Path(__file__).parent / 'tenfold'}:{ROOT}",
        "TENFOLD_LOG": str(log),
        "DATAGEN_LEASE_S": "20",  # the machine is crowded
    }
    for role in ("generate", "cpu") * 4:
        stack.start_worker(role, env=env)
    job = submit(stack, fleet, document)
    wait_ended(stack, fleet, job)
    assert log.stat().st_size >= 10 * 10
    fleet.assert_published(job, digest_of(document))


def test_two_beats_make_one_job_of_each_fire_time(stack: ServiceStack, fleet: Fleet) -> None:
    due = int(time.time()) - 1
    schedules = [
        create_schedule(
            fleet.catalog,
            NewSchedule(
                name=f"beats-{number}",
                cron="0 0 1 1 *",
                timezone="UTC",
                recipe=canonical_json(small_recipe("beats", seed=106).recipe.to_json()).decode(),
                new_seed=True,
                priority="batch",
                next_fire_at=due,
            ),
        )
        for number in range(5)
    ]
    start_workers(stack, fleet, "cpu", "cpu", "beat", "beat", failpoints="")
    ids = [schedule.id for schedule in schedules]
    stack.wait(lambda: all(last_fires(fleet.catalog, ids, limit=5).values()), "all fired")
    time.sleep(2.0)  # four ticks of each beat
    for [fire] in last_fires(fleet.catalog, ids, limit=5).values():
        assert fire.job_uid is not None, fire.error
    assert len(list_jobs(fleet.catalog, limit=50, name="beats")) == len(ids)


def test_killed_workers_are_started_again_and_go_on(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf
) -> None:
    """All at once, twice."""
    document = busy_recipe("killed", seed=107)
    names = start_workers(stack, fleet, "generate", "cpu", "cpu")
    job = submit(stack, fleet, document)
    for name in ("generate.batch", "pack.before_put"):
        fleet.wait_fired(name)
        assert [stack.kill(worker) for worker in names] == [True] * 3
        stack.wait(lambda: all(stack.pid(worker) for worker in names), "workers started again")
    wait_ended(stack, fleet, job)
    assert [stack.supervisor.num_restarts(worker) for worker in names] == [2, 2, 2]
    fleet.assert_published(job, digest_of(document))


def test_a_worker_frozen_past_its_lease_is_replaced_and_does_no_harm(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf
) -> None:
    document = busy_recipe("frozen", seed=108)
    names = start_workers(stack, fleet, "generate", "cpu", failpoints="pack.before_commit=stop*1")
    job = submit(stack, fleet, document)
    fleet.wait_fired("pack.before_commit")
    start_workers(stack, fleet, "cpu", failpoints="")
    wait_ended(stack, fleet, job)
    fleet.assert_published(job, digest_of(document))
    assert stack.kill(names[1], signal.SIGCONT)
    follower = submit(stack, fleet, small_recipe("after-frozen", seed=108))
    wait_ended(stack, fleet, follower)
    fleet.assert_published(job, digest_of(document))
    fleet.assert_published(follower, digest_of(small_recipe(seed=108)))


def test_a_rolling_restart_loses_nothing(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf
) -> None:
    document = busy_recipe("rolling", seed=109)
    names = start_workers(stack, fleet, "generate", "cpu", "cpu")
    job = submit(stack, fleet, document)
    fleet.wait_fired("generate.batch")
    for name in names:
        new = start_workers(stack, fleet, name.partition("-")[0])
        stack.stop(name)
        assert stack.pid(name) is None
        stack.wait(lambda n=new: stack.pid(n[0]), "the new one runs")
    wait_ended(stack, fleet, job)
    fleet.assert_published(job, digest_of(document))


def test_a_poison_unit_ends_its_job_alone(
    stack: ServiceStack, fleet: Fleet, digest_of: DigestOf
) -> None:
    """The model dies of the first batch of whatever comes first: as often as a unit is tried."""
    start_workers(stack, fleet, "generate", "cpu", failpoints="generate.before_put=segv*5")
    poisoned = submit(stack, fleet, small_recipe("poisoned", seed=110))
    wait_ended(stack, fleet, poisoned)
    assert fleet.num_fired("generate.before_put") == 5
    ended = fleet.job(poisoned)
    assert ended.state == FAILED
    assert ended.error is not None
    assert "unit generate/0/0 was tried 5 times" in ended.error
    fleet.assert_nothing_published(poisoned)
    sound = submit(stack, fleet, small_recipe("sound", seed=111))
    wait_ended(stack, fleet, sound)
    fleet.assert_published(sound, digest_of(small_recipe(seed=111)))
