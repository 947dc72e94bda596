"""Workers that die, freeze, run out of memory or are replaced: no image is lost or doubled."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.catalog.rows import FAILED
from datagen.catalog.units import unit_totals
from datagen.plan import attempt_seed
from tests.faults.conftest import DigestOf
from tests.faults.fleet import Fleet, signal_to, wait_until
from tests.faults.recipes import busy_recipe, small_recipe
from tests.recipes import noise_recipe

FAILPOINTS = (
    "engine.claimed",
    "generate.batch",
    "generate.before_put",
    "generate.before_commit",
    "generate.after_commit",
    "judge.before_commit",
    "judge.after_commit",
    "pack.before_put",
    "pack.before_commit",
    "pack.after_commit",
    "finish.before_publishing",
    "finish.before_manifest",
    "finish.before_commit",
    "finish.after_commit",
)
MAX_TRIES = 5


def test_every_failpoint_of_the_engine_is_listed_here() -> None:
    """A step that is added must be killed, too."""
    package = Path(__file__).parents[2] / "datagen"
    sources = [package / "engine.py", *(package / "stages").glob("*.py")]
    called = {
        piece.partition('"')[0]
        for source in sources
        for piece in source.read_text().split('failpoint("')[1:]
    }
    assert called == set(FAILPOINTS)


@pytest.mark.parametrize("name", FAILPOINTS)
def test_a_worker_killed_at_any_step_costs_nothing(
    fleet: Fleet, digest_of: DigestOf, name: str
) -> None:
    job = fleet.submit(busy_recipe())
    processes = fleet.start(job, num_workers=2, failpoints=f"{name}=kill*1")
    codes = fleet.wait_exits(*processes)
    assert fleet.num_fired(name) == 1
    assert sorted(codes) == [-signal.SIGKILL, 0]
    fleet.assert_published(job, digest_of(busy_recipe()))


@pytest.mark.parametrize("name", ["generate.before_commit", "pack.before_commit"])
def test_all_workers_killed_at_once_cost_nothing(
    fleet: Fleet, digest_of: DigestOf, name: str
) -> None:
    job = fleet.submit(busy_recipe())
    processes = fleet.start(job, num_workers=3, failpoints=f"{name}=kill*3")
    assert fleet.wait_exits(*processes) == [-signal.SIGKILL] * 3
    assert fleet.num_fired(name) == 3
    fleet.start(job)
    fleet.wait_ended(job)
    fleet.assert_published(job, digest_of(busy_recipe()))


@pytest.mark.parametrize(
    "name",
    [
        "generate.before_commit",
        "finish.before_commit",
        pytest.param("generate.before_put", marks=pytest.mark.soak),
        pytest.param("judge.before_commit", marks=pytest.mark.soak),
        pytest.param("pack.before_put", marks=pytest.mark.soak),
        pytest.param("pack.before_commit", marks=pytest.mark.soak),
        pytest.param("finish.before_publishing", marks=pytest.mark.soak),
        pytest.param("finish.before_manifest", marks=pytest.mark.soak),
    ],
)
def test_a_worker_frozen_past_its_lease_throws_its_work_away(
    fleet: Fleet, digest_of: DigestOf, name: str
) -> None:
    """It wakes when another has finished its unit, and the whole job."""
    job = fleet.submit(busy_recipe())
    [frozen] = fleet.start(job, failpoints=f"{name}=stop*1")
    fleet.wait_fired(name)
    [other] = fleet.start(job)
    assert fleet.wait_exits(other) == [0]
    fleet.assert_published(job, digest_of(busy_recipe()))
    signal_to(frozen, signal.SIGCONT)
    assert fleet.wait_exits(frozen) == [0]
    fleet.assert_published(job, digest_of(busy_recipe()))
    totals = unit_totals(fleet.catalog, job.id)
    assert totals["claims"] == totals["units"] + 1, "the unit of the frozen worker, and no other"


def test_a_worker_that_wakes_while_another_has_its_unit_throws_its_work_away(
    fleet: Fleet, digest_of: DigestOf
) -> None:
    job = fleet.submit(small_recipe())
    [first] = fleet.start(job, failpoints="generate.before_commit=stop*1")
    fleet.wait_fired("generate.before_commit")
    [second] = fleet.start(job, failpoints="generate.before_commit=stop*2")
    fleet.wait_fired("generate.before_commit", 2)
    signal_to(first, signal.SIGCONT)  # its lease ran out, and the second's runs
    signal_to(second, signal.SIGCONT)
    assert fleet.wait_exits(first, second) == [0, 0]
    fleet.assert_published(job, digest_of(small_recipe()))
    totals = unit_totals(fleet.catalog, job.id)
    assert totals["images_generated"] == 100


def test_workers_replaced_one_by_one_give_their_units_back(
    fleet: Fleet, digest_of: DigestOf
) -> None:
    """A rolling restart: what a worker has at hand is given back at once, and is no try."""
    job = fleet.submit(busy_recipe())
    slow = "generate.batch=sleep:0.3;pack.before_put=sleep:0.1"
    old = fleet.start(job, num_workers=2, failpoints=slow)
    fleet.wait_fired("generate.batch", 2)
    new = []
    for process in old:
        signal_to(process, signal.SIGTERM)
        new += fleet.start(job, failpoints=slow)
        assert fleet.wait_exits(process) == [130]
    fired = fleet.num_fired("pack.before_put")
    wait_until(lambda: fleet.num_fired("pack.before_put") > fired, "packing")
    for process in new:
        signal_to(process, signal.SIGTERM)
        fleet.start(job)
        assert fleet.wait_exits(process) == [130]
    fleet.wait_ended(job)
    fleet.assert_published(job, digest_of(busy_recipe()))


def test_a_worker_serves_jobs_of_different_image_sizes(fleet: Fleet, digest_of: DigestOf) -> None:
    """One model, two shapes: what a worker keeps of a job is not taken for another's."""
    documents = [small_recipe(), noise_recipe({"name": "wide"})]
    jobs = [fleet.submit(document) for document in documents]
    assert fleet.wait_exits(*fleet.start(*jobs)) == [0]
    for job, document in zip(jobs, documents, strict=True):
        fleet.assert_published(job, digest_of(document))


