"""A worker's side of trainings, in this process: SQLite and a folder, or PostgreSQL and S3."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.registry import get_model, list_models
from datagen.catalog.schema import migrate
from datagen.catalog.sources import Terms, uses_of
from datagen.catalog.training_claims import requeue_expired
from datagen.catalog.trainings import Training, cancel_training, get_training, retry_training
from datagen.errors import ConflictError, RevokedError, StoreUnavailableError
from datagen.generators.model_directory import find_model
from datagen.registry import models_dirs
from datagen.settings import Settings
from datagen.sources import find_source, register_images
from datagen.store import Store, open_store
from datagen.trainer import Trainer, checkpoint_prefix, collect_trainings
from datagen.training.model_recipe import DataSource, ModelRecipe
from datagen.training.session import train_model
from datagen.trainings import submit_training
from datagen.withdrawal import withdraw
from tests.places import PLACES, place_of
from tests.schema import lay_tables
from tests.training.tiny_data import tiny_recipe, write_tiny_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_data(tmp_path / "images" / "tiny", 120)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, tenant="acme", training_data_dir=tmp_path / "images")


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    lay_tables(settings.database_url)
    opened = Catalog(settings.database_url, tenant=None)
    yield opened
    opened.close()


@pytest.fixture
def store(settings: Settings) -> Store:
    return open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)


class Stopped(BaseException):
    pass


def submit(catalog: Catalog, settings: Settings, data: Path, key: str = "k") -> Training:
    """48 images in 6 steps, a checkpoint after each second one."""
    recipe = tiny_recipe("cgan", data, num_images=48, evaluate_every_images=24)
    training, _ = submit_training(
        catalog.of("acme"), recipe, settings, idempotency_key=key, created_by="ops"
    )
    return training


def trainer(
    catalog: Catalog, store: Store, settings: Settings, *, name: str = "one", steps: int = 10_000
) -> Trainer:
    """On a machine of its own; stopped when it has looked so often whether it is to stop: at each
    step, checkpoint and check of the images."""
    num_steps = iter(range(steps))

    def check_stop() -> None:
        if next(num_steps, None) is None:
            raise Stopped

    own = replace(settings, home=settings.home / name)
    return Trainer(catalog, store, own, owner=name, check_stop=check_stop)


def state_of(catalog: Catalog, training: Training) -> Training:
    return get_training(catalog, training.uid)


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the model that an undisturbed training makes."""
    folder = tmp_path_factory.mktemp("calm")
    data = write_tiny_data(folder / "data", 120)
    recipe = tiny_recipe("cgan", data, num_images=48, evaluate_every_images=24)
    return train_model(recipe, out=folder / "model" / recipe.name, work=folder / "work").digest


def test_a_training_ends_as_a_registered_model(
    catalog: Catalog, store: Store, settings: Settings, data: Path, digest: str
) -> None:
    training = submit(catalog, settings, data)
    assert trainer(catalog, store, settings).step()
    done = state_of(catalog, training)
    assert (done.state, done.error, done.model_digest) == ("PUBLISHED", None, digest)
    model = get_model(catalog.of("acme"), "tiny-cgan")
    assert model is not None
    assert (model.digest, model.created_by) == (digest, "ops")
    assert get_model(catalog.of("other"), "tiny-cgan") is None
    assert not trainer(catalog, store, settings).step(), "nothing waits any more"
    assert list((settings.home / "one" / "trainings").iterdir()) == []


@pytest.mark.parametrize(
    ("num_looks", "images_seen"), [(4, 16), (6, 32), (7, 40), (8, 32)], ids=str
)
def test_another_worker_goes_on_from_where_the_first_was_stopped(
    catalog: Catalog,
    store: Store,
    settings: Settings,
    data: Path,
    digest: str,
    num_looks: int,
    images_seen: int,
) -> None:
    """At the third step, at a checkpoint, between two, and at the last step; where the weights are
    to be judged, which may take long, it goes on from the checkpoint before."""
    training = submit(catalog, settings, data)
    seen: list[int] = []
    first = trainer(catalog, store, settings, name="one", steps=num_looks)
    with pytest.raises(Stopped):
        first.step()
    waiting = state_of(catalog, training)
    assert (waiting.state, waiting.owner) == ("QUEUED", None)
    assert waiting.checkpoint_images_seen == images_seen
    stored = {each.key for each in store.list(checkpoint_prefix(training))}
    assert stored == {checkpoint_prefix(training) + sha for sha in waiting.files.values()}
    second = trainer(catalog, store, settings, name="two")
    second.on_progress = lambda: seen.append(1)
    assert second.step()
    done = state_of(catalog, training)
    assert (done.state, done.model_digest, done.fence) == ("PUBLISHED", digest, 2)
    checks, steps = 1, 6 - images_seen // 8
    checkpoints = 3 - images_seen // 16
    assert len(seen) == checks + steps + checkpoints, "no step that was stored is made again"


