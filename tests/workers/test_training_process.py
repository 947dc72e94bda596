"""What a worker that trains takes, and how it is told. SQLite and a folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.training_claims import claim_training
from datagen.catalog.trainings import TRAIN_QUEUE, Training, get_training
from datagen.errors import MachineError
from datagen.settings import Settings
from datagen.sweeper import sweep_trainings
from datagen.trainings import submit_training
from tests.schema import lay_tables
from tests.training.tiny_data import tiny_recipe, write_tiny_data
from tests.workers.test_process import UNREACHABLE, Clock, looks
from workers.caretaker import Patience, Watchdog
from workers.process import WorkerProcess, cpu_role, open_process, train_role


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, broker_url=UNREACHABLE, training_data_dir=tmp_path)


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    lay_tables(settings.database_url)
    catalog = Catalog(settings.database_url)
    yield catalog
    catalog.close()


@pytest.fixture
def training(catalog: Catalog, settings: Settings, tmp_path: Path) -> Training:
    recipe = tiny_recipe("cgan", write_tiny_data(tmp_path / "tiny", 120), num_images=16)
    return submit_training(catalog, recipe, settings, idempotency_key="k", created_by=None)[0]


@pytest.fixture
def process(settings: Settings) -> WorkerProcess:
    return open_process(settings, train_role(settings), lambda: False)


def test_it_takes_trainings_and_nothing_else(
    process: WorkerProcess, catalog: Catalog, training: Training
) -> None:
    assert process.role.queues == [TRAIN_QUEUE]
    assert process.has_work()
    assert process.train()
    assert get_training(catalog, training.uid).state == "PUBLISHED"
    assert process.activity.num_claims == 1
    assert not process.has_work()
    assert not process.train()


def test_asked_to_stop_it_gives_the_training_back(
    settings: Settings, catalog: Catalog, training: Training
) -> None:
    process = open_process(settings, train_role(settings), lambda: True)
    assert process.train(), "the message is still of use to others"
    given_back = get_training(catalog, training.uid)
    assert (given_back.state, given_back.tries, given_back.fence) == ("QUEUED", 0, 1)


def test_a_missing_device_ends_the_worker_at_its_start(settings: Settings) -> None:
    with pytest.raises(MachineError, match="cuda:99: this machine has"):
        train_role(replace(settings, device="cuda:99"))


@pytest.mark.parametrize("fault", [MachineError("no room"), OSError(28, "no room")])
def test_a_fault_of_the_machine_leaves_the_training_to_others(
    settings: Settings,
    catalog: Catalog,
    training: Training,
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
) -> None:
    monkeypatch.setattr("workers.process.PAUSE_S", 1e-3)
    asked = iter([False])
    process = open_process(settings, train_role(settings), lambda: next(asked, True))

    def meet() -> None:
        raise fault

    process.trainer.check_stop = meet
    assert process.train(), "the message is still of use to others"
    left = get_training(catalog, training.uid)
    assert (left.state, left.tries, left.owner) == ("QUEUED", 1, None)
    assert "no room" in str(left.error)
    assert next(asked, True), "it paused until it was asked to stop"


def test_the_watchdog_sees_a_worker_that_takes_no_training(
    settings: Settings, process: WorkerProcess, training: Training
) -> None:
    clock = Clock()
    watchdog = Watchdog(process, Patience(idle_s=10), clock)
    assert looks(watchdog, clock, 1, 9, 11) == [False, False, True]
    cpu = open_process(settings, cpu_role(), lambda: False)
    clock = Clock()
    assert looks(Watchdog(cpu, Patience(idle_s=10), clock), clock, 1, 100) == [False, False]


def test_every_step_is_a_sign_of_life(process: WorkerProcess, training: Training) -> None:
    process.activity.busy_since = 0.0
    process.trainer.on_progress()
    assert process.activity.busy_since > 0.0


def test_sweeping_tells_of_what_waits_and_of_what_a_silent_worker_left(
    catalog: Catalog, training: Training
) -> None:
    told: list[tuple[str, int, int]] = []

    def sweep() -> None:
        sweep_trainings(catalog, lambda *words: told.append(words), max_tries=3, wake_after_s=60)

    sweep()
    sweep()
    assert told == [(TRAIN_QUEUE, training.id, 1)]
    assert claim_training(catalog, owner="one", lease_s=-1, max_tries=3) is not None
    sweep()
    assert told == [(TRAIN_QUEUE, training.id, 1)] * 2
