"""From a resolved recipe to a job of a tenant, and the states that it can be put in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from datagen.catalog import units
from datagen.catalog.catalog import Catalog
from datagen.catalog.events import list_events
from datagen.catalog.jobs import (
    cancel_job,
    get_job,
    get_job_by_uid,
    list_jobs,
    retry_job,
    set_priority,
)
from datagen.catalog.rows import (
    CANCELLED,
    FAILED,
    FINISH,
    GENERATE,
    PUBLISHED,
    PUBLISHING,
    RUNNING,
    Job,
)
from datagen.catalog.units import begin_publishing, claim_unit, claimable, fail_unit, unit_totals
from datagen.catalog.versions import get_version, list_versions
from datagen.engine import Worker
from datagen.errors import (
    CatalogUnavailableError,
    ConflictError,
    LeaseLostError,
    NotFoundError,
    RetryableError,
)
from datagen.failpoints import arm
from datagen.resolve import resolve
from datagen.settings import Settings, load_settings
from datagen.store import open_store
from datagen.submission import INTERACTIVE, PREVIEW, Request, restart, submit
from datagen.sweeper import MAX_MESSAGES, sweep, wake_job
from tests.recipes import noise_recipe
from tests.schema import lay_tables

# Eight units of the noise model's batches.
LARGE = {"classes": [{"name": "cat", "count": 2000}], "output": {"shard_size": 500}}


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    environ = {}
    if request.param == "postgresql":
        environ["DATAGEN_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    return load_settings(environ, home=tmp_path / "home")


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    lay_tables(settings.database_url)
    opened = Catalog(settings.database_url, tenant="ward")
    yield opened
    opened.close()


def send(
    catalog: Catalog,
    settings: Settings,
    changes: dict[str, Any] | None = None,
    request: Request | None = None,
) -> Job:
    resolved = resolve(noise_recipe(changes), [])
    of_tenant = settings.of(str(catalog.tenant))
    return submit(catalog, resolved, of_tenant, request or Request())


def worker(catalog: Catalog, settings: Settings) -> Worker:
    store = open_store(settings.store_url)
    return Worker(catalog.of(None), store, settings, owner="one")


def work(catalog: Catalog, settings: Settings, job: Job) -> Job:
    """Until the job has ended; as a worker, which sees every tenant's jobs."""
    one = worker(catalog, settings)
    while one.step(job.id) or read(catalog, job).state in (RUNNING, PUBLISHING):
        pass
    return read(catalog, job)


def read(catalog: Catalog, job: Job) -> Job:
    found = get_job(catalog, job.id)
    assert found is not None
    return found


def event_types(catalog: Catalog, job: Job) -> list[str]:
    return [event.type for event in list_events(catalog, job.id, after_id=0, limit=100)]


def manifests(settings: Settings) -> list[Path]:
    return sorted((settings.home / "objects").glob("**/manifest.json"))


def test_a_job_of_a_tenant_is_published_under_its_prefix(
    catalog: Catalog, settings: Settings
) -> None:
    job = work(catalog, settings, send(catalog, settings))
    assert (job.tenant, job.state, job.num_images) == ("ward", PUBLISHED, 100)
    assert manifests(settings) == [settings.home / "objects/ward/datasets/small/1/manifest.json"]
    objects = settings.home / "objects"
    assert {path.name for path in objects.iterdir() if not path.name.startswith(".")} == {"ward"}
    assert event_types(catalog, job) == [
        *("job.created", "job.stage", "job.stage", "job.stage", "job.published")
    ]


