"""What is past its time goes, and nothing that a job still counts on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert, update

from datagen.catalog import retention
from datagen.catalog.attempts import cached_attempts
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import cancel_job, get_job, retry_job
from datagen.catalog.retention import cancel_preview, retention_policies
from datagen.catalog.rows import CANCELLED, FAILED, PUBLISHED, Job
from datagen.catalog.tables import jobs, objects, tenants
from datagen.catalog.units import claim_unit, fail_unit, unit_totals
from datagen.catalog.versions import get_version
from datagen.engine import Worker
from datagen.resolve import resolve
from datagen.retention import Collected, collect
from datagen.revocation import erase_all, revoke
from datagen.settings import Settings
from datagen.store import Store, open_store
from datagen.submission import PREVIEW, Request, submit
from datagen.verify import verify_version
from tests.places import PLACES, place_of
from tests.recipes import noise_recipe
from tests.schema import lay_tables

NOTHING = Collected(attempts=0, previews=0, leftovers=0)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    return place_of(request, settings)


@pytest.fixture
def catalog(place: Settings) -> Iterator[Catalog]:
    lay_tables(place.database_url)
    opened = Catalog(place.database_url)
    yield opened
    opened.close()


@pytest.fixture
def store(place: Settings) -> Store:
    return open_store(place.store_url, endpoint_url=place.s3_endpoint_url)


def keys(store: Store, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def submitted(
    catalog: Catalog, settings: Settings, request: Request | None = None, **changes: object
) -> Job:
    recipe = resolve(noise_recipe(dict(changes)), [settings.models_dir])
    return submit(catalog, recipe, settings, request or Request())


def again(catalog: Catalog, job: Job) -> Job:
    found = get_job(catalog, job.id)
    assert found is not None
    return found


def work(
    catalog: Catalog, store: Store, settings: Settings, job: Job, *, steps: int | None = None
) -> Job:
    worker = Worker(catalog.of(None), store, settings, owner="a")
    while steps != 0 and worker.step(job.id):
        steps = None if steps is None else steps - 1
    return again(catalog, job)


def keep_for(catalog: Catalog, days: float, tenant: str = "local") -> None:
    with catalog.transaction() as connection:
        connection.execute(
            insert(tenants).values(name=tenant, attempt_retention_days=days, created_at=0)
        )


def age(catalog: Catalog, days: float) -> None:
    """As if everything had been made that long ago."""
    with catalog.transaction() as connection:
        seconds = days * 86_400
        connection.execute(update(objects).values(created_at=objects.c.created_at - seconds))
        connection.execute(update(jobs).values(finished_at=jobs.c.finished_at - seconds))


def tidy(catalog: Catalog, store: Store) -> Collected:
    return collect(catalog.of(None), store, grace_s=0.0, preview_grace_s=0.0)


# --- the attempt cache ----------------------------------------------------------------------------


def test_attempts_age_out_by_their_tenants_policy(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    job = work(catalog, store, place, submitted(catalog, place))
    theirs, theirs_at = catalog.of("them"), place.of("them")
    work(theirs, store, theirs_at, submitted(theirs, theirs_at))
    mine, other = keys(store, "local/attempts/"), keys(store, "them/attempts/")
    assert tidy(catalog, store) == NOTHING
    keep_for(catalog, 7)
    age(catalog, 6.9)
    assert tidy(catalog, store) == NOTHING
    age(catalog, 0.2)

    assert tidy(catalog, store).attempts == len(mine)

    assert keys(store, "local/attempts/") == []
    assert keys(store, "them/attempts/") == other
    assert cached_attempts(catalog, job.context_id, "cat", ordinals=(0, 99)) == []
    version = get_version(catalog, "small")
    assert version is not None
    assert verify_version(catalog, store, version, tenant="local").findings == []
    assert tidy(catalog, store) == NOTHING


def test_what_aged_out_is_made_again_to_the_same_bytes(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    work(catalog, store, place, submitted(catalog, place))
    raw = {key: store.get(key) for key in keys(store, "local/attempts/")}
    keep_for(catalog, 1)
    age(catalog, 2)
    tidy(catalog, store)

    again = work(catalog, store, place, submitted(catalog, place, name="copy"))

    assert again.state == PUBLISHED
    assert {key: store.get(key) for key in keys(store, "local/attempts/")} == raw


def test_an_active_job_keeps_its_attempts(place: Settings, catalog: Catalog, store: Store) -> None:
    job = work(catalog, store, place, submitted(catalog, place), steps=3)
    keep_for(catalog, 1)
    age(catalog, 2)
    before = keys(store)
    assert before

    assert tidy(catalog, store) == NOTHING

    assert keys(store) == before
    assert work(catalog, store, place, job).state == PUBLISHED


def test_a_failed_job_keeps_its_attempts_as_long_and_then_begins_again(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    job = packed_in_part(catalog, store, place)
    fail(catalog, job)
    keep_for(catalog, 5)
    cached = keys(store, "local/attempts/")
    with catalog.transaction() as connection:
        connection.execute(update(objects).values(created_at=0))
    assert tidy(catalog, store).attempts == 0
    age(catalog, 6)

    assert tidy(catalog, store).attempts == len(cached)

    retry_job(catalog, job.id)
    done = work(catalog, store, place, job)
    assert (done.state, done.error) == (PUBLISHED, None)
    version = get_version(catalog, "small")
    assert version is not None
    assert verify_version(catalog, store, version, tenant="local").findings == []


def fail(catalog: Catalog, job: Job) -> None:
    unit = claim_unit(catalog, job_id=job.id, owner="b", lease_s=60, max_tries=9)
    assert unit is not None
    fail_unit(catalog, unit, error="by the test")
    assert again(catalog, job).state == FAILED


@pytest.mark.parametrize("place", ["servers"], indirect=True)  # SQLite has one writer
def test_a_job_retried_while_its_attempts_are_forgotten_begins_again(
    place: Settings, catalog: Catalog, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the moment in which they were seen, for the second time, to be of no use."""
    job = packed_in_part(catalog, store, place)
    fail(catalog, job)
    keep_for(catalog, 1)
    age(catalog, 2)
    retry = threading.Thread(target=retry_job, args=(catalog, job.id))
    look, looks = retention._used_objects, itertools.count(1)

    def look_and_retry(*place: Any, **wanted: Any) -> set[int]:
        found = look(*place, **wanted)
        if next(looks) == 2:
            retry.start()
            retry.join(0.5)
        return found

    monkeypatch.setattr(retention, "_used_objects", look_and_retry)
    assert tidy(catalog, store).attempts > 0
    retry.join()
    assert unit_totals(catalog, job.id)["claims"] == 0, "all of it is to be done again"
    assert work(catalog, store, place, job).state == PUBLISHED