@pytest.mark.slow
def test_eight_workers_share_a_job(fleet: Fleet, digest_of: DigestOf) -> None:
    fleet.settings = replace(fleet.settings, lease_s=20.0)  # the machine is crowded
    job = fleet.submit(busy_recipe())
    assert fleet.wait_exits(*fleet.start(job, num_workers=8)) == [0] * 8
    fleet.assert_published(job, digest_of(busy_recipe()))
    totals = unit_totals(fleet.catalog, job.id)
    assert totals["claims"] == totals["units"]


def test_a_model_out_of_memory_is_tried_again(fleet: Fleet, digest_of: DigestOf) -> None:
    job = fleet.submit(small_recipe())
    fleet.start(job, failpoints="generate.batch=memory*2")
    fleet.wait_ended(job)
    assert fleet.num_fired("generate.batch") == 2
    fleet.assert_published(job, digest_of(small_recipe()))


def test_a_model_always_out_of_memory_fails_the_job_and_says_so(fleet: Fleet) -> None:
    job = fleet.submit(small_recipe())
    fleet.start(job, failpoints="generate.batch=memory")
    fleet.wait_ended(job)
    ended = fleet.job(job)
    assert ended.state == FAILED
    assert ended.error is not None
    assert f"tried {MAX_TRIES} times" in ended.error
    assert "MemoryError" in ended.error
    assert fleet.num_fired("generate.batch") == MAX_TRIES
    fleet.assert_nothing_published(job)


@pytest.mark.slow
def test_a_poison_unit_is_quarantined_and_others_go_on(fleet: Fleet, digest_of: DigestOf) -> None:
    """One image segfaults the model, whichever worker makes it."""
    poisoned, sound = fleet.submit(busy_recipe()), fleet.submit(small_recipe())
    seed = busy_recipe().recipe.seed
    assert seed is not None
    environment = {"POISON_SEED": str(attempt_seed(seed, "cat", 300, 0))}
    for _ in range(MAX_TRIES):
        [victim] = fleet.start(poisoned, sound, failpoints="poison=segv", environment=environment)
        assert fleet.wait_exits(victim) == [-signal.SIGSEGV]
    assert fleet.num_fired("poison") == MAX_TRIES
    [last] = fleet.start(poisoned, sound, failpoints="poison=segv", environment=environment)
    assert fleet.wait_exits(last) == [0]
    assert fleet.num_fired("poison") == MAX_TRIES, "a quarantined unit is not tried again"
    ended = fleet.job(poisoned)
    assert ended.state == FAILED
    assert ended.error is not None
    assert f"unit generate/0/1 was tried {MAX_TRIES} times" in ended.error
    fleet.assert_nothing_published(poisoned)
    fleet.assert_published(sound, digest_of(small_recipe()))


@pytest.mark.parametrize("minutes", [pytest.param(-10, marks=pytest.mark.soak), 10])
def test_a_worker_whose_clock_is_wrong_changes_nothing(
    fleet: Fleet, digest_of: DigestOf, minutes: int
) -> None:
    """Leases are read by the database's clock alone: beside a worker with the right time, none is
    taken too early or kept too long."""
    fleet.settings = replace(fleet.settings, lease_s=20.0)
    job = fleet.submit(busy_recipe())
    skew = {
        "PYTHONPATH": f"{Path(__file__).parent / 'skewed'}:{Path(__file__).parents[2]}",
        "SKEW_S": str(60 * minutes),
        "SKEW_MARKS": str(fleet.marks),
    }
    slow = "generate.batch=sleep:0.3;pack.before_put=sleep:0.02"
    skewed = fleet.start(job, failpoints=slow, environment=skew)
    right = fleet.start(job, failpoints=slow)
    assert fleet.wait_exits(*skewed, *right) == [0, 0]
    assert fleet.num_fired("skewed") == 1
    fleet.assert_published(job, digest_of(busy_recipe()))
    totals = unit_totals(fleet.catalog, job.id)
    assert totals["claims"] == totals["units"], "no lease was taken from the living"