def test_tenants_share_no_jobs_versions_or_attempts(catalog: Catalog, settings: Settings) -> None:
    ours = work(catalog, settings, send(catalog, settings))
    other = catalog.of("lab")
    assert get_job_by_uid(other, ours.uid) is None
    assert get_job(other, ours.id) is None
    assert list_jobs(other, limit=10) == []
    assert list_versions(other) == []
    for refused in (cancel_job, retry_job):
        with pytest.raises(NotFoundError):
            refused(other, ours.id)
    theirs = work(other, settings, send(other, settings))
    assert theirs.context_id != ours.context_id
    assert unit_totals(other, theirs.id)["images_generated"] == 100
    mine, yours = get_version(catalog, "small"), get_version(other, "small")
    assert mine is not None
    assert yours is not None
    assert (mine.version, mine.digest) == (yours.version, yours.digest)
    assert mine.job_id != yours.job_id


def test_the_same_recipe_again_is_the_same_job(catalog: Catalog, settings: Settings) -> None:
    first = send(catalog, settings)
    assert send(catalog, settings).uid == first.uid
    changed = send(catalog, settings, {"seed": 8})
    assert (changed.version, first.version) == (2, 1)
    assert [job.uid for job in list_jobs(catalog, limit=10)] == [changed.uid, first.uid]


def test_a_cancelled_job_is_worked_on_no_more_and_the_recipe_may_come_again(
    catalog: Catalog, settings: Settings
) -> None:
    job = send(catalog, settings, LARGE)
    one = worker(catalog, settings)
    assert one.step(job.id)
    assert cancel_job(catalog, job.id).state == CANCELLED
    assert cancel_job(catalog, job.id).state == CANCELLED
    assert not one.step(job.id)
    assert claimable(catalog, job.id) == []
    assert manifests(settings) == []
    with pytest.raises(ConflictError, match="CANCELLED"):
        retry_job(catalog, job.id)
    again = send(catalog, settings, LARGE)
    assert again.uid != job.uid
    assert work(catalog, settings, again).state == PUBLISHED
    assert event_types(catalog, job) == ["job.created", "job.cancelled"]


def test_cancelling_in_the_middle_of_a_unit_throws_its_work_away(
    catalog: Catalog, settings: Settings
) -> None:
    job = send(catalog, settings)
    one = Worker(
        catalog.of(None),
        open_store(settings.store_url),
        settings,
        owner="one",
        check_stop=lambda: cancel_job(catalog, job.id) and None,
    )
    assert one.step(job.id)
    assert read(catalog, job).state == CANCELLED
    assert unit_totals(catalog, job.id)["images_generated"] == 0


def be_publishing(catalog: Catalog, settings: Settings, job: Job, place: str) -> None:
    """Works until the job is PUBLISHING and its worker had to give up at the failpoint."""
    arm(f"{place}=unavailable*1", settings.home / "fired")
    with pytest.raises(CatalogUnavailableError):
        work(catalog, settings, job)
    arm("", None)
    assert read(catalog, job).state == PUBLISHING


def test_a_job_that_is_being_published_cannot_be_cancelled(
    catalog: Catalog, settings: Settings
) -> None:
    job = send(catalog, settings)
    be_publishing(catalog, settings, job, "finish.before_manifest")
    with pytest.raises(ConflictError, match="PUBLISHING"):
        cancel_job(catalog, job.id)
    for _ in range(5):  # a manifest may be there: it is tried for ever
        assert claim_unit(catalog, job_id=job.id, owner="x", lease_s=-1.0, max_tries=3) is not None
    assert work(catalog, settings, job).state == PUBLISHED


@pytest.mark.parametrize("place", ["finish.before_manifest", "finish.before_commit"])
def test_publishing_goes_on_whatever_became_of_model_shards_and_workers(
    catalog: Catalog, settings: Settings, place: str
) -> None:
    """All that it takes was kept: another release, without the model, writes the same bytes."""
    calm = work(catalog.of("calm"), settings, send(catalog.of("calm"), settings))
    job = send(catalog, settings)
    be_publishing(catalog, settings, job, place)
    with catalog.transaction() as connection:
        connection.exec_driver_sql("UPDATE recipes SET body = 'no recipe'")
    other = load_settings({"DATAGEN_THREADS_PER_WORKER": "2"}, home=settings.home).of("ward")
    again = restart(catalog, job, resolve(noise_recipe(), []), other)
    assert again.state == PUBLISHING
    assert work(catalog, settings, job).state == PUBLISHED
    versions = [get_version(catalog.of(tenant), "small") for tenant in ("ward", "calm")]
    assert calm.state == PUBLISHED
    assert len({version.manifest_sha256 for version in versions if version}) == 1