def test_a_crash_between_object_and_rows_costs_nothing(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    """The object is deleted, its rows are not forgotten yet."""
    work(catalog, store, place, submitted(catalog, place))
    keep_for(catalog, 1)
    age(catalog, 2)
    for key in keys(store, "local/attempts/")[:2]:
        store.delete(key)

    grown = [{"name": "cat", "count": 61}, {"name": "dog", "count": 40}]
    assert work(catalog, store, place, submitted(catalog, place, classes=grown)).state == PUBLISHED
    age(catalog, 2)
    assert tidy(catalog, store).attempts > 0
    assert keys(store, "local/attempts/") == []


def test_a_tenant_without_a_policy_keeps_all(place: Settings, catalog: Catalog) -> None:
    with catalog.transaction() as connection:
        connection.execute(insert(tenants).values(name="local", created_at=0))
    assert retention_policies(catalog.of(None)) == []


# --- previews -------------------------------------------------------------------------------------


def test_an_expired_preview_goes_and_its_attempts_stay(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    request = Request(kind=PREVIEW, expires_in_s=3600)
    preview = work(catalog, store, place, submitted(catalog, place, request))
    cached = keys(store, "local/attempts/")
    assert keys(store, "local/datasets/preview.small/")
    assert tidy(catalog, store) == NOTHING
    with catalog.transaction() as connection:
        connection.execute(update(jobs).values(expires_at=1.0))

    assert tidy(catalog, store).previews == 1

    assert keys(store) == cached
    assert again(catalog, preview).state == CANCELLED
    assert get_version(catalog, "preview.small") is None
    assert tidy(catalog, store) == NOTHING
    anew = submitted(catalog, place, request)
    assert anew.id != preview.id
    assert work(catalog, store, place, anew).state == PUBLISHED


def test_a_preview_that_nobody_wants_is_cancelled_and_collected(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    request = Request(kind=PREVIEW, expires_in_s=3600)
    preview = work(catalog, store, place, submitted(catalog, place, request))
    cancel_preview(catalog, preview.id)
    assert again(catalog, preview).state == CANCELLED
    tidy(catalog, store)
    assert keys(store, "local/datasets/") == []


def test_a_data_set_is_no_preview(place: Settings, catalog: Catalog, store: Store) -> None:
    job = work(catalog, store, place, submitted(catalog, place))
    cancel_preview(catalog, job.id)
    assert again(catalog, job).state == PUBLISHED


# --- leftovers ------------------------------------------------------------------------------------


def packed_in_part(catalog: Catalog, store: Store, place: Settings) -> Job:
    job = submitted(catalog, place)
    while not keys(store, "local/datasets/"):
        job = work(catalog, store, place, job, steps=1)
    assert job.state == "RUNNING"
    return job


def test_a_cancelled_jobs_objects_go_after_a_grace_time(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    job = packed_in_part(catalog, store, place)
    cancel_job(catalog, job.id)
    assert collect(catalog.of(None), store, grace_s=3600) == NOTHING

    assert tidy(catalog, store).leftovers == 1

    assert keys(store, "local/datasets/") == []
    assert keys(store, "local/attempts/") != []
    assert tidy(catalog, store) == NOTHING
    anew = submitted(catalog, place)
    assert (anew.version, work(catalog, store, place, anew).state) == (2, PUBLISHED)


def test_a_failed_job_keeps_what_it_can_go_on_with(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    job = packed_in_part(catalog, store, place)
    shards = keys(store, "local/datasets/")
    store.put_new("local/datasets/small/1/shards/orphan.tar", b"of a lost try")
    fail(catalog, job)

    assert tidy(catalog, store).leftovers == 1

    assert keys(store, "local/datasets/") == shards
    retry_job(catalog, job.id)
    assert work(catalog, store, place, job).state == PUBLISHED


@pytest.mark.parametrize("end", ["cancelled", "revoked"])
def test_what_a_job_made_after_its_leftovers_were_collected_goes_as_well(
    place: Settings, catalog: Catalog, store: Store, end: str
) -> None:
    job = packed_in_part(catalog, store, place)
    fail(catalog, job)
    tidy(catalog, store)
    retry_job(catalog, job.id)
    work(catalog, store, place, job, steps=1)

    if end == "cancelled":
        cancel_job(catalog, job.id)
        tidy(catalog, store)
    else:
        revoke(catalog, place, "noise", reason="consent withdrawn", actor="a")
        erase_all(catalog.of(None), store)

    assert keys(store, "local/datasets/") == []


def test_running_and_published_jobs_are_left_alone(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    work(catalog, store, place, submitted(catalog, place))
    work(catalog, store, place, submitted(catalog, place, name="b"), steps=2)
    before = keys(store)
    age(catalog, 100)
    assert tidy(catalog, store) == NOTHING
    assert keys(store) == before
