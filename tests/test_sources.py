"""Registered sources: their terms, who may train on them, and what synthetic images are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datagen.catalog.catalog import Catalog
from datagen.catalog.schema import migrate
from datagen.catalog.sources import NewSource, Source, Terms, insert_source, uses_of
from datagen.catalog.tombstones import Ref
from datagen.errors import ConflictError, InputError, NotFoundError, RevokedError, StoreError
from datagen.formats.webdataset import export as export_webdataset
from datagen.generators.model_directory import Model, change_facts, load_model
from datagen.generators.model_facts import SourceFact, TrainingFacts
from datagen.images import encode_png
from datagen.registrar import Registrar
from datagen.registry import check_usable
from datagen.settings import Settings
from datagen.sources import (
    check_terms,
    find_source,
    register_images,
    source_fact,
)
from datagen.store import open_store
from datagen.training.admission import Admission, admit_unregistered
from datagen.training.dataset import read_training_images, real_images
from datagen.training.model_recipe import DataSource
from datagen.versions import open_version
from datagen.withdrawal import derived_of, withdraw
from tests.generators.tiny_models import TINY, save_random_model
from tests.published import publish

TERMS = Terms(
    licence="CC-BY-4.0",
    description="Wards of a test",
    permitted_use="research on wards",
    permitted_uses=("research",),
    consent="broad consent, version 2",
    contact="data@example.org",
    expires_on=None,
)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog's file, to be copied: to make one takes long."""
    path = tmp_path_factory.mktemp("empty") / "catalog.sqlite3"
    catalog = Catalog(f"sqlite:///{path}")
    migrate(catalog)
    catalog.close()
    return path


@pytest.fixture
def catalog(settings: Settings, empty: Path) -> Iterator[Catalog]:
    settings.home.mkdir()
    shutil.copyfile(empty, settings.home / "catalog.sqlite3")
    catalog = Catalog(settings.database_url, settings.tenant)
    yield catalog
    catalog.close()


def write_images(folder: Path, *, seed: int = 0, num: int = 6, side: int = 10) -> Path:
    rng = np.random.default_rng(seed)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for row in range(num):
            image = rng.integers(0, 256, (side, side), dtype=np.uint8)
            Image.fromarray(image).save(folder / name / f"{row}.png")
    return folder


def source_of(path: Path, **changes: Any) -> DataSource:
    content = {"path": path, "licence": "MIT", "source": "Made up (by a test)", "held_out": 2}
    return DataSource.model_validate(content | changes)


Register = Callable[..., Source]


@pytest.fixture
def register(catalog: Catalog, settings: Settings) -> Register:
    def call(path: Path, *, name: str = "wards", terms: Terms = TERMS, **changes: Any) -> Source:
        data = source_of(path, **changes)
        return register_images(catalog, settings, data, name=name, terms=terms)[0]

    return call


@pytest.fixture
def admit(catalog: Catalog, settings: Settings) -> Callable[[DataSource], Any]:
    def call(data: DataSource) -> Any:
        registrar = Registrar(catalog, settings, recipe_name="tiny", created_by=None)
        located = registrar.locate(data)
        return registrar.admit(located, read_training_images(located))

    return call


Train = Callable[..., Model]


@pytest.fixture
def trained(catalog: Catalog, settings: Settings) -> Train:
    """A model with the facts and records of a training on a registered source, without one."""

    def call(generator: str, registered: str, parent: Model | None = None) -> Model:
        registrar = Registrar(catalog, settings, recipe_name="tiny", created_by=None)
        data = registrar.locate(DataSource(registered=registered, held_out=2))
        reading = read_training_images(data)
        admission = registrar.admit(data, reading).after(parent)
        training = trained_on(*admission.sources)
        digest = real_images(reading).digest()
        model = change_facts(
            save_random_model(settings.models_dir / generator, TINY[generator]),
            training=training.model_copy(update={"data_sha256": digest}),
            parent=None if parent is None else parent.digest,
        )
        registrar.record(model)
        return model

    return call