def test_what_cannot_be_published_now_is_tried_again_and_never_fails(
    catalog: Catalog, settings: Settings
) -> None:
    job = send(catalog, settings)
    be_publishing(catalog, settings, job, "finish.before_manifest")
    folder = settings.home / "objects/ward/datasets/small/1"
    (folder / "manifest.json").write_text("another catalog's")
    for _ in range(4):
        with pytest.raises(RetryableError, match="tried until it succeeds"):
            work(catalog, settings, job)
    assert read(catalog, job).state == PUBLISHING
    (folder / "manifest.json").unlink()
    assert work(catalog, settings, job).state == PUBLISHED


@pytest.mark.parametrize("settings", ["postgresql"], indirect=True)  # SQLite has one writer
def test_a_job_whose_late_owner_begins_to_publish_is_not_failed_for_its_tries(
    catalog: Catalog, settings: Settings
) -> None:
    """Its owner goes on in the moment in which another worker takes its last unit over."""
    job = send(catalog, settings)
    one = worker(catalog, settings)
    while not any(each.kind == FINISH for each in claimable(catalog, job.id)):
        one.step(job.id)
    late = claim_unit(catalog, job_id=job.id, owner="slow", lease_s=-1.0, max_tries=3)
    assert late is not None

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            units, "_first_claimable", _after(lambda: begin_publishing(catalog, late, "{}"))
        )
        taken = claim_unit(catalog, job_id=job.id, owner="x", lease_s=-1.0, max_tries=1)

    assert taken is not None
    assert read(catalog, job).state == PUBLISHING


def _after(do: Callable[[], None]) -> Callable[..., Any]:
    """Looking for a unit, with what happens right afterwards."""
    look = units._first_claimable

    def look_and_do(*place: Any, **wanted: Any) -> Any:
        found = look(*place, **wanted)
        do()
        return found

    return look_and_do


def test_publishing_a_cancelled_job_is_refused(catalog: Catalog, settings: Settings) -> None:
    job = send(catalog, settings)
    unit = claim_unit(catalog, job_id=job.id, owner="slow", lease_s=60, max_tries=3)
    assert unit is not None
    cancel_job(catalog, job.id)
    with pytest.raises(LeaseLostError):
        begin_publishing(catalog, unit, "{}")
    assert read(catalog, job).state == CANCELLED


def test_a_failed_job_is_retried_with_what_is_done_kept(
    catalog: Catalog, settings: Settings
) -> None:
    job = send(catalog, settings, LARGE)
    one = worker(catalog, settings)
    assert one.step(job.id)
    unit = claim_unit(catalog, job_id=job.id, owner="two", lease_s=60, max_tries=3)
    assert unit is not None
    fail_unit(catalog, unit, error="the disk burned")
    failed = read(catalog, job)
    assert (failed.state, failed.error) == (FAILED, "the disk burned")
    with pytest.raises(ConflictError, match="FAILED"):
        cancel_job(catalog, job.id)
    assert retry_job(catalog, job.id).state == RUNNING
    assert work(catalog, settings, job).state == PUBLISHED
    assert unit_totals(catalog, job.id)["images_generated"] == 2000
    types = event_types(catalog, job)
    assert types[:3] == ["job.created", "job.failed", "job.retried"]
    body = json.loads(list_events(catalog, job.id, after_id=0, limit=2)[1].body)
    assert body["error"] == "the disk burned"
    assert body["job_id"] == job.uid


