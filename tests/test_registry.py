"""Registered models: checked, stored once, found again by whoever needs them."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.registry import deprecate_model, get_model, list_models
from datagen.errors import (
    ConflictError,
    InputError,
    ModelError,
    NotFoundError,
    RetryableError,
    RevokedError,
    StoreError,
)
from datagen.generators.model_directory import find_model, load_model
from datagen.registry import (
    cached_folder,
    materialize,
    model_prefix,
    models_dirs,
    register_model,
    remove_registered,
)
from datagen.revocation import revoke
from datagen.settings import Settings
from datagen.store import Store, open_store
from tests.commands.test_out_folder import files_of_at_most
from tests.generators.tiny_models import TINY, save_random_model
from tests.places import PLACES, place_of
from tests.schema import lay_tables


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


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("models") / "xray", TINY["cgan"]).path


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "upload" / "xray"))


def keys(store: Store, prefix: str = "") -> list[str]:
    return [found.key for found in store.list(prefix)]


def test_a_registered_model_is_found_on_another_machine(
    catalog: Catalog, store: Store, place: Settings, folder: Path, tmp_path: Path
) -> None:
    registered = register_model(catalog, store, place, folder, created_by="key1")
    assert registered.created_by == "key1"
    shutil.rmtree(folder)

    elsewhere = replace(place, home=tmp_path / "other-machine")
    found = find_model("xray", models_dirs(catalog, store, elsewhere, ["xray"]))

    assert found.digest == registered.digest
    assert elsewhere.home in found.path.parents
    again = find_model("xray", models_dirs(catalog, store, elsewhere, ["xray"]))
    assert again == found


def test_a_full_disk_fails_no_work_for_good(
    catalog: Catalog, store: Store, place: Settings, folder: Path, tmp_path: Path
) -> None:
    registered = register_model(catalog, store, place, folder, created_by=None)
    elsewhere = replace(place, home=tmp_path / "other-machine")
    with files_of_at_most(2000), pytest.raises(RetryableError, match="xray: cannot be kept in"):
        materialize(registered, store, elsewhere)
    assert not cached_folder(registered, elsewhere).exists()
    assert load_model(materialize(registered, store, elsewhere) / "xray").digest


def test_registering_again_changes_nothing(
    catalog: Catalog, store: Store, place: Settings, folder: Path
) -> None:
    first = register_model(catalog, store, place, folder, created_by=None)
    before = keys(store)
    (folder / "README.md").write_text("another card\n")

    assert register_model(catalog, store, place, folder, created_by="other") == first
    assert keys(store) == before
    assert [model.name for model in list_models(catalog)] == ["xray"]


def test_another_model_of_a_name_is_its_next_version(
    catalog: Catalog, store: Store, place: Settings, folder: Path, tmp_path: Path
) -> None:
    first = register_model(catalog, store, place, folder, created_by=None)
    other = save_random_model(tmp_path / "other" / "xray", TINY["cgan"], seed=1).path
    second = register_model(catalog, store, place, other, created_by=None)

    assert (first.exact_name, second.exact_name) == ("xray", "xray@2")
    assert get_model(catalog, "xray") == second
    for text, wanted in (("xray", second), ("xray@2", second), ("xray@1", first)):
        found = find_model(text, models_dirs(catalog, store, place, [text]))
        assert (found.name, found.digest) == (wanted.exact_name, wanted.digest)
    deprecate_model(catalog, "xray", 2, reason="blurred")
    assert get_model(catalog, "xray") == first
    assert register_model(catalog, store, place, folder, created_by=None) == first


def test_a_removed_model_leaves_nothing(
    catalog: Catalog, store: Store, place: Settings, folder: Path
) -> None:
    model = register_model(catalog, store, place, folder, created_by=None)
    cached = materialize(model, store, place)
    remove_registered(catalog, store, place, model)
    assert (keys(store), list_models(catalog), cached.exists()) == ([], [], False)


def test_what_an_interrupted_registration_left_gives_way(
    catalog: Catalog, store: Store, place: Settings, folder: Path
) -> None:
    prefix = model_prefix("local", "xray", load_model(folder).digest)
    store.put_new(prefix + "README.md", b"of the first try")

    register_model(catalog, store, place, folder, created_by=None)

    assert store.get(prefix + "README.md") == (folder / "README.md").read_bytes()


def test_tenants_have_names_of_their_own(
    catalog: Catalog, store: Store, place: Settings, folder: Path, tmp_path: Path
) -> None:
    mine = register_model(catalog, store, place, folder, created_by=None)
    other = save_random_model(tmp_path / "other" / "xray", TINY["cgan"], seed=1).path

    theirs = register_model(catalog.of("them"), store, place.of("them"), other, created_by=None)

    assert mine.digest != theirs.digest
    assert get_model(catalog.of("nobody"), "xray") is None
    assert list_models(catalog.of("nobody")) == []
    assert [m.digest for m in list_models(catalog.of("them"))] == [theirs.digest]
    folders = models_dirs(catalog.of("them"), store, place.of("them"), ["xray"])
    assert find_model("xray", folders).digest == theirs.digest


def test_the_services_own_names_are_taken(
    catalog: Catalog, store: Store, place: Settings, tmp_path: Path
) -> None:
    noise = save_random_model(tmp_path / "mine" / "noise", TINY["cgan"]).path
    with pytest.raises(ConflictError, match="the service's own"):
        register_model(catalog, store, place, noise, created_by=None)
    assert keys(store) == []


@pytest.mark.parametrize("name", ["X-Ray", "a" * 64, ".xray", "-xray", "x ray"])
def test_a_name_that_no_recipe_could_name_is_refused(
    catalog: Catalog, store: Store, place: Settings, folder: Path, name: str
) -> None:
    with pytest.raises(InputError, match="lower-case letters"):
        register_model(
            catalog, store, place, folder.rename(folder.with_name(name)), created_by=None
        )
    assert keys(store) == []


def test_a_pickle_is_refused_and_not_stored(
    catalog: Catalog, store: Store, place: Settings, folder: Path
) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ModelError, match="safetensors"):
        register_model(catalog, store, place, folder, created_by=None)
    assert keys(store) == []
    assert list_models(catalog) == []


def test_a_model_of_a_pipeline_on_one_machine_is_refused(
    catalog: Catalog, store: Store, place: Settings, tmp_path: Path
) -> None:
    folder = save_random_model(tmp_path / "tuned", TINY["lora"]).path
    with pytest.raises(ModelError, match=r"network.pipeline .* is a folder"):
        register_model(catalog, store, place, folder, created_by=None)
    assert keys(store) == []


def test_a_class_that_is_no_generator_is_refused(
    catalog: Catalog, store: Store, place: Settings, folder: Path
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"generator": "os.system"}))
    with pytest.raises(ModelError, match="is not known"):
        register_model(catalog, store, place, folder, created_by=None)
    assert keys(store) == []


def test_a_damaged_cache_is_fetched_again(
    catalog: Catalog, store: Store, place: Settings, folder: Path
) -> None:
    registered = register_model(catalog, store, place, folder, created_by=None)
    cached = materialize(registered, store, place) / "xray"
    (cached / "config.json").write_text("{}")

    materialize(registered, store, place)

    assert load_model(cached).digest == registered.digest
    assert [path.name for path in cached.parent.parent.iterdir()] == [registered.digest]


def test_a_model_changed_in_the_store_is_refused(
    catalog: Catalog, store: Store, place: Settings, folder: Path
) -> None:
    registered = register_model(catalog, store, place, folder, created_by=None)
    key = model_prefix("local", "xray", registered.digest) + "config.json"
    config = json.loads(store.get(key))
    store.delete(key)
    store.put_new(key, json.dumps(config | {"class_names": ["x", "y", "z"]}).encode())

    with pytest.raises(StoreError, match="expected " + registered.digest):
        materialize(registered, store, place)
    assert list(cached_folder(registered, place).parent.iterdir()) == []


def test_a_deprecated_model_can_be_used_on(
    catalog: Catalog, store: Store, place: Settings, folder: Path
) -> None:
    register_model(catalog, store, place, folder, created_by=None)

    first = deprecate_model(catalog, "xray", 1, reason="use xray-2")
    second = deprecate_model(catalog, "xray", 1, reason="use xray-3")

    assert first.deprecated_at == second.deprecated_at
    assert second.deprecated_reason == "use xray-3"
    assert find_model("xray", models_dirs(catalog, store, place, ["xray"])).name == "xray"
    with pytest.raises(NotFoundError):
        deprecate_model(catalog.of("them"), "xray", 1, reason="not mine")


def test_a_revoked_model_is_neither_found_nor_registered_again(
    catalog: Catalog, store: Store, place: Settings, folder: Path, tmp_path: Path
) -> None:
    registered = register_model(catalog, store, place, folder, created_by=None)
    models_dirs(catalog, store, place, ["xray"])
    assert cached_folder(registered, place).is_dir()

    revoke(catalog, place, "xray", reason="a patient objected", actor="key1")

    with pytest.raises(RevokedError, match=f"a patient objected.*{registered.digest}"):
        models_dirs(catalog, store, place, ["xray"])
    assert not cached_folder(registered, place).exists()
    for name in ("xray", "xray-again"):
        same = shutil.copytree(folder, tmp_path / "again" / name)
        with pytest.raises(RevokedError):
            register_model(catalog, store, place, same, created_by=None)
    other = register_model(catalog.of("them"), store, place.of("them"), folder, created_by=None)
    assert other.revoked_at is None


def test_a_shipped_model_is_revoked_for_one_tenant(
    catalog: Catalog, store: Store, place: Settings
) -> None:
    revoke(catalog, place, "noise", reason="too noisy", actor="key1")

    with pytest.raises(RevokedError, match="too noisy"):
        models_dirs(catalog, store, place, ["noise"])
    assert models_dirs(catalog.of("them"), store, place.of("them"), ["noise"])
