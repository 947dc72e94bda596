"""`datagen models`: versions, export, import, deprecate, rm."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from datagen.cli import main
from datagen.conditions import ConditionConfig
from datagen.errors import InputError, ModelError
from datagen.generators.model_directory import Model, save_model
from datagen.half_precision import compare, write_half
from tests.api.test_conditioned import label_maps
from tests.generators.tiny_models import (
    FACTS,
    TINY,
    TINY_CONDITIONED,
    random_weights,
    save_random_model,
)

RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "shapes",
    "image_size": [8, 12],
    "classes": [{"name": "disc", "count": 3}],
}


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


def refused(*arguments: str | Path) -> str:
    result = datagen(*arguments)
    assert result.exit_code not in (0, 1), result.output
    return result.stderr


@pytest.fixture
def two(tmp_path: Path) -> list[Model]:
    """tiny and tiny@2 of the home."""
    made = [
        save_random_model(tmp_path / str(seed) / "tiny", TINY["cgan"], seed=seed) for seed in (1, 2)
    ]
    imported = [parsed("models", "import", model.path) for model in made]
    assert [each["name"] for each in imported] == ["tiny", "tiny@2"]
    assert [each["digest"] for each in imported] == [model.digest for model in made]
    return made


def run(name: str, model: str) -> dict[str, Any]:
    recipe = Path(f"{name}.json")
    recipe.write_text(json.dumps(RECIPE | {"name": name, "generator": {"model": model}}))
    parsed("run", recipe)
    pinned: dict[str, Any] = parsed("show", name)["recipe"]["generator"]
    return pinned


def test_a_name_is_the_newest_version_that_is_not_deprecated(two: list[Model]) -> None:
    assert parsed("models", "show", "tiny")["name"] == "tiny@2"
    assert parsed("models", "show", "tiny@1")["digest"] == two[0].digest
    assert parsed("models", "import", two[0].path)["is_new"] is False
    assert parsed("models", "deprecate", "tiny@2", "--reason", "blurred")["name"] == "tiny@2"
    assert parsed("models", "show", "tiny")["name"] == "tiny"
    assert parsed("models", "show", "tiny@2")["deprecated"] == "blurred"
    assert "tiny@2 (deprecated)" in datagen("models", "ls").output
    assert parsed("models", "show", "tiny@2")["digest"] == two[1].digest, "facts are no part of it"
    assert "tiny@3" in refused("models", "show", "tiny@3")


def test_a_data_set_keeps_the_version_that_made_it(two: list[Model]) -> None:
    newest = run("newest", "tiny")
    assert (newest["model"], newest["model_digest"]) == ("tiny@2", two[1].digest)
    first = run("first", "tiny@1")
    assert (first["model"], first["model_digest"]) == ("tiny", two[0].digest)
    # A job of the first version finds it, though its name stands for the second by now.
    assert "identical" in datagen("remake", "first", "disc-0").output
    assert "identical" in datagen("remake", "newest", "disc-0").output


def test_a_model_that_data_sets_depend_on_is_not_removed(two: list[Model]) -> None:
    run("first", "tiny@1")
    told = refused("models", "rm", "tiny@1")
    assert "first@1 depend on it; deprecate it" in told
    assert "name one: tiny@1, tiny@2" in refused("models", "rm", "tiny")
    assert parsed("models", "rm", "tiny@2")["digest"] == two[1].digest
    assert parsed("models", "deprecate", "tiny", "--reason", "old")["name"] == "tiny"
    assert parsed("models", "rm", "tiny")["removed"] is True
    assert "does not exist" in refused("models", "rm", "tiny")
    assert "came with datagen" in refused("models", "rm", "noise")


def test_a_version_is_revoked_alone_and_a_name_with_all_of_them(two: list[Model]) -> None:
    run("first", "tiny@1")
    run("newest", "tiny@2")
    planned = parsed("revoke", "tiny", "--dry-run")
    assert [m["name"] for m in planned["models"]] == ["tiny", "tiny@2"]
    assert [v["name"] for v in planned["versions"]] == ["first", "newest"]
    done = parsed("revoke", "tiny@2", "--reason", "blurred", "--yes")
    assert (done["kind"], [v["name"] for v in done["versions"]]) == ("model", ["newest"])
    assert "identical" in datagen("remake", "first", "disc-0").output
    assert "blurred" in refused("show", "newest")
    assert "blurred" in refused("models", "import", two[1].path)


@pytest.mark.parametrize("has_catalog", [False, True])
@pytest.mark.parametrize(
    "arguments", [("rm",), ("deprecate", "--reason", "old"), ("show",), ("export", "out")]
)
def test_a_model_that_does_not_exist_is_not_found(
    two: list[Model], arguments: tuple[str, ...], has_catalog: bool
) -> None:
    if has_catalog:
        run("newest", "tiny")
    for name in ("tinny", "tiny@3"):
        told = datagen("models", arguments[0], name, *arguments[1:])
        assert (told.exit_code, "`datagen models ls` lists them" in told.stderr) == (3, True)


def test_an_exported_model_can_be_imported(two: list[Model]) -> None:
    assert parsed("models", "export", "tiny@1", "out/other")["digest"] == two[0].digest
    assert "never changes" in refused("models", "export", "tiny@1", "out/other")
    assert parsed("models", "import", "out/other")["name"] == "other"


def test_half_precision_is_measured_and_written_down(two: list[Model]) -> None:
    half = parsed("models", "export", "tiny@1", "out/tiny", "--half")
    assert half["parent"] == two[0].digest != half["digest"]
    measured = half["half_precision"]
    assert measured["num_images"] == 100
    assert 0 < measured["share_of_pixels"] < 0.5
    assert 0 < measured["mean_difference"] < 1 <= measured["max_difference"] < 30
    assert half["size_bytes"] < parsed("models", "show", "tiny@1")["size_bytes"]
    card = Path("out/tiny/README.md").read_text()
    assert f"{measured['share_of_pixels']:.2%} of the pixels" in card
    assert two[0].digest in card
    assert parsed("models", "import", "out/tiny")["name"] == "tiny@3"
    assert "in half precision already" in refused("models", "export", "tiny", "again", "--half")
    run("first", "tiny@1")
    revoked = parsed("revoke", "tiny@1", "--reason", "no consent", "--yes")
    assert [m["name"] for m in revoked["models"]] == ["tiny", "tiny@3"]
    Path("out/tiny").rename("out/another")
    assert "no consent" in refused("models", "import", "out/another")


def test_equal_weights_draw_equal_images(two: list[Model]) -> None:
    model = two[0]
    spec = model.spec
    sampler = spec.load(model.config, model.weights, spec.options(), batch_size=7)
    measured = compare(sampler, sampler, model, num_images=10)
    assert (measured.mean_difference, measured.max_difference, measured.share_of_pixels) == (
        0,
        0,
        0,
    )


@pytest.mark.parametrize("kind", ["mask", "image", "inpaint", "layout"])
def test_models_that_take_conditions_are_measured_on_some(tmp_path: Path, kind: Any) -> None:
    names = () if kind == "image" else ("background", "bone")
    taken = ConditionConfig(kind, names, channels=3 if kind in ("image", "inpaint") else 0)
    config = replace(TINY_CONDITIONED["edm"], condition=taken)
    model = save_random_model(tmp_path / "painter", config)
    half = write_half(model, tmp_path / "half")
    measured = half.facts.half_precision
    assert measured is not None
    assert 0 < measured.share_of_pixels < 0.5


def test_a_model_that_draws_conditions_has_no_half(tmp_path: Path) -> None:
    model = label_maps(tmp_path / "maps")
    with pytest.raises(InputError, match="draws conditions"):
        write_half(model, tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_weights_beyond_half_precision_are_refused(tmp_path: Path) -> None:

    weights = random_weights(TINY["cgan"])
    assert weights is not None
    name = next(iter(weights))
    weights[name] = weights[name] * 0 + 1e6
    model = save_model(tmp_path / "large", TINY["cgan"], weights, FACTS, card="")
    with pytest.raises(ModelError, match=f"{name} has values beyond half precision"):
        write_half(model, tmp_path / "half")
    with pytest.raises(InputError, match="has no weights"):
        write_half(save_random_model(tmp_path / "noise", TINY["noise"]), tmp_path / "half")
    assert not (tmp_path / "half").exists()