def test_a_preview_makes_the_first_images_of_the_job(catalog: Catalog, settings: Settings) -> None:
    small = [{"name": "cat", "count": 8}, {"name": "dog", "count": 8, "attributes": {"age": 3}}]
    request = Request(kind=PREVIEW, priority=INTERACTIVE, expires_in_s=60)
    preview = work(catalog, settings, send(catalog, settings, {"classes": small}, request))
    assert (preview.name, preview.state) == ("preview.small", PUBLISHED)
    assert preview.expires_at is not None
    assert list_jobs(catalog, limit=10) == []
    job = work(catalog, settings, send(catalog, settings))
    assert unit_totals(catalog, job.id)["images_generated"] == 100 - 16


def test_a_worker_takes_only_its_kinds(catalog: Catalog, settings: Settings) -> None:
    job = send(catalog, settings)
    assert (
        claim_unit(catalog, job_id=job.id, owner="cpu", lease_s=9, max_tries=3, kinds=[FINISH])
        is None
    )
    unit = claim_unit(catalog, job_id=job.id, owner="gpu", lease_s=9, max_tries=3, kinds=[GENERATE])
    assert unit is not None
    assert unit.kind == GENERATE


def test_queues_name_fingerprint_and_priority(catalog: Catalog, settings: Settings) -> None:
    job = send(catalog, settings, LARGE)
    (waiting,) = claimable(catalog)
    assert waiting.queue == f"{job.generate_queue}.batch"
    assert (waiting.kind, waiting.num_units, waiting.tenant) == (GENERATE, 8, "ward")
    set_priority(catalog, job.id, INTERACTIVE)
    assert claimable(catalog)[0].queue == f"{job.generate_queue}.interactive"


def test_a_sweep_wakes_each_waiting_job_once_in_a_while(
    catalog: Catalog, settings: Settings
) -> None:
    sent: list[tuple[str, int, int]] = []
    job = send(catalog, settings, LARGE)
    every = catalog.of(None)
    for _ in range(3):
        sweep(every, lambda *message: sent.append(message), wake_after_s=60)
    assert sent == [(f"{job.generate_queue}.batch", job.id, 8)]
    sweep(every, lambda *message: sent.append(message), wake_after_s=0)
    wake_job(every, job.id, lambda *message: sent.append(message))
    assert len(sent) == 3
    assert all(count <= MAX_MESSAGES for _, _, count in sent)


def test_a_sweep_opens_the_stage_that_a_dead_worker_did_not(
    catalog: Catalog, settings: Settings
) -> None:
    job = send(catalog, settings)
    one = worker(catalog, settings)
    one._advance = lambda job_id, has_judged=False: None  # type: ignore[method-assign]
    while one.step(job.id):
        pass
    assert claimable(catalog) == []
    sent: list[tuple[str, int, int]] = []
    sweep(catalog.of(None), lambda *message: sent.append(message), wake_after_s=0)
    assert sent == [(f"{job.cpu_queue}.batch", job.id, 1)]


def test_a_stage_that_opens_is_told(catalog: Catalog, settings: Settings) -> None:
    job = send(catalog, settings)
    told: list[int] = []
    store = open_store(settings.store_url)
    one = Worker(catalog.of(None), store, settings, owner="one", on_opened=told.append)
    while one.step(job.id) or read(catalog, job).state == RUNNING:
        pass
    assert told == [job.id] * 3  # judge, pack, finish


def test_restart_begins_afresh_under_the_fingerprint_of_now(
    catalog: Catalog, settings: Settings
) -> None:
    job = send(catalog, settings)
    assert worker(catalog, settings).step(job.id)
    resolved = resolve(noise_recipe(), [])
    other = load_settings({"DATAGEN_THREADS_PER_WORKER": "2"}, home=settings.home).of("ward")
    assert restart(catalog, job, resolved, other).state == RUNNING
    assert unit_totals(catalog, job.id)["claims"] == 0
    done = work(catalog, settings, job)
    assert done.state == PUBLISHED
    with pytest.raises(ConflictError, match="PUBLISHED"):
        restart(catalog, done, resolved, other)
