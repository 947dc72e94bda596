"""What one worker process takes, and what its watchdog makes of it. SQLite and a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import FINISH, GENERATE, JUDGE, PACK, PUBLISHED, Job
from datagen.catalog.units import claimable
from datagen.catalog.workers import live_queues, register_worker, worker_seen
from datagen.errors import InputError
from datagen.fingerprint import cpu_queue, generation_queue, queue_of
from datagen.generators import GENERATORS
from datagen.resolve import resolve
from datagen.settings import Settings
from datagen.submission import Request, submit
from tests.recipes import noise_recipe
from tests.schema import lay_tables
from workers.app import TICKS
from workers.caretaker import Patience, Watchdog
from workers.process import Role, WorkerProcess, cpu_role, generate_role, open_process

UNREACHABLE = "redis://127.0.0.1:1/0"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """No broker: messages are lost, as they may be."""
    return replace(settings, broker_url=UNREACHABLE)


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    lay_tables(settings.database_url)
    catalog = Catalog(settings.database_url)
    yield catalog
    catalog.close()


@pytest.fixture
def job(catalog: Catalog, settings: Settings) -> Job:
    return submit(catalog, resolve(noise_recipe(), [settings.models_dir]), settings, Request())


def open_roles(settings: Settings, *roles: Role) -> list[WorkerProcess]:
    return [open_process(settings, role, lambda: False) for role in roles]


def kinds_waiting(catalog: Catalog, job: Job) -> list[str]:
    return [waiting.kind for waiting in claimable(catalog, job.id)]


def test_interactive_queues_come_before_all_batch_queues(settings: Settings) -> None:
    queues = generate_role(settings).queues
    priorities = [queue.rpartition(".")[2] for queue in queues]
    half = len(GENERATORS)
    assert priorities == ["interactive"] * half + ["batch"] * half


def test_ticks_come_first_and_to_cpu_workers_alone(settings: Settings) -> None:
    assert cpu_role().queues == [TICKS, f"{cpu_queue()}.interactive", f"{cpu_queue()}.batch"]
    assert TICKS not in generate_role(settings).queues


def test_families_restrict_a_generate_worker(settings: Settings) -> None:
    role = generate_role(settings, ["noise"])
    assert list(role.kinds) == [generation_queue(GENERATORS["noise"], settings)]
    with pytest.raises(InputError, match="diffusion"):
        generate_role(settings, ["noise", "diffusion"])


def test_each_role_takes_its_own_kinds_of_unit(
    settings: Settings, catalog: Catalog, job: Job
) -> None:
    generate, cpu = open_roles(settings, generate_role(settings), cpu_role())
    assert not cpu.step(job.id)
    while GENERATE in kinds_waiting(catalog, job):
        assert generate.step(job.id)
    assert kinds_waiting(catalog, job) == [JUDGE]
    assert not generate.step(job.id)
    done = set()
    while waiting := kinds_waiting(catalog, job):
        done.update(waiting)
        assert cpu.step(job.id)
    assert done == {JUDGE, PACK, FINISH}
    ended = get_job(catalog, job.id)
    assert ended is not None
    assert ended.state == PUBLISHED


def test_a_job_of_another_fingerprint_is_left_alone(
    settings: Settings, catalog: Catalog, job: Job
) -> None:
    """Its message came before it was restarted for other workers."""
    role = Role("generate", {"generate.noise.000000000000": (GENERATE,)}, {}, takes_ticks=False)
    (other,) = open_roles(settings, role)
    assert not other.step(job.id)
    assert not other.step(job.id + 1)
    assert kinds_waiting(catalog, job) == [GENERATE]


def test_a_worker_that_is_asked_to_stop_gives_its_unit_back(
    settings: Settings, catalog: Catalog, job: Job
) -> None:
    process = open_process(settings, generate_role(settings), lambda: True)
    before = claimable(catalog, job.id)[0].num_units
    assert process.step(job.id), "the message is still of use to others"
    assert claimable(catalog, job.id)[0].num_units == before


def test_live_workers_tell_which_queues_are_served(catalog: Catalog) -> None:
    assert live_queues(catalog) == frozenset()
    register_worker(catalog, "one", queues=["a", "b"], fingerprint={})
    register_worker(catalog, "two", queues=["b", "c"], fingerprint={})
    assert live_queues(catalog) == {"a", "b", "c"}
    assert worker_seen(catalog, "one")
    assert not worker_seen(catalog, "three")


def test_a_job_is_pinned_to_what_the_living_workers_bring(
    settings: Settings, catalog: Catalog
) -> None:
    """The API's machine has no GPU, the workers' have."""
    own = generate_role(settings).fingerprint["noise"]
    assert isinstance(own, dict)
    gpu = own | {"device": "NVIDIA H100 80GB HBM3"}
    register_worker(catalog, "cpu-1", queues=["cpu.x"], fingerprint={"packing": {}})
    register_worker(catalog, "gpu-1", queues=["generate.x"], fingerprint={"noise": gpu})
    job = submit(catalog, resolve(noise_recipe(), [settings.models_dir]), settings, Request())
    assert job.generate_queue == queue_of("noise", gpu)
    assert '"NVIDIA H100 80GB HBM3"' in job.fingerprint


def test_a_job_is_pinned_to_our_own_fingerprint_where_a_worker_has_it(
    settings: Settings, catalog: Catalog
) -> None:
    role = generate_role(settings)
    for number in range(3):
        register_worker(catalog, f"gpu-{number}", queues=[], fingerprint={"noise": {"device": "g"}})
    register_worker(catalog, "like-us", queues=list(role.kinds), fingerprint=role.fingerprint)
    job = submit(catalog, resolve(noise_recipe(), [settings.models_dir]), settings, Request())
    assert job.generate_queue in role.kinds


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def looks(watchdog: Watchdog, clock: Clock, *times: float) -> Sequence[bool]:
    found = []
    for clock.now in times:
        found.append(watchdog.look() is not None)
    return found


def test_the_watchdog_sees_a_worker_that_claims_nothing_while_units_wait(
    settings: Settings, job: Job
) -> None:
    (process,) = open_roles(settings, generate_role(settings))
    clock = Clock()
    watchdog = Watchdog(process, Patience(idle_s=10), clock)
    assert looks(watchdog, clock, 1, 9, 11) == [False, False, True]


def test_the_watchdog_is_content_with_a_worker_that_claims(settings: Settings, job: Job) -> None:
    (process,) = open_roles(settings, generate_role(settings))
    clock = Clock()
    watchdog = Watchdog(process, Patience(idle_s=10), clock)
    assert looks(watchdog, clock, 1, 9) == [False, False]
    process.activity.num_claims += 1
    assert looks(watchdog, clock, 11, 20) == [False, False]
    process.activity.busy_since = 20.0
    assert looks(watchdog, clock, 40, 400) == [False, False]


def test_units_for_other_workers_do_not_wake_the_watchdog(settings: Settings, job: Job) -> None:
    (process,) = open_roles(settings, cpu_role())
    clock = Clock()
    assert looks(Watchdog(process, Patience(idle_s=10), clock), clock, 1, 100) == [False, False]


def test_the_watchdog_sees_a_unit_that_never_ends(settings: Settings) -> None:
    (process,) = open_roles(settings, cpu_role())
    process.activity.busy_since = 5.0
    clock = Clock()
    assert looks(Watchdog(process, Patience(unit_s=60), clock), clock, 64, 66) == [False, True]
