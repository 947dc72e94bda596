"""`datagen sources`, and a training that uses one: from the images to the data set's card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from datagen.cli import main
from datagen.generators.model_directory import load_model
from tests.training.tiny_data import tiny_recipe_text, write_tiny_data

REGISTER = (
    *("--name", "wards", "--licence", "CC-BY-4.0", "--permitted-use", "research on wards"),
    *("--use", "research", "--consent", "broad consent", "--contact", "data@example.org"),
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DATAGEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def datagen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["--home", "home", *map(str, arguments)])


def parsed(*arguments: str | Path) -> dict[str, Any]:
    result = datagen(*arguments, "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert isinstance(content, dict)
    return content


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Of a model trained on wards."""
    content = yaml.safe_load(tiny_recipe_text("cgan", tmp_path / "data", num_images=16))
    for name in ("path", "licence", "source"):
        del content["data"][name]
    content["data"]["registered"] = "wards"
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_from_registered_images_to_a_withdrawn_data_set(recipe: Path) -> None:
    write_tiny_data(Path("data"))
    expires = ("--expires", "2100-01-31")
    source = parsed("sources", "register", "data", *REGISTER, *expires)
    assert (source["name"], source["version"], source["is_new"]) == ("wards", 1, True)
    assert (
        "was registered already"
        in datagen("sources", "register", "data", *REGISTER, *expires).output
    )

    model = parsed("train", recipe)
    [fact] = model["training"]["sources"]
    assert (fact["name"], fact["sha256"]) == ("wards", source["digest"])
    assert (model["licence"], model["source"]) == ("CC-BY-4.0", "wards")
    assert model["code_version"]
    card = Path(model["path"], "README.md").read_text()
    assert "permitted use of source `wards@1` | research: research on wards" in card

    wanted = {
        "version": 1,
        "name": "toys",
        "image_size": [8, 8],
        "classes": [{"name": "left", "count": 4}],
        "generator": {"model": "tiny-cgan"},
    }
    Path("toys.json").write_text(json.dumps(wanted))
    parsed("run", "toys.json")
    folder = Path("home/objects/local/datasets/toys/1")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    use = "research: research on wards"
    assert manifest["sources"] == [
        {"name": "wards", "version": 1, "licence": "CC-BY-4.0", "permitted_use": use, "depth": 0}
    ]
    assert f"| permitted use of wards@1 | {use} |" in (folder / "README.md").read_text()
    assert datagen("verify", "toys").exit_code == 0

    shown = parsed("sources", "show", "wards")
    assert [m["name"] for m in shown["models"]] == ["tiny-cgan"]
    assert [v["name"] for v in shown["versions"]] == ["toys"]
    assert shown["trainings"][0]["model_digest"] == model["digest"]
    planned = parsed("sources", "withdraw", "wards", "--dry-run")
    assert (planned["versions"], folder.joinpath("manifest.json").exists()) == (
        shown["versions"],
        True,
    )
    assert "--reason is missing" in datagen("sources", "withdraw", "wards", "--yes").stderr
    done = parsed("sources", "withdraw", "wards", "--reason", "no consent", "--yes")
    assert (done["models"], done["objects_deleted"] > 0) == (shown["models"], True)
    assert not folder.joinpath("manifest.json").exists()
    assert "no consent" in datagen("run", "toys.json").stderr
    assert "no consent" in datagen("train", recipe).stderr
    assert "withdrawn" in datagen("sources", "ls").output

    validated = datagen("validate", "toys.json")
    assert (validated.exit_code, "no consent" in validated.stderr) == (3, True)
    shown = parsed("models", "show", "tiny-cgan")
    assert "no consent" in shown["revoked"]
    assert "no consent" in datagen("models", "show", "tiny-cgan").output
    states = {row["name"]: row["revoked"] for row in parsed("models", "ls")["models"]}
    assert (states["tiny-cgan"], states["noise"]) == (shown["revoked"], None)
    assert "tiny-cgan (revoked)" in datagen("models", "ls").output
    exported = datagen("models", "export", "tiny-cgan", "copy")
    assert (exported.exit_code, "no consent" in exported.stderr) == (3, True)
    assert not Path("copy").exists()