def test_a_cancelled_training_stops_and_leaves_nothing(
    catalog: Catalog, store: Store, settings: Settings, data: Path
) -> None:
    training = submit(catalog, settings, data)
    worker = trainer(catalog, store, settings)

    def cancel() -> None:
        cancel_training(catalog, training.uid)

    worker.on_progress = cancel
    assert worker.step()
    assert state_of(catalog, training).state == "CANCELLED"
    assert get_model(catalog.of("acme"), "tiny-cgan") is None
    assert collect_trainings(catalog, store, grace_s=60) == 0
    collect_trainings(catalog, store, grace_s=-1)
    assert list(store.list(checkpoint_prefix(training))) == []
    assert collect_trainings(catalog, store, grace_s=-1) == 0


def test_a_lost_lease_ends_the_work(
    catalog: Catalog, store: Store, settings: Settings, data: Path, digest: str
) -> None:
    training = submit(catalog, settings, data)
    slow = trainer(catalog, store, replace(settings, lease_s=-1.0, heartbeat_s=1e-3))

    def sweep() -> None:
        requeue_expired(catalog, max_tries=9)

    slow.on_progress = sweep
    assert slow.step()
    waiting = state_of(catalog, training)
    assert (waiting.state, waiting.error) == ("QUEUED", "its worker fell silent")
    trainer(catalog, store, settings, name="two").step()
    assert state_of(catalog, training).model_digest == digest


def test_a_permanent_error_fails_it_with_the_reason_and_a_retry_goes_on(
    catalog: Catalog, store: Store, settings: Settings, data: Path
) -> None:
    training = submit(catalog, settings, data)
    moved = data.rename(data.with_name("moved"))
    trainer(catalog, store, settings).step()
    failed = state_of(catalog, training)
    assert failed.state == "FAILED"
    assert str(data) in str(failed.error)
    assert str(settings.home) not in str(failed.error)
    assert collect_trainings(catalog, store, grace_s=-1) == 0
    assert state_of(catalog, training).collected_at is None, "it may be retried for a month"
    moved.rename(data)
    retry_training(catalog, training.uid)
    trainer(catalog, store, settings).step()
    assert state_of(catalog, training).state == "PUBLISHED"


def test_an_unknown_fault_is_tried_again_and_told(
    catalog: Catalog, store: Store, settings: Settings, data: Path
) -> None:
    training = submit(catalog, settings, data)
    worker = trainer(catalog, store, replace(settings, max_tries=2))

    def fault() -> None:
        raise RuntimeError("CUDA error")

    worker.on_progress = fault
    assert worker.step()
    assert state_of(catalog, training).error == "RuntimeError: CUDA error"
    assert worker.step()
    assert not worker.step()
    failed = state_of(catalog, training)
    assert failed.state == "FAILED"
    assert "begun 2 times" in str(failed.error)
    assert "CUDA error" in str(failed.error)


