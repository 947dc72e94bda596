from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from datagen.cli import main
from tests.evaluation.picture_folders import write_folder


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), "references", *arguments])


def ran(home: Path, *arguments: str) -> str:
    result = run(home, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "pets" / "test", {"cat": 2, "dog": 2}, seed=1)
    return write_folder(tmp_path / "pets" / "train", {"cat": 3, "dog": 4}).parent


def test_added_data_are_listed_shown_and_removed(home: Path, folder: Path) -> None:
    said = ran(home, "add", "pets", str(folder), "--licence", "CC0")
    assert "7 images" in said
    assert "4 images" in said
    assert [line.split()[0] for line in ran(home, "list").splitlines()] == [
        "name",
        "fashion-mnist-sample",
        "pets",
    ]
    shown: dict[str, Any] = json.loads(ran(home, "show", "pets", "--json"))
    assert shown["path"] == str(folder)
    assert (shown["num_train"], shown["num_held_out"], shown["licence"]) == (7, 4, "CC0")
    assert json.loads(ran(home, "list", "--json"))["references"][1] == shown
    ran(home, "remove", "pets")
    assert run(home, "show", "pets").exit_code == 3


def test_changed_data_are_shown_to_be(home: Path, folder: Path) -> None:
    ran(home, "add", "pets", str(folder))
    (folder / "train" / "cat" / "000.png").unlink()
    result = run(home, "show", "pets")
    assert result.exit_code == 2
    assert "changed since they were added" in result.output


def test_listing_writes_nothing(home: Path) -> None:
    ran(home, "list")
    assert not home.exists()


def test_an_empty_path_is_not_the_folder_one_is_in(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for arguments, told in (
        (["add", "pets", ""], "DIR: empty; name a folder"),
        (["add", "pets", str(folder), "--held-out", ""], "--held-out: empty; name a folder"),
    ):
        result = run(home, *arguments)
        assert (result.exit_code, told in result.output) == (2, True)