def test_without_a_terminal_withdrawing_needs_yes() -> None:
    write_tiny_data(Path("data"))
    parsed("sources", "register", "data", *REGISTER)
    withdraw = ("--home", "home", "sources", "withdraw", "wards", "--reason", "no consent")
    for answer in ("", "n\n"):
        asked = CliRunner().invoke(main, withdraw, input=answer)
        assert (asked.exit_code, "--yes" in asked.stderr) == (2, True), asked.output
    assert parsed("sources", "show", "wards")["withdrawn_at"] is None
    assert CliRunner().invoke(main, withdraw, input="y\n").exit_code == 0
    assert parsed("sources", "show", "wards")["withdrawn_reason"] == "no consent"


def test_training_on_what_a_model_made_must_be_asked_for(tmp_path: Path) -> None:
    """And its depth is written down."""
    wanted = {
        "version": 1,
        "name": "toys",
        "image_size": [8, 8],
        "classes": [{"name": "left", "count": 30}, {"name": "right", "count": 30}],
        "generator": {"model": "noise", "channels": 1},
    }
    Path("toys.json").write_text(json.dumps(wanted))
    parsed("run", "toys.json")
    assert datagen("pull", "toys", "pulled", "--format", "imagefolder").exit_code == 0
    content = yaml.safe_load(tiny_recipe_text("cgan", tmp_path / "pulled", num_images=16))
    content["data"] |= {"format": "auto", "held_out": 10}
    del content["data"]["class_names"]
    Path("recipe.yaml").write_text(yaml.safe_dump(content))
    refused = datagen("train", "recipe.yaml")
    assert (refused.exit_code, "are synthetic, the first of them" in refused.stderr) == (2, True)
    content["data"]["allow_synthetic"] = True
    Path("recipe.yaml").write_text(yaml.safe_dump(content))
    model = parsed("train", "recipe.yaml")
    assert model["training"]["generation_depth"] == 1
    assert model["training"]["sources"][0]["depth"] == 1
    card = (load_model(Path(model["path"])).path / "README.md").read_text()
    assert "1 generation from real ones" in card
    assert "Shumailov et al. 2024" in card
    assert "generation 1" in datagen("models", "show", "tiny-cgan").output


def test_what_is_wrong_is_told_by_name(recipe: Path) -> None:
    told = datagen("train", recipe)
    assert (told.exit_code, "source 'wards' is not registered" in told.stderr) == (3, True)
    Path("empty").mkdir()
    told = datagen("sources", "register", "empty", *REGISTER)
    assert (told.exit_code, "no folder with images" in told.stderr) == (2, True)
    told = datagen("sources", "register", "empty", *REGISTER, "--expires", "tomorrow")
    assert (told.exit_code, "expected a date, as 2027-01-31" in told.stderr) == (2, True)
    told = datagen("sources", "register", "a\nb", *REGISTER)
    assert (told.exit_code, "expected one line of" in told.stderr) == (2, True)
    told = datagen("sources", "register", "x" * 300, *REGISTER)
    assert (told.exit_code, "does not exist" in told.stderr) == (2, True)
    told = datagen("sources", "show", "Wards!")
    assert told.exit_code == 2
    assert "expected NAME or NAME@VERSION" in told.stderr


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"path": None}, "data.path"),
        ({"licence": None}, "data.licence"),
        ({"registered": "wards"}, "data.licence"),
        ({"registered": "Wards"}, "data.registered"),
        ({"allow_synthetic": "yes"}, "data.allow_synthetic"),
    ],
)
def test_a_recipe_names_its_images_and_terms_once(changes: dict[str, Any], told: str) -> None:
    content = yaml.safe_load(tiny_recipe_text("cgan", Path("data")))
    content["data"] = {k: v for k, v in (content["data"] | changes).items() if v is not None}
    Path("recipe.yaml").write_text(yaml.safe_dump(content))
    result = datagen("train", "recipe.yaml")
    assert result.exit_code == 2
    assert told in result.stderr
