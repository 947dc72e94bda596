"""What ships in recipes/ is valid, and what docs/recipe.md shows is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from datagen.commands.edge import error_text
from datagen.recipe import InvalidRecipe, json_schema, load_recipe, parse_recipe
from datagen.resolve import resolve

ROOT = Path(__file__).resolve().parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "recipe.md").read_text(), re.DOTALL)


def test_the_schema_file_is_the_schema() -> None:
    """To write it anew: python -m datagen.recipe > recipes/recipe.schema.json"""
    stored = (ROOT / "recipes" / "recipe.schema.json").read_text()
    assert stored == json.dumps(json_schema(), indent=2) + "\n"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_standard_recipe_is_valid_and_named_as_its_file(path: Path) -> None:
    assert load_recipe(path).recipe.name == path.stem


def test_the_standard_recipes_ask_for_what_they_say() -> None:
    by_name = {path.stem: load_recipe(path).recipe for path in RECIPES}
    assert by_name["fashion-quickstart"].num_images == 200
    for name in ("fashion-1000", "noise-32"):
        assert [c.count for c in by_name[name].classes] == [100] * 10
    assert by_name["noise-32"].image_size == (32, 32)
    assert by_name["noise-32"].filters == ()


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("fashion-quickstart", "f329dc8d478b15b1dc18edb3eb3711e285d33192b0c84a184825ddad70d15e0c"),
        ("noise-32", "d14dd100a996df4c840ac21af5ea57d29505693738e8b7ffd9401f1ed9f854be"),
    ],
)
def test_a_recipe_keeps_its_digest_when_the_schema_grows(name: str, digest: str) -> None:
    """Else the same recipe again would make another version. A new field needs a default that is
    left out; only another model, or another recipe, may change these."""
    assert resolve(load_recipe(ROOT / "recipes" / f"{name}.yaml"), []).digest == digest


def test_the_recipe_in_the_documentation_is_the_quickstart() -> None:
    shown = next(text for kind, text in BLOCKS if kind == "yaml")
    quickstart = load_recipe(ROOT / "recipes" / "fashion-quickstart.yaml").recipe
    assert parse_recipe(shown.encode(), source="docs").recipe == quickstart


def test_the_errors_in_the_documentation_are_what_is_printed() -> None:
    texts = [text for kind, text in BLOCKS if kind == "yaml"]
    outputs = [text for kind, text in BLOCKS if kind == "text"]
    assert len(texts) == 2
    with pytest.raises(InvalidRecipe) as caught:
        parse_recipe(texts[1].encode(), source="mistakes.yaml")
    assert outputs[0] == f"{error_text(caught.value)}\n"
