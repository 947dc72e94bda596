"""datagen evaluate on folders and versions, and gates: through the command line, as a user does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from datagen.cli import main
from datagen.recipe import canonical_json
from tests.recipes import noise_recipe
from tests.striped import CLASS_NAMES, write_stripes


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training and held-out images of two classes."""
    folder = tmp_path_factory.mktemp("real")
    write_stripes(folder / "train", 150, seed=1)
    write_stripes(folder / "test", 100, seed=2)
    return folder


def datagen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def evaluated(*arguments: str | Path) -> dict[str, Any]:
    done = datagen("evaluate", *arguments, "--quick", "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_measures(found: dict[str, Any]) -> None:
    names = ("fid", "kid", "precision", "recall", "density", "coverage", "label_agreement")
    utility = found["utility"]
    measures = {name: found[name] for name in (*names, "near_copies")}
    measures |= {name: utility[name] for name in ("gap", "worth_real_labels")}
    for name, measure in measures.items():
        assert measure["value"] is not None or measure["withheld"], name
        assert "n" in measure, name
    assert utility["verdict"] is not None or utility["withheld"]


@pytest.mark.soak  # one more whole evaluation: a minute of one core
@pytest.mark.slow
def test_a_folder_is_measured_and_its_report_written(real: Path, tmp_path: Path) -> None:
    images = write_stripes(tmp_path / "mine", 60, seed=3)
    found = evaluated(images, "--reference", real, "--out", tmp_path / "out")
    check_measures(found)
    assert found["label_agreement"]["value"] > 0.9
    assert found["near_copies"]["items"] == [] or found["near_copies"]["value"] < 0.1
    assert found["utility"]["verdict"] != "harms"
    assert found["subject"]["num_train"] == 300
    report = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert found["report"] == str(tmp_path / "out" / "report.html")
    assert all(name in report for name in CLASS_NAMES)
    stored = json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert stored["headline"] == found["headline"]
    assert not (tmp_path / "datagen-home").exists()


@pytest.mark.soak  # one more whole evaluation: half a minute of two cores
@pytest.mark.slow
def test_shuffled_labels_are_no_help_and_copies_are_found(real: Path, tmp_path: Path) -> None:
    images = write_stripes(tmp_path / "shuffled", 60, seed=4, shuffled=True)
    for path in sorted((real / "train" / "across").iterdir())[:20]:
        (images / "across" / f"copy-{path.name}").write_bytes(path.read_bytes())
    found = evaluated(images, "--reference", real, "--out", tmp_path / "out")
    assert found["label_agreement"]["value"] < 0.75
    assert found["utility"]["verdict"] in ("harms", "inconclusive")
    named = {item["name"] for item in found["near_copies"]["items"]}
    copies = {name for name in named if "copy-" in name}
    assert len(copies) >= 19
    assert found["privacy"]["excess"]["value"] > 0.05


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere", "--reference", "REAL"], "neither a data set"),
        (["REAL", "--reference", "nowhere"], "no such folder"),
        (["REAL", "--reference", "REAL", "--trainer", '"'], "close its quotes"),
        (["REAL", "--reference", "REAL", "--trainer", "/nope/x --fast"], "'/nope/x' is no program"),
        (["REAL", "--reference", "REAL", "--features", "nonsense"], "expected efficientnet-lite0"),
        (["REAL", "--reference", "REAL", "--features", "onnx:./no.onnx"], "no.onnx does not exist"),
        (["REAL", "--reference", "REAL", "--features", "inception:empty"], "empty is not a file"),
        (["", "--reference", "REAL"], "NAME[@VERSION]|DIR: empty"),
        (["REAL", "--reference", ""], "--reference: empty"),
        (["REAL", "--reference", "REAL", "--held-out", ""], "--held-out: empty"),
        (["REAL", "--reference", "REAL", "--baseline", ""], "--baseline: empty"),
        (["REAL", "--reference", "REAL", "--margin", "2"], "--margin"),
        (["EMPTY", "--reference", "REAL"], "image"),
        (["OTHER", "--reference", "REAL"], "no class"),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    real: Path, tmp_path: Path, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    other = write_stripes(tmp_path / "other", 20, seed=5)
    (other / "down").rename(other / "up")
    places = {"REAL": str(real / "train"), "EMPTY": "./empty", "OTHER": "./other"}
    done = datagen("evaluate", *(places.get(a, a) for a in arguments))
    assert done.exit_code in (2, 3)
    assert told in done.output
    assert "Traceback" not in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "other"}


def gated_recipe(path: Path, require: dict[str, str]) -> Path:
    changes = {
        "name": "gated",
        "image_size": [12, 12],
        "classes": [{"name": name, "count": 30} for name in CLASS_NAMES],
        "splits": {"ratios": {"train": 1.0}},
        "evaluation": {"reference": "stripes", "require": require},
    }
    path.write_bytes(canonical_json(noise_recipe(changes).recipe.to_json()))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Knows few stripes: of fewer held out, the search for copies would be withheld."""
    real = tmp_path / "real"
    write_stripes(real / "train", 50, seed=1)
    write_stripes(real / "test", 100, seed=2)
    added = datagen("references", "add", "stripes", real, "--home", tmp_path / "home")
    assert added.exit_code == 0, added.output
    return tmp_path / "home"


@pytest.mark.slow
def test_a_gate_keeps_a_version_from_being_published(home: Path, tmp_path: Path) -> None:
    """The noise model knows no stripes: its labels are worth nothing, and the gate says so."""
    recipe = gated_recipe(tmp_path / "gated.json", {"label_agreement": ">= 0.9"})
    shut = datagen("run", recipe, "--home", home)
    assert shut.exit_code == 4, shut.output
    assert "label_agreement is" in shut.output
    assert not list(home.rglob("manifest.json"))
    (found,) = (json.loads(path.read_text("utf-8")) for path in home.rglob("evaluation.json"))
    check_measures(found)
    (kept,) = home.rglob("report.html")
    assert all(name in kept.read_text("utf-8") for name in CLASS_NAMES)
    job = re.search("`datagen report ([0-9a-f]{32})` shows", shut.output)
    assert job is not None
    for name in (job[1], "gated"):
        shown = json.loads(datagen("report", name, "--home", home, "--json").stdout)
        assert (shown["path"], shown["job_state"]) == (str(kept), "FAILED")
    assert datagen("report", "gated@1", "--home", home).exit_code == 3


@pytest.mark.soak  # one more whole evaluation
@pytest.mark.slow
def test_what_passes_its_gates_is_published_with_its_figures(home: Path, tmp_path: Path) -> None:
    recipe = gated_recipe(tmp_path / "gated.json", {"label_agreement": ">= 0.0"})
    opened = datagen("run", recipe, "--home", home)
    assert opened.exit_code == 0, opened.output
    (manifest,) = home.rglob("manifest.json")
    assert "label agreement" not in (manifest.parent / "README.md").read_text()
    (card,) = (manifest.parent / "attachments").rglob("README.md")
    assert "label agreement" in card.read_text()
    shown = datagen("report", "gated", "--home", home, "--json")
    assert Path(json.loads(shown.stdout)["path"]).read_text("utf-8").startswith("<!DOCTYPE html>")