def sha256_of(model: Model) -> str | None:
    """Of the images as they were read."""
    assert model.facts.training is not None
    return model.facts.training.data_sha256


def test_the_same_images_under_the_same_terms_are_one_source(
    register: Register, tmp_path: Path
) -> None:
    first = register(write_images(tmp_path / "data"))
    assert register(tmp_path / "data") == first
    assert (first.label, first.num_images, first.terms) == ("wards@1", 12, TERMS)
    prolonged = register(tmp_path / "data", terms=TERMS._replace(expires_on="2100-01-31"))
    assert (prolonged.label, prolonged.digest) == ("wards@2", first.digest)
    other = register(write_images(tmp_path / "more", seed=1))
    assert (other.label, other.digest != first.digest) == ("wards@3", True)
    with pytest.raises(ConflictError, match="registered as wards@2"):
        register(tmp_path / "data", name="others")


def test_what_classes_are_called_and_how_images_are_stored_is_no_part_of_the_digest(
    register: Register, tmp_path: Path
) -> None:
    first = register(write_images(tmp_path / "data"))
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    (tmp_path / "copy" / "a").rename(tmp_path / "copy" / "z")
    for path in (tmp_path / "copy").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    assert register(tmp_path / "copy").digest == first.digest
    (tmp_path / "copy" / "z" / "0.bmp").rename(tmp_path / "copy" / "b" / "9.bmp")
    assert register(tmp_path / "copy").digest != first.digest, "another label is another set"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"licence": " "}, "licence"),
        ({"consent": "x" * 501}, "consent"),
        ({"contact": "a\nb"}, "contact"),
        ({"expires_on": "31.1.2030"}, "expires_on"),
        ({"expires_on": "2030-02-30"}, "expires_on"),
        ({"permitted_uses": ("",)}, "permitted_uses"),
    ],
)
def test_terms_are_checked(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field} "):
        check_terms(TERMS._replace(**change))


def test_a_training_names_its_source_and_brings_its_terms(
    register: Register, admit: Callable[[DataSource], Any], tmp_path: Path
) -> None:
    source = register(write_images(tmp_path / "data", side=30))
    data = DataSource(registered="wards", held_out=2, image_size=8)
    [fact] = admit(data).sources
    assert (fact.label, fact.sha256, fact.licence) == ("wards@1", source.digest, "CC-BY-4.0")
    assert fact.use_text == "research: research on wards"
    # Read from elsewhere, they are the same; and by path alone they are found again.
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = data.model_copy(update={"path": tmp_path / "moved"})
    assert admit(moved).sources == admit(source_of(tmp_path / "moved")).sources == (fact,)
    Image.new("L", (30, 30), 7).save(tmp_path / "moved" / "a" / "new.png")
    with pytest.raises(InputError, match="not the images that were registered as wards@1"):
        admit(moved)


def test_images_nobody_registered_are_registered_by_their_training(
    admit: Callable[[DataSource], Any], catalog: Catalog, tmp_path: Path
) -> None:
    data = source_of(write_images(tmp_path / "data"))
    [fact] = admit(data).sources
    assert (fact.label, fact.permitted_use) == ("made-up@1", "")
    assert admit(data).sources == (fact,)
    source = find_source(catalog, "made-up")
    assert (source.terms.licence, source.location) == ("MIT", str(tmp_path / "data"))


def test_an_expired_source_trains_nothing(
    register: Register, admit: Callable[[DataSource], Any], tmp_path: Path
) -> None:
    register(write_images(tmp_path / "data"), terms=TERMS._replace(expires_on="2020-01-31"))
    for data in (DataSource(registered="wards", held_out=2), source_of(tmp_path / "data")):
        with pytest.raises(InputError, match=r"wards@1 expired on 2020-01-31.*data@example.org"):
            admit(data)
    register(tmp_path / "data", terms=TERMS._replace(expires_on="2100-01-31"))
    assert admit(source_of(tmp_path / "data")).sources[0].version == 2


