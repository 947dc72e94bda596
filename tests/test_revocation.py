"""What is revoked is refused at once, everywhere, and deleted with all that descends from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from datagen.catalog.attempts import cached_attempts
from datagen.catalog.catalog import Catalog
from datagen.catalog.events import list_events
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import CANCELLED, FINISH, GENERATE, JUDGE, PACK, PUBLISHED, Job
from datagen.catalog.tables import dataset_versions, tombstones
from datagen.catalog.tenants import tenant_use
from datagen.catalog.tombstones import get_tombstone
from datagen.catalog.units import begin_publishing, claim_unit, fail_unit
from datagen.catalog.versions import commit_published, get_version, list_versions
from datagen.diff import diff_versions
from datagen.embedded import run_recipe
from datagen.engine import Worker
from datagen.errors import (
    InputError,
    LeaseLostError,
    NotFoundError,
    RevokedError,
    StoreError,
)
from datagen.generators.model_directory import load_model
from datagen.registry import models_dirs, register_model
from datagen.remake import remake_sample
from datagen.resolve import ResolvedRecipe, resolve
from datagen.revocation import (
    close_revoked,
    erase_all,
    erase_revoked,
    plan_revocation,
    revoke,
)
from datagen.settings import Settings
from datagen.store import Store, open_store
from datagen.submission import PREVIEW, Request, submit
from datagen.verify import verify_version
from datagen.versions import find_any_version, find_version, open_version
from tests.generators.tiny_models import TINY, save_random_model
from tests.places import PLACES, place_of
from tests.published import publish
from tests.recipes import noise_recipe
from tests.schema import lay_tables

DATA = "ab" * 32
TINY_CLASSES = [{"name": "disc", "count": 4}, {"name": "bar", "count": 3}]


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


def resolved(settings: Settings, **changes: object) -> ResolvedRecipe:
    return resolve(noise_recipe(dict(changes)), [settings.models_dir])


def work(catalog: Catalog, store: Store, settings: Settings, job: Job) -> Job:
    """Until the job has ended."""
    worker = Worker(catalog.of(None), store, settings, owner="a")
    while worker.step(job.id):
        pass
    found = get_job(catalog, job.id)
    assert found is not None
    return found


def trained_model(folder: Path, *, data_sha256: str = DATA, seed: int = 0) -> Path:
    """A tiny model that says what it was trained on."""
    path = save_random_model(folder, TINY["cgan"], seed=seed).path
    config = json.loads((path / "config.json").read_text())
    config["training"] = {
        "images_seen": 1,
        "best_images_seen": 1,
        "seconds": 1.0,
        "device": "cpu",
        "kid_held_out": 0.1,
        "num_train": 1,
        "num_held_out": 1,
        "data_sha256": data_sha256,
        "recipe_digest": "cd" * 32,
        "seed": 1,
    }
    (path / "config.json").write_text(json.dumps(config))
    load_model(path)
    return path


# --- a version ------------------------------------------------------------------------------------


def test_every_reader_of_a_revoked_version_is_told_its_digest(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    digest = publish(place).digest
    publish(place, {"classes": [{"name": "cat", "count": 3}]})
    row, other = find_version(catalog, "small@1"), find_version(catalog, "small@2")

    revoke(catalog, place, "small@1", reason="mislabelled", actor="me")

    readers: list[Callable[[], object]] = [
        lambda: find_version(catalog, "small@1"),
        lambda: open_version(catalog, store, "local", "small@1"),
        lambda: remake_sample(catalog, store, place, find_version(catalog, "small@1"), "cat-0"),
        lambda: diff_versions(catalog, find_version(catalog, "small@1"), other),
        lambda: verify_version(catalog, store, find_version(catalog, "small@1"), tenant="local"),
    ]
    for read in readers:
        with pytest.raises(RevokedError, match=f"small@1 was revoked: mislabelled.*{digest}"):
            read()
    listed = {(v.version, v.revoked_reason) for v in list_versions(catalog)}
    assert listed == {(1, "mislabelled"), (2, None)}
    assert find_any_version(catalog, "small@1").digest == row.digest
    assert open_version(catalog, store, "local", "small@2").row.version == 2


def test_the_newest_version_is_one_that_was_not_revoked(place: Settings, catalog: Catalog) -> None:
    publish(place)
    publish(place, {"seed": 8})
    revoke(catalog, place, "small@2", reason="wrong", actor="me")
    assert find_version(catalog, "small").version == 1
    revoke(catalog, place, "small@1", reason="wrong as well", actor="me")
    with pytest.raises(RevokedError, match="small@2 was revoked"):
        find_version(catalog, "small")


def test_erasing_leaves_the_tombstone_alone(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    digest = publish(place).digest
    assert len(keys(store)) > 5
    revoke(catalog, place, "small@1", reason="mislabelled", actor="me")

    assert erase_all(catalog.of(None), store) > 5

    assert keys(store) == ["local/datasets/small/1/tombstone.json"]
    content = json.loads(store.get("local/datasets/small/1/tombstone.json"))
    row = find_any_version(catalog, "small@1")
    assert content == {
        "name": "small",
        "version": 1,
        "digest": digest,
        "reason": "mislabelled",
        "revoked_at": row.revoked_at,
    }
    assert row.erased_at is not None
    assert erase_revoked(catalog.of(None), store, settle_s=0.0) == 0


def test_the_store_alone_tells_what_a_restored_catalog_forgot(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    digest = publish(place).digest
    revoke(catalog, place, "small@1", reason="mislabelled", actor="me")
    erase_all(catalog.of(None), store)
    with catalog.transaction() as connection:
        connection.execute(update(dataset_versions).values(revoked_at=None, revoked_reason=None))

    row = find_version(catalog, "small@1")
    with pytest.raises(RevokedError, match=f"mislabelled.*{digest}"):
        open_version(catalog, store, "local", "small@1")
    with pytest.raises(RevokedError, match=f"mislabelled.*{digest}"):
        verify_version(catalog, store, row, tenant="local")


def test_what_a_restored_catalog_forgot_can_be_revoked_again(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    publish(place)
    revoke(catalog, place, "small@1", reason="mislabelled", actor="me")
    erase_all(catalog.of(None), store)
    with catalog.transaction() as connection:
        connection.execute(delete(tombstones))
        connection.execute(update(dataset_versions).values(revoked_at=None, revoked_reason=None))

    again = revoke(catalog, place, "small@1", reason="mislabelled", actor="me")
    close_revoked(catalog, store, again.descent.versions)
    erase_all(catalog.of(None), store)

    with pytest.raises(RevokedError, match="mislabelled"):
        find_version(catalog, "small@1")
    assert keys(store, "local/datasets/") == ["local/datasets/small/1/tombstone.json"]


def test_erasing_goes_on_where_it_was_stopped(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    publish(place)
    revoke(catalog, place, "small@1", reason="mislabelled", actor="me")
    before = len(keys(store, "local/datasets/"))

    assert erase_revoked(catalog.of(None), store, settle_s=0.0, max_objects=2) >= 2

    left = keys(store, "local/datasets/")
    assert "local/datasets/small/1/manifest.json" not in left
    assert 1 < len(left) < before
    assert find_any_version(catalog, "small@1").erased_at is None
    erase_all(catalog.of(None), store)
    assert keys(store) == ["local/datasets/small/1/tombstone.json"]


def test_what_a_late_worker_writes_is_erased_until_all_must_have_heard(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    publish(place)
    revoke(catalog, place, "small@1", reason="mislabelled", actor="me")
    while erase_revoked(catalog.of(None), store, settle_s=3600.0):
        pass
    store.put_new("local/datasets/small/1/shards/late.tar", b"x")

    assert erase_revoked(catalog.of(None), store, settle_s=3600.0) >= 1
    assert keys(store) == ["local/datasets/small/1/tombstone.json"]
    assert find_any_version(catalog, "small@1").erased_at is None


def test_attempts_that_another_version_lives_of_are_kept_and_told(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    publish(place)
    publish(place, {"classes": [{"name": "cat", "count": 61}, {"name": "dog", "count": 40}]})
    kept = keys(store, "local/attempts/")

    planned = plan_revocation(catalog, place, "small@1")
    assert [v.version for v in planned.descent.sharing] == [2]
    assert planned.descent.num_attempts == 0
    revoke(catalog, place, "small@1", reason="mislabelled", actor="me")
    erase_all(catalog.of(None), store)

    assert keys(store, "local/attempts/") == kept
    last = plan_revocation(catalog, place, "small@2").descent
    assert (last.sharing, last.num_attempts) == ([], len(kept))
    revoke(catalog, place, "small@2", reason="mislabelled", actor="me")
    erase_all(catalog.of(None), store)
    assert keys(store, "local/attempts/") == []


def test_running_the_recipe_of_a_revoked_version_again_is_refused(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    publish(place)
    revoke(catalog, place, "small@1", reason="mislabelled", actor="me")
    erase_all(catalog.of(None), store)
    with pytest.raises(RevokedError, match="small@1 was revoked"):
        publish(place)


# --- a model --------------------------------------------------------------------------------------


def test_a_model_takes_all_that_it_made_along(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    publish(place)
    publish(place, {"name": "other", "seed": 3})
    running = submit(catalog, resolved(place, name="third"), place, Request())

    planned = plan_revocation(catalog, place, "noise")
    assert (planned.kind, planned.already) == ("model", False)
    assert [(v.name, v.version) for v in planned.descent.versions] == [("other", 1), ("small", 1)]
    assert [job.uid for job in planned.descent.jobs] == [running.uid]
    assert planned.descent.num_attempts == len(keys(store, "local/attempts/"))
    assert planned.descent.attempt_bytes > 0
    assert find_version(catalog, "small@1")  # listing changes nothing

    done = revoke(catalog, place, "noise", reason="too noisy", actor="me")

    assert done.descent == planned.descent
    job = get_job(catalog, running.id)
    assert job is not None
    assert (job.state, "too noisy" in str(job.error)) == (CANCELLED, True)
    assert work(catalog, store, place, job).state == CANCELLED
    for name in ("small", "other"):
        with pytest.raises(RevokedError, match=r"too noisy \(made by model noise\)"):
            find_version(catalog, name)
    erase_all(catalog.of(None), store)
    assert keys(store) == [
        "local/datasets/other/1/tombstone.json",
        "local/datasets/small/1/tombstone.json",
    ]
    context_id = job.context_id
    assert cached_attempts(catalog, context_id, "cat", ordinals=(0, 99)) == []


def test_a_revoked_model_makes_nothing_any_more(place: Settings, catalog: Catalog) -> None:
    revoke(catalog, place, "noise", reason="too noisy", actor="me")
    with pytest.raises(RevokedError, match="too noisy"):
        publish(place)
    assert list_versions(catalog) == []


def test_a_job_that_slipped_through_is_stopped_and_taken_back(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    published = work(catalog, store, place, submit(catalog, resolved(place), place, Request()))
    assert published.state == PUBLISHED
    revoke(catalog, place, "noise", reason="too noisy", actor="me")
    late = submit(catalog, resolved(place, name="late"), place, Request())

    erase_revoked(catalog.of(None), store, settle_s=3600.0)

    job = get_job(catalog, late.id)
    assert job is not None
    assert job.state == CANCELLED


def test_a_worker_refuses_a_job_of_a_revoked_model(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    revoke(catalog, place, "noise", reason="too noisy", actor="me")
    job = submit(catalog, resolved(place), place, Request())

    ended = work(catalog, store, place, job)

    assert ended.state == "FAILED"
    assert "too noisy" in str(ended.error)
    assert keys(store) == []


def test_what_unfinished_jobs_packed_is_deleted(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    worker = Worker(catalog.of(None), store, place, owner="a")
    running = submit(catalog, resolved(place, name="running"), place, Request())
    failed = submit(catalog, resolved(place, name="failed"), place, Request())
    for job in (running, failed):
        while not keys(store, f"local/datasets/{job.name}/"):
            worker.step(job.id)
    unit = claim_unit(catalog, job_id=failed.id, owner="b", lease_s=60, max_tries=9)
    assert unit is not None
    fail_unit(catalog, unit, error="by the test")

    revoke(catalog, place, "noise", reason="too noisy", actor="me")
    erase_all(catalog.of(None), store)

    assert keys(store) == []
    for job in (running, failed):
        ended = get_job(catalog, job.id)
        assert ended is not None
        assert ended.state == CANCELLED


def test_a_job_that_is_being_published_is_not(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    """The worker died after it had put the manifest; or it lives, and commits too late."""
    job = submit(catalog, resolved(place), place, Request())
    worker = Worker(catalog.of(None), store, place, owner="a")
    unit = None
    while unit is None:
        worker.step(job.id, kinds=(GENERATE, JUDGE, PACK))
        unit = claim_unit(
            catalog, job_id=job.id, owner="b", lease_s=60, max_tries=9, kinds=(FINISH,)
        )
    begin_publishing(catalog, unit, "{}")
    store.put_new("local/datasets/small/1/manifest.json", b"{}")

    revoke(catalog, place, "noise", reason="too noisy", actor="me")

    with pytest.raises(LeaseLostError):
        commit_published(
            catalog,
            unit,
            digest="0" * 64,
            manifest_sha256="0" * 64,
            num_samples=100,
            size_bytes=1,
            stored=[],
            seconds=1.0,
        )
    ended = get_job(catalog, job.id)
    assert ended is not None
    assert ended.state == CANCELLED
    assert list_versions(catalog) == []
    erase_revoked(catalog.of(None), store, max_objects=1)
    assert "local/datasets/small/1/manifest.json" not in keys(store), "it goes first"
    erase_all(catalog.of(None), store)
    assert keys(store) == []


def test_a_registered_models_files_are_deleted(
    place: Settings, catalog: Catalog, store: Store, tmp_path: Path
) -> None:
    model = register_model(catalog, store, place, trained_model(tmp_path / "xray"), created_by="k")
    assert len(keys(store, "local/models/")) == 3

    revoke(catalog, place, "xray", reason="no consent", actor="me")
    erase_all(catalog.of(None), store)

    assert keys(store) == []
    assert tenant_use(catalog, "local").bytes == 0
    tombstone = get_tombstone(catalog, "model", "xray")
    assert tombstone is not None
    assert (tombstone.digest, tombstone.reason) == (model.digest, "no consent")
    assert tombstone.erased_at is not None


def test_previews_of_a_revoked_model_are_gone(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    request = Request(kind=PREVIEW, expires_in_s=3600)
    preview = work(catalog, store, place, submit(catalog, resolved(place), place, request))
    assert preview.state == PUBLISHED

    revoke(catalog, place, "noise", reason="too noisy", actor="me")

    ended = get_job(catalog, preview.id)
    assert ended is not None
    assert ended.state == CANCELLED


# --- a source -------------------------------------------------------------------------------------


def test_a_source_takes_its_models_and_their_versions_along(
    place: Settings, catalog: Catalog, store: Store, tmp_path: Path
) -> None:
    other = trained_model(tmp_path / "other", data_sha256="ef" * 32, seed=1)
    for path in (trained_model(tmp_path / "xray"), other):
        register_model(catalog, store, place, path, created_by=None)
    for name in ("xray", "other"):
        changes = {
            "name": f"of-{name}",
            "classes": TINY_CLASSES,
            "generator": {"model": name},
        }
        recipe = resolve(noise_recipe(changes), models_dirs(catalog, store, place, [name]))
        job = work(catalog, store, place, submit(catalog, recipe, place, Request()))
        assert job.state == PUBLISHED, job.error

    done = revoke(catalog, place, DATA, reason="consent withdrawn", actor="me")
    erase_all(catalog.of(None), store)

    assert [model.name for model in done.descent.models] == ["xray"]
    assert [v.name for v in done.descent.versions] == ["of-xray"]
    with pytest.raises(RevokedError, match="consent withdrawn"):
        find_version(catalog, "of-xray")
    with pytest.raises(RevokedError, match="consent withdrawn"):
        models_dirs(catalog, store, place, ["xray"])
    assert find_version(catalog, "of-other@1").revoked_at is None
    assert keys(store, "local/models/xray/") == []
    assert len(keys(store, "local/models/other/")) == 3
    assert keys(store, "local/datasets/of-xray/") == ["local/datasets/of-xray/1/tombstone.json"]


def test_a_new_model_of_a_revoked_source_is_refused(
    place: Settings, catalog: Catalog, store: Store, tmp_path: Path
) -> None:
    register_model(catalog, store, place, trained_model(tmp_path / "xray"), created_by=None)
    revoke(catalog, place, DATA, reason="consent withdrawn", actor="me")
    another = trained_model(tmp_path / "retrained", seed=5)
    with pytest.raises(RevokedError, match=f"trained on source {DATA}"):
        register_model(catalog, store, place, another, created_by=None)


def test_a_home_model_of_a_revoked_source_is_refused(place: Settings, catalog: Catalog) -> None:
    trained_model(place.models_dir / "mine")
    recipe = noise_recipe({"classes": TINY_CLASSES, "generator": {"model": "mine"}})
    found = resolve(recipe, [place.models_dir])

    done = revoke(catalog, place, DATA, reason="consent withdrawn", actor="me")

    assert [model.name for model in done.descent.models] == ["mine"]
    with pytest.raises(RevokedError, match="consent withdrawn"):
        run_recipe(found, place)


# --- who, and what --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("nothing", NotFoundError, "'nothing' does not exist$"),
        ("small", NotFoundError, "it is a data set: revoke its versions, such as small@1"),
        ("small@7", NotFoundError, "has no version 7"),
        ("0" * 64, NotFoundError, "no model was trained on it"),
        ("../x", InputError, "expected the sha256 of training data"),
        ("small@x", InputError, "expected NAME or NAME@VERSION"),
    ],
)
def test_what_is_not_there_cannot_be_revoked(
    settings: Settings, text: str, error: type[Exception], message: str
) -> None:
    publish(settings)
    catalog = Catalog(settings.database_url)
    for act in (
        lambda: plan_revocation(catalog, settings, text),
        lambda: revoke(catalog, settings, text, reason="x", actor="me"),
    ):
        with pytest.raises(error, match=message):
            act()
    assert find_version(catalog, "small@1")
    catalog.close()


def test_one_tenants_revocation_leaves_anothers_alone(
    place: Settings, catalog: Catalog, store: Store
) -> None:
    theirs, theirs_at = catalog.of("them"), place.of("them")
    work(theirs, store, theirs_at, submit(theirs, resolved(place), theirs_at, Request()))
    publish(place)
    before = keys(store, "them/")

    revoke(catalog, place, "noise", reason="too noisy", actor="me")
    erase_all(catalog.of(None), store)

    assert keys(store, "them/") == before
    assert open_version(theirs, store, "them", "small@1").row.revoked_at is None
    with pytest.raises(NotFoundError):
        revoke(catalog.of("third"), place.of("third"), "small@1", reason="x", actor="me")


def test_revoking_twice_keeps_the_first_word(place: Settings, catalog: Catalog) -> None:
    publish(place)
    first = revoke(catalog, place, "small@1", reason="first", actor="me")
    again = revoke(catalog, place, "small@1", reason="second", actor="me")
    assert (first.already, again.already) == (False, True)
    assert again.descent.versions == []
    row = get_version(catalog, "small", 1)
    assert row is not None
    assert row.revoked_reason == "first"
    events = list_events(catalog, row.job_id, after_id=0, limit=100)
    assert [event.type for event in events].count("dataset.revoked") == 1


def test_what_the_store_refuses_to_delete_holds_up_nothing_else(settings: Settings) -> None:
    publish(settings)
    publish(settings, {"name": "other"})
    catalog, store = Catalog(settings.database_url), open_store(settings.store_url)
    for version in ("small@1", "other@1"):
        revoke(catalog, settings, version, reason="x", actor="me")
    folder = settings.home / "objects" / "local" / "datasets" / "small" / "1"
    shutil.rmtree(folder)
    folder.write_text("a file where a folder must be")

    with pytest.raises(StoreError, match="small/1"):
        erase_all(catalog, store)
    with pytest.raises(StoreError, match="small/1"):
        erase_all(catalog, store)

    assert find_any_version(catalog, "small@1").erased_at is None
    assert find_any_version(catalog, "other@1").erased_at is not None
    folder.unlink()
    erase_all(catalog, store)
    assert find_any_version(catalog, "small@1").erased_at is not None
    catalog.close()
