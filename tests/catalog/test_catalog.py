"""The same cases on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from datagen.catalog.attempts import (
    cached_attempts,
    chosen_attempts,
    commit_generated,
    commit_judged,
    iterate_scores,
    rejections_by_reason,
    replace_rejections,
)
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import (
    NewJob,
    PinnedModel,
    create_job,
    find_job,
    get_job,
    reopen_job,
    restart_job,
)
from datagen.catalog.rows import (
    FAILED,
    FINISH,
    GENERATE,
    JUDGE,
    PACK,
    PUBLISHED,
    RUNNING,
    Job,
    NewAttempt,
    NewObject,
    NewUnit,
    SampleRow,
    Unit,
)
from datagen.catalog.samples import (
    commit_packed,
    counts_by_split,
    get_sample,
    iterate_samples,
    list_shards,
)
from datagen.catalog.schema import HEAD_REVISION, has_schema, migrate
from datagen.catalog.tables import metadata
from datagen.catalog.units import (
    advance_job,
    claim_unit,
    fail_unit,
    release_unit,
    renew_lease,
    unit_totals,
)
from datagen.catalog.versions import commit_published, get_version, list_versions
from datagen.errors import CatalogError, CatalogUnavailableError, InputError, LeaseLostError
from datagen.resources import migrations_dir
from tests.schema import lay_tables

NEW_JOB = NewJob(
    name="small",
    recipe_digest="a" * 64,
    recipe_body="{}",
    model=PinnedModel("b" * 64, "noise", "noise", "{}"),
    context_digest="c" * 64,
    context_body="{}",
    fingerprint="{}",
    unit_size=2,
    batch_size=2,
)
ONE_UNIT = [NewUnit(GENERATE, 0, 0, None)]


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
    else:
        url = request.getfixturevalue("postgres_url")
    lay_tables(url)
    opened = Catalog(url)
    yield opened
    opened.close()


def claim(catalog: Catalog, job: Job, *, owner: str = "me", lease_s: float = 60) -> Unit:
    unit = claim_unit(catalog, job_id=job.id, owner=owner, lease_s=lease_s, max_tries=3)
    assert unit is not None
    return unit


def attempts_of(*ordinals: int, attempt: int = 0) -> list[NewAttempt]:
    return [
        NewAttempt("cat", o, attempt, i, "d" * 64, f'{{"blank": 0.{o}}}')
        for i, o in enumerate(ordinals)
    ]


def generated(catalog: Catalog, job: Job, unit: Unit, made: list[NewAttempt]) -> None:
    key = f"attempts/{unit.round}-{unit.position}"
    commit_generated(
        catalog,
        unit,
        context_id=job.context_id,
        stored=NewObject(key, "attempts", 0, None, len(made), "e" * 64, 10),
        made=made,
        rescored=[],
        num_generated=len(made),
        seconds=1.5,
    )


def test_migrations_make_the_tables_of_the_code(catalog: Catalog) -> None:
    with catalog.reading() as connection:
        context = MigrationContext.configure(connection, opts={"target_metadata": metadata})
        assert compare_metadata(context, metadata) == []


def test_head_revision_is_the_newest_migration(catalog: Catalog) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD_REVISION
    assert has_schema(catalog)
    migrate(catalog)  # a second time is harmless


def test_the_same_recipe_has_one_job_and_a_changed_one_the_next_version(catalog: Catalog) -> None:
    first = create_job(catalog, NEW_JOB, ONE_UNIT)
    assert create_job(catalog, NEW_JOB, ONE_UNIT) == first
    changed = create_job(catalog, replace(NEW_JOB, recipe_digest="f" * 64), ONE_UNIT)
    assert (first.version, changed.version) == (1, 2)
    assert find_job(catalog, "small", "f" * 64) == changed
    assert find_job(catalog, "small", "0" * 64) is None


def test_racing_submitters_get_one_job(catalog: Catalog) -> None:
    jobs: list[Job] = []
    threads = [
        threading.Thread(target=lambda: jobs.append(create_job(catalog, NEW_JOB, ONE_UNIT)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs) == 8
    assert len({job.id for job in jobs}) == 1
    assert unit_totals(catalog, jobs[0].id)["units"] == 1


def test_racing_recipes_of_one_name_get_a_version_each(catalog: Catalog) -> None:
    """As many as have a connection each: all but one find the number of their version taken."""
    made: list[int] = []
    begin = threading.Barrier(15)

    def submit(number: int) -> None:
        begin.wait()
        new = replace(NEW_JOB, recipe_digest=f"{number:064x}")
        made.append(create_job(catalog, new, ONE_UNIT, num_races=1).version)

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == list(range(1, 16))


def test_a_unit_is_claimed_once(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, [NewUnit(GENERATE, 0, i, None) for i in range(20)])
    claimed: list[int] = []

    def work(name: str) -> None:
        for i in range(100):  # an owner holds one unit at a time
            owner = f"{name}-{i}"
            unit = claim_unit(catalog, job_id=job.id, owner=owner, lease_s=60, max_tries=3)
            if unit is None:
                return
            claimed.append(unit.position)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(20))


def test_an_expired_lease_moves_on_and_the_old_owner_cannot_commit(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, ONE_UNIT)
    slow = claim(catalog, job, owner="slow", lease_s=-1)
    quick = claim(catalog, job, owner="quick")
    assert (slow.fence, quick.fence) == (1, 2)
    assert not renew_lease(catalog, slow, lease_s=60)
    with pytest.raises(LeaseLostError):
        generated(catalog, job, slow, attempts_of(0))
    assert cached_attempts(catalog, job.context_id, "cat", ordinals=(0, 9)) == []
    generated(catalog, job, quick, attempts_of(0))
    assert len(cached_attempts(catalog, job.context_id, "cat", ordinals=(0, 9))) == 1
    with pytest.raises(LeaseLostError):
        generated(catalog, job, quick, attempts_of(0))


def test_a_claim_whose_reply_was_lost_is_the_same_try_again(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, [NewUnit(GENERATE, 0, i, None) for i in range(2)])
    lost = [claim(catalog, job) for _ in range(5)]
    assert {unit.position for unit in lost} == {0}
    assert {unit.tries for unit in lost} == {1}
    assert not renew_lease(catalog, lost[0], lease_s=60)
    assert renew_lease(catalog, lost[-1], lease_s=60)
    assert claim(catalog, job, owner="other").position == 1


def test_a_dead_owners_unit_is_taken_before_its_lease_ends(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, ONE_UNIT)
    claim(catalog, job, owner="dead", lease_s=3600)
    common = {"job_id": job.id, "owner": "me", "lease_s": 60.0, "max_tries": 3}
    assert claim_unit(catalog, **common) is None  # type: ignore[arg-type]
    taken = claim_unit(catalog, **common, is_dead=lambda owner: owner == "dead")  # type: ignore[arg-type]
    assert taken is not None


def test_a_unit_that_keeps_failing_fails_its_job_with_the_reason(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, ONE_UNIT)
    for _ in range(3):
        release_unit(catalog, claim(catalog, job), error="segfault", count_try=True)
    assert claim_unit(catalog, job_id=job.id, owner="me", lease_s=60, max_tries=3) is None
    failed = get_job(catalog, job.id)
    assert failed is not None
    assert failed.state == FAILED
    assert "tried 3 times" in str(failed.error)
    assert "segfault" in str(failed.error)
    reopen_job(catalog, job.id)
    assert claim(catalog, job).tries == 1


def test_a_released_unit_counts_no_try(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, ONE_UNIT)
    for fence in range(1, 6):
        unit = claim(catalog, job)
        assert (unit.tries, unit.fence) == (1, fence)
        release_unit(catalog, unit, error=None, count_try=False)


def test_a_failed_job_accepts_no_commit(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, [*ONE_UNIT, NewUnit(GENERATE, 0, 1, None)])
    first, second = claim(catalog, job), claim(catalog, job, owner="other")
    fail_unit(catalog, first, error="class cat: nothing passes")
    with pytest.raises(LeaseLostError):
        generated(catalog, job, second, attempts_of(0))


def test_stages_follow_each_other_and_are_opened_once(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, ONE_UNIT)
    unit = claim(catalog, job)
    advance_job(catalog, job.id)  # nothing yet: a unit is open
    generated(catalog, job, unit, attempts_of(0, 1))
    for _ in range(3):
        advance_job(catalog, job.id)
    judge = claim(catalog, job)
    assert (judge.kind, judge.round) == (JUDGE, 0)
    refill = NewUnit(GENERATE, 1, 0, "[[0,1,1]]")
    commit_judged(
        catalog, judge, next_stage=GENERATE, next_units=[refill], shortfall=None, seconds=0.1
    )
    again = claim(catalog, job)
    assert (again.kind, again.round, again.payload) == (GENERATE, 1, "[[0,1,1]]")
    generated(catalog, job, again, attempts_of(1, attempt=1))
    advance_job(catalog, job.id)
    judge = claim(catalog, job)
    assert (judge.kind, judge.round) == (JUDGE, 1)
    packing = [NewUnit(PACK, 1, 0, None)]
    commit_judged(catalog, judge, next_stage=PACK, next_units=packing, shortfall=None, seconds=0.1)
    assert claim(catalog, job).kind == PACK


def test_the_chosen_attempt_is_the_one_after_the_rejected(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, [*ONE_UNIT, NewUnit(GENERATE, 1, 0, None)])
    generated(catalog, job, claim(catalog, job), attempts_of(0, 1, 2))
    generated(catalog, job, claim(catalog, job), attempts_of(1, attempt=1))
    advance_job(catalog, job.id)
    judge = claim(catalog, job)
    for _ in range(2):  # a replay replaces
        replace_rejections(catalog, judge, "cat", [(1, 0, "blank")])
    rows = list(iterate_scores(catalog, job.context_id, "cat", num_ordinals=2))
    assert [row[:2] for row in rows] == [(0, 0), (1, 0), (1, 1)]
    for ordinals in ([0, 1, 2], [0, 2], [1]):
        chosen = chosen_attempts(
            catalog,
            context_id=job.context_id,
            job_id=job.id,
            ordinals={"cat": ordinals},
        )["cat"]
        assert {o: a.attempt for o, a in chosen.items()} == {o: int(o == 1) for o in ordinals}
    assert rejections_by_reason(catalog, job.id) == {"cat": {"blank": 1}}


def test_rescored_attempts_keep_their_images(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, [*ONE_UNIT, NewUnit(GENERATE, 1, 0, None)])
    generated(catalog, job, claim(catalog, job), attempts_of(0, 1))
    unit = claim(catalog, job)
    commit_generated(
        catalog,
        unit,
        context_id=job.context_id,
        stored=None,
        made=[],
        rescored=[("cat", 1, 0, '{"new": 1}')],
        num_generated=0,
        seconds=0,
    )
    rows = cached_attempts(catalog, job.context_id, "cat", ordinals=(0, 5))
    assert [row.scores for row in rows] == ['{"blank": 0.0}', '{"new": 1}']


def test_packed_samples_and_the_published_version(catalog: Catalog) -> None:
    job = create_job(catalog, NEW_JOB, [NewUnit(PACK, 0, 0, None)])
    shard = NewObject("datasets/small/1/shards/0.tar", "shard", 0, "train", 2, "a" * 64, 99)
    rows = [
        SampleRow(
            "cat", o, "train", 0, "k" * 64, 2**63 - 1, 5, "r" * 64, "i" * 64, 0, 512, 77,
            '{"age": "§"}', "{}", "[]",
        )
        for o in (1, 0)
    ]  # fmt: skip
    commit_packed(catalog, claim(catalog, job), shard, rows, seconds=0.5)
    assert counts_by_split(catalog, job.id) == {"cat": {"train": 2}}
    assert list(iterate_samples(catalog, job.id, "cat")) == rows[::-1]
    assert get_sample(catalog, job.id, "cat", 1) == rows[0]
    assert get_sample(catalog, job.id, "cat", 7) is None
    assert list_shards(catalog, job.id) == [shard]
    advance_job(catalog, job.id)
    unit = claim(catalog, job)
    assert unit.kind == FINISH
    assert get_version(catalog, "small") is None
    commit_published(
        catalog,
        unit,
        digest="d" * 64,
        manifest_sha256="m" * 64,
        num_samples=2,
        size_bytes=176,
        stored=[],
        seconds=0.1,
    )
    version = get_version(catalog, "small")
    assert version is not None
    assert (version.version, version.num_samples, version.digest) == (1, 2, "d" * 64)
    assert list_versions(catalog) == list_versions(catalog, "small") == [version]
    published = get_job(catalog, job.id)
    assert published is not None
    assert published.state == PUBLISHED


def test_a_job_restarted_under_another_fingerprint_forgets_its_decisions(
    catalog: Catalog,
) -> None:
    job = create_job(catalog, NEW_JOB, ONE_UNIT)
    generated(catalog, job, claim(catalog, job), attempts_of(0))
    other = replace(NEW_JOB, context_digest="9" * 64, fingerprint='{"torch": "3"}')
    restart_job(catalog, job.id, other, ONE_UNIT)
    restarted = get_job(catalog, job.id)
    assert restarted is not None
    assert (restarted.state, restarted.fingerprint) == (RUNNING, '{"torch": "3"}')
    assert restarted.context_id != job.context_id
    assert claim(catalog, job).kind == GENERATE
    assert len(cached_attempts(catalog, job.context_id, "cat", ordinals=(0, 9))) == 1


def test_a_newer_schema_is_refused(catalog: Catalog) -> None:
    with catalog.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CatalogError, match="upgrade datagen"):
        migrate(catalog)


@pytest.mark.parametrize("url", ["mysql://x/y", "not a url", "oracle://scott:tiger@db"])
def test_an_unknown_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InputError, match="DATAGEN_DATABASE_URL") as caught:
        Catalog(url)
    assert "tiger" not in str(caught.value)


def test_an_absent_server_is_a_passing_fault() -> None:
    absent = Catalog("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(CatalogUnavailableError, match="does not answer"):
        migrate(absent)