def test_a_withdrawn_source_trains_nothing_by_any_way(
    register: Register,
    admit: Callable[[DataSource], Any],
    catalog: Catalog,
    settings: Settings,
    tmp_path: Path,
) -> None:
    register(write_images(tmp_path / "data"))
    withdraw(catalog, settings, "wards", reason="consent withdrawn", actor="test")
    part = source_of(tmp_path / "data", class_names=["b", "c"])
    (tmp_path / "data" / "c").mkdir()
    Image.new("L", (10, 10), 7).save(tmp_path / "data" / "c" / "0.png")
    for data in (DataSource(registered="wards", held_out=2), part):
        with pytest.raises(RevokedError, match=r"wards@1.*consent withdrawn"):
            admit(data)
    with pytest.raises(RevokedError, match=r"wards@1.*consent withdrawn"):
        register(tmp_path / "data", name="others")


def test_models_that_nobody_used_yet_are_found_by_their_facts(
    register: Register, catalog: Catalog, settings: Settings, tmp_path: Path
) -> None:
    source = register(write_images(tmp_path / "data"))
    model = save_random_model(settings.models_dir / "tiny", TINY["noise"])
    change_facts(model, training=trained_on(source_fact(source)))
    derived = derived_of(catalog, settings, "wards")
    assert derived.descent.models == [Ref("tiny", model.digest)]
    other = save_random_model(settings.models_dir / "other", TINY["cgan"])
    withdraw(catalog, settings, "wards", reason="over", actor="test")
    check_usable(catalog, other)
    with pytest.raises(RevokedError, match="over"):
        check_usable(catalog, model)


