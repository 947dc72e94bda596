from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from datagen.cli import main
from datagen.errors import InputError, MachineError, ObjectMissingError
from datagen.store import DirectoryStore, open_store
from datagen.training.remote_images import fetch_images, local_images, s3_address
from tests.commands.test_out_folder import files_of_at_most
from tests.training.tiny_data import tiny_recipe_text, write_tiny_data

ADDRESS = "s3://bucket/images"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    store = DirectoryStore(tmp_path / "store")
    for key in ("cat/0.png", "dog/1 a.png", "labels.csv"):
        store.put_new(key, key.encode())
    return store


def test_objects_lie_at_their_keys(store: DirectoryStore, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    fetch_images(store, copy, address=ADDRESS)
    files = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()}
    assert files == {"cat/0.png", "dog/1 a.png", "labels.csv"}
    assert (copy / "cat" / "0.png").read_text() == "cat/0.png"


def test_nothing_and_too_much_are_refused(store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no object there"):
        fetch_images(DirectoryStore(tmp_path / "none"), tmp_path / "a", address=ADDRESS)
    with pytest.raises(InputError, match="name a narrower prefix"):
        fetch_images(store, tmp_path / "b", address=ADDRESS, max_bytes=10)


def test_an_object_that_goes_away_is_told(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = list(store.list(""))
    monkeypatch.setattr(store, "list", lambda prefix: iter(objects))
    store.delete("cat/0.png")
    with pytest.raises(ObjectMissingError, match=r"cat/0\.png"):
        fetch_images(store, tmp_path / "copy", address=ADDRESS)


def test_a_full_disk_is_a_fault_of_this_machine(store: DirectoryStore, tmp_path: Path) -> None:
    """Another worker's may have room: its training is not lost."""
    store.put_new("dog/2.png", b"x" * 2000)
    with (
        files_of_at_most(1000),
        pytest.raises(MachineError, match=r"dog/2\.png cannot be written .*free space"),
    ):
        fetch_images(store, tmp_path / "copy", address=ADDRESS)


def test_an_address_survives_being_a_path() -> None:
    assert s3_address(Path("s3://bucket/a/b")) == "s3://bucket/a/b"
    assert s3_address(Path("/data/s3:/x")) is None


def test_a_folder_is_read_where_it_lies(tmp_path: Path) -> None:
    with local_images(tmp_path / "data", folder=tmp_path / "work", endpoint_url=None) as place:
        assert place == tmp_path / "data"
    assert not (tmp_path / "work").exists()


def test_images_in_s3_are_checked_and_leave_no_copy(
    s3_url: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAGEN_S3_ENDPOINT_URL", s3_endpoint)
    store = open_store(s3_url, endpoint_url=s3_endpoint)
    for path in write_tiny_data(tmp_path / "data", 90).iterdir():
        store.put_new(path.name, path.read_bytes())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_recipe_text("cgan", tmp_path).replace(str(tmp_path), s3_url))
    home = tmp_path / "home"
    done = CliRunner().invoke(main, ["--home", str(home), "train", str(recipe), "--check"])
    assert done.exit_code == 0, done.output
    assert "left 30, right 30, dark 30" in done.stdout
    assert list((home / "training").iterdir()) == []
