from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from datagen.errors import InputError, NotFoundError
from datagen.evaluation.named_data import (
    add_named,
    check_unchanged,
    find_named,
    list_named,
    remove_named,
    resolve_data,
)
from datagen.real_images import load_reference
from datagen.resources import sample_data_dir
from datagen.settings import Settings
from tests.evaluation.picture_folders import write_folder

SAMPLE = "fashion-mnist-sample"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pets", {"cat": 3, "dog": 4})


def test_the_shipped_sample_is_what_its_file_says(settings: Settings) -> None:
    data = find_named(SAMPLE, settings)
    check_unchanged(data)
    train, held_out = load_reference(data.train_path, data.held_out_path)
    assert held_out is not None
    assert (len(train), len(held_out)) == (data.num_train, data.num_held_out) == (5000, 2000)
    assert train.class_names == data.class_names
    assert (data.licence, data.is_shipped) == ("MIT", True)
    assert {p.name for p in data.train_path.iterdir()} >= {"LICENSE", "classes.txt"}


def test_the_shipped_sample_holds_no_image_twice() -> None:
    train, held_out = load_reference(sample_data_dir() / SAMPLE)
    assert held_out is not None
    digests = train.pixel_digests() + held_out.pixel_digests()
    assert len(set(digests)) == 7000


def test_added_data_are_found_by_name(folder: Path, settings: Settings) -> None:
    held_out = write_folder(folder.parent / "more", {"cat": 2, "dog": 2}, seed=1)
    added = add_named("pets", folder, settings, held_out=held_out, licence="CC0")
    assert find_named("pets", settings) == added
    assert resolve_data("pets", settings) == added
    assert (added.num_train, added.num_held_out, added.licence) == (7, 4, "CC0")
    assert added.class_names == ("cat", "dog")
    assert [data.name for data in list_named(settings)] == [SAMPLE, "pets"]
    check_unchanged(added)


def test_a_path_needs_no_name(folder: Path, settings: Settings) -> None:
    data = resolve_data(str(folder), settings)
    assert (data.train_path, data.digest) == (folder, "")
    check_unchanged(data)


def test_unknown_data_are_not_found(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="did you mean 'fashion-mnist-sample'"):
        find_named("fashion-mnist-sampel", settings)
    with pytest.raises(NotFoundError, match="no such folder, and no real data of that name"):
        resolve_data("./nowhere", settings)


def test_changed_data_are_noticed(folder: Path, settings: Settings) -> None:
    data = add_named("pets", folder, settings)
    picture = folder / "cat" / "001.png"
    whole = picture.read_bytes()
    Image.new("L", (8, 8)).save(picture)
    with pytest.raises(InputError, match="changed since they were added"):
        check_unchanged(data)
    picture.write_bytes(whole)
    check_unchanged(data)
    picture.rename(folder / "dog" / "001b.png")
    with pytest.raises(InputError, match="changed since they were added"):
        check_unchanged(data)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(InputError, match="is gone"):
        check_unchanged(data)


@pytest.mark.parametrize("name", ["Pets", "../pets", "", "a" * 64, SAMPLE])
def test_names_are_plain_and_new(name: str, folder: Path, settings: Settings) -> None:
    with pytest.raises(InputError):
        add_named(name, folder, settings)
    assert not settings.references_dir.exists()


def test_data_that_cannot_be_used_get_no_name(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InputError):
        add_named("empty", tmp_path, settings)
    folder = write_folder(tmp_path / "pets", {"cat": 3})
    with pytest.raises(InputError, match="every one of the 3 images is in the reference"):
        add_named("pets", folder, settings, held_out=folder)
    assert not settings.references_dir.exists()


def test_a_removed_name_is_forgotten_and_its_images_stay(folder: Path, settings: Settings) -> None:
    add_named("pets", folder, settings)
    remove_named("pets", settings)
    with pytest.raises(NotFoundError):
        find_named("pets", settings)
    assert (folder / "cat" / "000.png").exists()
    with pytest.raises(InputError, match="ship with datagen"):
        remove_named(SAMPLE, settings)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"format": 2})])
def test_a_damaged_file_is_named(text: str, settings: Settings) -> None:
    settings.references_dir.mkdir(parents=True)
    (settings.references_dir / "pets.json").write_text(text)
    with pytest.raises(InputError, match=r"pets\.json is damaged"):
        find_named("pets", settings)