def test_a_model_that_cannot_be_registered_fails_its_training_in_the_end(
    catalog: Catalog,
    store: Store,
    settings: Settings,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = submit(catalog, settings, data)

    def fault(*args: object, **options: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("datagen.trainer.register_model", fault)
    worker = trainer(catalog, store, replace(settings, max_tries=2))
    assert worker.step()
    waiting = state_of(catalog, training)
    assert (waiting.state, waiting.tries, waiting.checkpoint_images_seen) == ("QUEUED", 1, 48)
    assert worker.step()
    waiting = state_of(catalog, training)
    assert (waiting.state, waiting.tries, waiting.checkpoint_images_seen) == ("QUEUED", 2, 48)
    assert not worker.step()
    failed = state_of(catalog, training)
    assert (failed.state, "RuntimeError: odd" in str(failed.error)) == ("FAILED", True)
    monkeypatch.undo()
    retry_training(catalog, training.uid)
    assert worker.step()
    assert state_of(catalog, training).state == "PUBLISHED"


def test_a_model_that_was_registered_already_is_published(
    catalog: Catalog,
    store: Store,
    settings: Settings,
    data: Path,
    digest: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = submit(catalog, settings, data)

    def fault(*args: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr("datagen.trainer.publish_training", fault)
    worker = trainer(catalog, store, settings)
    worker.step()
    with pytest.raises(ConflictError, match="being registered, or is already"):
        cancel_training(catalog, training.uid)
    monkeypatch.undo()
    (data / "train-images-idx3-ubyte.gz").unlink()  # nothing is trained, nor read
    worker.step()
    done = state_of(catalog, training)
    assert (done.state, done.error, done.model_digest) == ("PUBLISHED", None, digest)


@pytest.mark.parametrize("init", ["tiny-cgan", "later"])
def test_what_a_recipe_names_is_pinned_when_it_is_submitted(
    catalog: Catalog, store: Store, settings: Settings, registered: ModelRecipe, init: str
) -> None:
    acme = catalog.of("acme")
    first, _ = submit_training(acme, registered, settings, idempotency_key="k", created_by=None)
    trainer(catalog, store, settings).step()
    newest = registered.data.model_copy(update={"registered": "wards"})
    asked = {"name": "child", "init": init, "data": newest}
    child = registered.model_copy(update=asked)
    made, _ = submit_training(acme, child, settings, idempotency_key="c", created_by=None)
    kept = json.loads(made.recipe)
    assert kept["data"]["registered"] == "wards@1"
    assert kept["init"] == ("tiny-cgan@1" if init == "tiny-cgan" else "later")
    if init == "later":
        return
    again, is_new = submit_training(acme, child, settings, idempotency_key="c", created_by=None)
    assert (again.uid, is_new) == (made.uid, False)
    trainer(catalog, store, settings).step()
    model = get_model(acme, "child")
    assert model is not None
    assert json.loads(model.config)["parent"] == state_of(catalog, first).model_digest


@pytest.fixture
def registered(catalog: Catalog, settings: Settings, data: Path) -> ModelRecipe:
    """Names the images by a source of the tenant."""
    recipe = tiny_recipe("cgan", data, num_images=16)
    terms = Terms("CC-BY-4.0", "Wards of a test", "research", (), "consent", "me", None)
    register_images(catalog.of("acme"), settings, recipe.data, name="wards", terms=terms)
    content = recipe.data.model_dump(exclude_unset=True, exclude={"path", "licence", "source"})
    source = DataSource.model_validate(content | {"registered": "wards@1"})
    return recipe.model_copy(update={"data": source})


def test_a_registered_source_is_read_and_remembered(
    catalog: Catalog, store: Store, settings: Settings, registered: ModelRecipe
) -> None:
    acme = catalog.of("acme")
    training, _ = submit_training(acme, registered, settings, idempotency_key="k", created_by=None)
    trainer(catalog, store, settings).step()
    done = state_of(catalog, training)
    assert (done.state, done.error) == ("PUBLISHED", None)
    [use] = uses_of(acme, [find_source(acme, "wards")])
    assert (use.model_name, use.model_digest) == ("tiny-cgan", done.model_digest)
    model = get_model(acme, "tiny-cgan")
    assert model is not None
    assert json.loads(model.config)["licence"] == "CC-BY-4.0"


def test_new_terms_of_a_source_reach_the_model_that_it_trained_before(
    catalog: Catalog, store: Store, settings: Settings, data: Path, registered: ModelRecipe
) -> None:
    """Also where the model was fetched before: what is made of it from then on says so."""
    acme, place = catalog.of("acme"), settings.of("acme")
    worker = trainer(catalog, store, settings)
    submit_training(acme, registered, settings, idempotency_key="1", created_by=None)
    worker.step()
    before = find_model("tiny-cgan", models_dirs(acme, store, place, ["tiny-cgan"]))
    terms = Terms("MIT", "Wards of a test", "teaching", (), "consent", "me", None)
    local = tiny_recipe("cgan", data, num_images=16).data
    register_images(acme, settings, local, name="wards", terms=terms)
    source = registered.data.model_copy(update={"registered": "wards@2"})
    newer = registered.model_copy(update={"data": source})
    training, _ = submit_training(acme, newer, settings, idempotency_key="2", created_by=None)
    worker.step()

    assert state_of(catalog, training).model_digest == before.digest
    assert [model.version for model in list_models(acme)] == [1]
    now = find_model("tiny-cgan", models_dirs(acme, store, place, ["tiny-cgan"]))
    for model, licence, use in ((before, "CC-BY-4.0", "research"), (now, "MIT", "teaching")):
        assert model.facts.training is not None
        [fact] = model.facts.training.sources
        assert (model.digest, model.facts.licence) == (before.digest, licence)
        assert (fact.licence, fact.permitted_use) == (licence, use)
    assert now.facts.description == before.facts.description


def test_a_source_that_is_withdrawn_meanwhile_trains_nothing(
    catalog: Catalog, store: Store, settings: Settings, registered: ModelRecipe
) -> None:
    acme = catalog.of("acme")
    training, _ = submit_training(acme, registered, settings, idempotency_key="k", created_by=None)
    worker = trainer(catalog, store, settings)

    def withdraw_once() -> None:
        withdraw(acme, settings, "wards", reason="asked to", actor="ops")

    worker.on_progress = withdraw_once
    worker.step()
    failed = state_of(catalog, training)
    assert failed.state == "FAILED"
    assert "withdrawn" in str(failed.error)
    assert get_model(acme, "tiny-cgan") is None
    with pytest.raises(RevokedError):
        submit_training(acme, registered, settings, idempotency_key="again", created_by=None)


def test_a_store_that_is_away_for_a_while_costs_no_step(
    catalog: Catalog,
    store: Store,
    settings: Settings,
    data: Path,
    digest: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = submit(catalog, settings, data)
    away = iter([True, True])
    put_file: Callable[[str, Path], bool] = store.put_file

    def put(key: str, path: Path) -> bool:
        if next(away, False):
            raise StoreUnavailableError("the store does not answer")
        return put_file(key, path)

    monkeypatch.setattr(store, "put_file", put)
    trainer(catalog, store, settings).step()
    done = state_of(catalog, training)
    assert (done.state, done.model_digest, done.fence) == ("PUBLISHED", digest, 1)


def test_a_damaged_checkpoint_is_not_gone_on_from(
    catalog: Catalog, store: Store, settings: Settings, data: Path
) -> None:
    training = submit(catalog, settings, data)
    with pytest.raises(Stopped):
        trainer(catalog, store, settings, steps=8).step()
    sha256 = state_of(catalog, training).files["checkpoint.safetensors"]
    key = checkpoint_prefix(training) + sha256
    store.delete(key)
    store.put_new(key, b"other")
    trainer(catalog, store, settings).step()
    failed = state_of(catalog, training)
    assert failed.state == "FAILED"
    assert "is not the checkpoint that was stored" in str(failed.error)
    assert collect_trainings(catalog, store, failed_s=-1) >= 1
    assert list(store.list(checkpoint_prefix(training))) == []
    retry_training(catalog, training.uid)
    trainer(catalog, store, settings).step()
    assert state_of(catalog, training).state == "PUBLISHED", "it began anew"


def test_progress_is_told(catalog: Catalog, store: Store, settings: Settings, data: Path) -> None:
    training = submit(catalog, settings, data)
    trainer(catalog, store, replace(settings, heartbeat_s=1e-3)).step()
    progress = json.loads(str(state_of(catalog, training).progress))
    assert progress["images_seen"] == 48
    assert progress["seconds"] > 0
    assert progress["losses"]
    assert progress["best_distance"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("place", ["servers"], indirect=True)
def test_images_and_checkpoints_in_s3(
    place: Settings, data: Path, digest: str, s3_endpoint: str
) -> None:
    catalog = Catalog(place.database_url, tenant=None)
    migrate(catalog)
    store = open_store(place.store_url, endpoint_url=place.s3_endpoint_url)
    for path in data.iterdir():
        store.put_file(f"acme/uploads/tiny/{path.name}", path)
    at = Path(f"{place.store_url}/acme/uploads/tiny")
    training = submit(catalog, place, at)
    with pytest.raises(Stopped):
        trainer(catalog, store, place, name="one", steps=8).step()
    assert state_of(catalog, training).checkpoint_images_seen == 32
    trainer(catalog, store, place, name="two").step()
    done = state_of(catalog, training)
    assert (done.state, done.error, done.model_digest) == ("PUBLISHED", None, digest)
    catalog.close()


@pytest.fixture
def place(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    assert request.param in PLACES
    return place_of(request, settings)