def test_images_in_s3_are_read_with_the_keys_of_their_profile(
    register: Register,
    s3_endpoint: str,
    s3_url: str,
    settings: Settings,
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_images(tmp_path / "data")
    store = open_store(s3_url, endpoint_url=s3_endpoint)
    for path in (tmp_path / "data").rglob("*.png"):
        store.put_file(path.relative_to(tmp_path / "data").as_posix(), path)
    keys = tmp_path / "credentials"
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    lines = [f"{name.lower()} = {os.environ[name]}" for name in names]
    keys.write_text("\n".join(["[wards-reader]", *lines]))
    for name in names:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    there = replace(settings, s3_endpoint_url=s3_endpoint)
    data = source_of(Path(s3_url))

    with pytest.raises(StoreError, match="nobody"):
        register_images(catalog, there, data, name="wards", terms=TERMS, profile="nobody")
    source, _ = register_images(
        catalog, there, data, name="wards", terms=TERMS, profile="wards-reader"
    )

    assert (source.num_images, source.location, source.profile) == (12, s3_url, "wards-reader")
    assert os.environ.get("AWS_SECRET_ACCESS_KEY") is None
    assert register(tmp_path / "data").digest == source.digest


def test_an_unknown_source_is_named_with_what_there_is(
    register: Register, catalog: Catalog, tmp_path: Path
) -> None:
    register(write_images(tmp_path / "data"))
    with pytest.raises(NotFoundError, match="did you mean 'wards'"):
        find_source(catalog, "ward")
    with pytest.raises(NotFoundError, match="no version 7"):
        find_source(catalog, "wards@7")


def test_our_own_images_are_recognised_with_and_without_their_mark(
    admit: Callable[[DataSource], Any],
    register: Register,
    catalog: Catalog,
    settings: Settings,
    tmp_path: Path,
) -> None:
    publish(settings)
    store = open_store(settings.store_url)
    opened = open_version(catalog, store, settings.tenant, "small")
    list(export_webdataset(opened.reader, tmp_path / "pulled"))
    pulled = source_of(tmp_path / "pulled", format="webdataset")
    with pytest.raises(InputError, match=r"80 images of 80 are synthetic, the first of them .*png"):
        admit(pulled)
    with pytest.raises(InputError, match="synthetic"):
        register(tmp_path / "pulled")
    allowed = admit(replace_allow(pulled))
    assert (allowed.depth, allowed.sources[0].depth) == (1, 1)
    # Written anew, by pixels: one among real ones.
    folder = write_images(tmp_path / "mixed", side=12)
    reading = read_training_images(pulled)
    Image.fromarray(reading.images.images[0][..., 0]).save(folder / "a" / "taken.png")
    with pytest.raises(InputError, match=r"1 image of 13 is synthetic, .*taken.png"):
        admit(source_of(folder, image_size=8))


def trained_on(*facts: SourceFact) -> TrainingFacts:
    return TrainingFacts(
        images_seen=1,
        best_images_seen=1,
        seconds=1,
        device="a test",
        num_train=10,
        num_held_out=2,
        recipe_digest="0" * 64,
        seed=0,
        sources=facts,
    )


def replace_allow(data: DataSource) -> DataSource:
    return data.model_copy(update={"allow_synthetic": True})


XMP = b"<x>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia</x>"


@pytest.mark.parametrize("how", ["mark", "png", "jpeg", "webp", "c2pa"])
def test_files_that_say_they_are_synthetic_are_believed(how: str, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    image = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10))
    place = folder / "b" / "declared"
    if how == "mark":
        text = {"datagen": "synthetic", "datagen-attempt": "f" * 64}
        png = encode_png(np.asarray(image)[..., None], text=text)
        place.with_suffix(".png").write_bytes(png)
    elif how == "png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        image.save(place.with_suffix(".png"), pnginfo=info)
    elif how == "c2pa":
        image.save(place.with_suffix(".jpg"))
        data = place.with_suffix(".jpg").read_bytes()
        segment = b"JP\x00\x01\x00\x00\x00\x01jumb" + XMP
        app11 = b"\xff\xeb" + (len(segment) + 2).to_bytes(2, "big") + segment
        place.with_suffix(".jpg").write_bytes(data[:2] + app11 + data[2:])
    else:
        image.save(place.with_suffix(f".{how}"), xmp=XMP)
    data = source_of(folder)
    reading = read_training_images(data)
    with pytest.raises(InputError, match=r"1 image of 13 is synthetic, the first .*declared"):
        admit_unregistered(data, reading)
    assert admit_unregistered(replace_allow(data), reading).depth == 1


def test_ordinary_metadata_is_no_mark(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "data")
    Image.new("RGB", (10, 10)).save(folder / "a" / "x.jpg", xmp=XMP.replace(b"trained", b"digital"))
    assert read_training_images(source_of(folder)).marks == {}


def test_training_on_an_inherited_source_is_recorded(
    register: Register, catalog: Catalog, settings: Settings, tmp_path: Path
) -> None:
    source = register(write_images(tmp_path / "data"))
    registrar = Registrar(catalog, settings, recipe_name="tiny", created_by=None)
    data = registrar.locate(DataSource(registered="wards", held_out=2))
    admission = registrar.admit(data, read_training_images(data))
    training = trained_on(*admission.sources)
    model = save_random_model(settings.models_dir / "tiny", TINY["noise"])
    parent = replace(model, facts=model.facts.model_copy(update={"training": training}))
    child = Admission().after(parent)
    assert child.sources == admission.sources
    registrar.record(parent)
    registrar.record(parent)
    [use] = uses_of(catalog, [source])
    assert (use.model_name, use.model_digest) == ("tiny", load_model(model.path).digest)
    withdraw(catalog, settings, "wards", reason="over", actor="test")
    late = save_random_model(settings.models_dir / "late", TINY["cgan"])
    check_usable(catalog, late)
    with pytest.raises(RevokedError, match="withdrawn while late was trained"):
        registrar.record(replace(late, facts=parent.facts))
    with pytest.raises(RevokedError, match="over"):
        check_usable(catalog, replace(late, name="other"))


