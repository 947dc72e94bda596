"""`datagen train`: what is refused before anything is read. Whole trainings: test_sources.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from datagen.cli import main
from tests.training.tiny_data import tiny_recipe_text


@pytest.mark.parametrize(
    ("out", "folder"), [("/proc/model", "/proc"), ("file/model", "file"), ("file/a/model", "file")]
)
def test_a_place_that_cannot_be_written_is_told_before_the_training(
    out: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("recipe.yaml").write_text(tiny_recipe_text("cgan", tmp_path / "absent"))
    done = CliRunner().invoke(main, ["--home", "home", "train", "recipe.yaml", "--out", out])
    assert done.exit_code == 2, done.output
    assert f"--out {out}: nothing can be written to {Path(folder).absolute()} (" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "recipe.yaml"]


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(tiny_recipe_text("cgan", tmp_path / "absent"))
    done = CliRunner().invoke(main, ["--home", f"{recipe}/home", "train", str(recipe)])
    assert done.exit_code == 6, done.output
    assert f"home {recipe}/home cannot be made: Not a directory; name another" in done.stderr