def test_an_inherited_source_is_no_source_of_the_images_that_were_read(
    register: Register, trained: Train, catalog: Catalog, settings: Settings, tmp_path: Path
) -> None:
    begun = register(write_images(tmp_path / "s", seed=1), name="begun")
    register(write_images(tmp_path / "t", seed=2), name="other")
    parent = trained("noise", "begun")
    child = trained("cgan", "other", parent=parent)
    untouched = trained("edm", "other")
    assert {use.model_name: use.data_sha256 for use in uses_of(catalog, [begun])} == {
        "noise": sha256_of(parent),
        "cgan": "",
    }
    withdraw(catalog, settings, "begun", reason="over", actor="test")
    check_usable(catalog, untouched)
    for model in (parent, child):
        with pytest.raises(RevokedError, match="over"):
            check_usable(catalog, model)


def test_models_of_more_images_than_the_source_has_are_found(
    register: Register, trained: Train, catalog: Catalog, settings: Settings, tmp_path: Path
) -> None:
    write_images(tmp_path / "less")
    shutil.copytree(tmp_path / "less", tmp_path / "more")
    write_images(tmp_path / "else", seed=1, num=3)
    (tmp_path / "else" / "a").rename(tmp_path / "more" / "c")
    register(tmp_path / "less", name="less")
    register(tmp_path / "more", name="more")
    model = trained("noise", "more")
    assert derived_of(catalog, settings, "less").descent.models == [Ref("noise", model.digest)]


def test_a_label_of_another_home_may_be_of_other_images(
    register: Register, trained: Train, catalog: Catalog, settings: Settings, tmp_path: Path
) -> None:
    here = register(write_images(tmp_path / "data"))
    register(write_images(tmp_path / "else", seed=1), name="other")
    theirs = source_fact(here).model_copy(update={"sha256": "e" * 64})
    parent = save_random_model(settings.models_dir / "theirs", TINY["noise"])
    parent = change_facts(parent, training=trained_on(theirs))
    child = trained("cgan", "wards", parent=parent)
    assert [fact.sha256 for fact in child.facts.training.sources] == [here.digest, "e" * 64]
    stranger = trained("edm", "other", parent=parent)
    assert [use.model_name for use in uses_of(catalog, [here])] == ["cgan"]
    assert "e" * 64 in {fact.sha256 for fact in stranger.facts.training.sources}
    hidden = theirs.model_copy(update={"sha256": None})
    private = replace(
        parent, facts=parent.facts.model_copy(update={"training": trained_on(hidden)})
    )
    assert Admission((source_fact(here),)).after(private).sources == (source_fact(here),)


def test_keys_of_a_source_read_nothing_else(
    catalog: Catalog, settings: Settings, register: Register, tmp_path: Path
) -> None:
    source = register(write_images(tmp_path / "data"))
    new = replace(source, name="remote", location="s3://wards/2026", profile="reader")
    insert_source(catalog, NewSource(**{f: getattr(new, f) for f in NewSource.__annotations__}))
    profiles = []
    for path in (None, "s3://wards/2026/", "s3://others/2026", str(tmp_path / "data")):
        registrar = Registrar(catalog, settings, recipe_name="tiny", created_by=None)
        registrar.locate(DataSource.model_validate({"registered": "remote", "path": path}))
        profiles.append(registrar.profile)
    assert profiles == ["reader", "reader", None, None]


def test_images_are_registered_where_they_were_read(
    catalog: Catalog, settings: Settings, tmp_path: Path
) -> None:
    registrar = Registrar(catalog, settings, recipe_name="tiny", created_by=None)
    data = registrar.locate(source_of(Path("data")))
    read = data.model_copy(update={"path": write_images(tmp_path / "data")})
    registrar.admit(read, read_training_images(read))
    assert find_source(catalog, "made-up").location == str(tmp_path / "data")
