"""What a deployment lets recipes use, told before anything is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datagen.conditions import Prompt
from datagen.deployment_rules import DeploymentRules
from datagen.errors import RecipeError
from datagen.recipe import Recipe
from datagen.resolve import resolve_recipe
from datagen.settings import load_settings
from tests.recipes import noise_recipe

REVISION = "0" * 40


def recipe(**generator: Any) -> Recipe:
    return noise_recipe({"generator": {"model": "pipeline", **generator}}).recipe


def test_a_service_takes_no_folder_of_its_own_machine_unless_told(tmp_path: Path) -> None:
    """resolve refuses as well, and never looks whether the folder is there."""
    rules = DeploymentRules.of(load_settings({}, home=tmp_path), serves=True)
    with pytest.raises(RecipeError, match=r"generator\.source.*/etc.*not among those"):
        rules.check_recipe(recipe(source="/etc"))
    with pytest.raises(RecipeError, match="not among those"):
        resolve_recipe(recipe(source="/etc"), [], rules)
    DeploymentRules.of(load_settings({}, home=tmp_path)).check_recipe(recipe(source="/etc"))


def test_allowed_folders_hold_what_lies_below_them(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    (allowed / "sd").mkdir(parents=True)
    environment = {"DATAGEN_PIPELINE_SOURCES": f"{allowed}, runway/*"}
    rules = DeploymentRules.of(load_settings(environment, home=tmp_path), serves=True)
    rules.check_recipe(recipe(source=str(allowed / "sd")))
    rules.check_recipe(recipe(source="runway/sd", revision=REVISION))
    for source in (str(tmp_path / "other"), str(allowed / ".." / "other"), "runway/sd"):
        with pytest.raises(RecipeError, match="not among those"):
            rules.check_recipe(recipe(source=source))
    with pytest.raises(RecipeError, match="not among those"):
        rules.check_recipe(recipe(source="someone/sd", revision=REVISION))


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"controlnet": "/srv/control"}, "generator.controlnet"),
        ({"loras": [{"source": "/srv/lora.safetensors"}]}, r"generator.loras\[0\].source"),
        ({"textual_inversions": [{"source": "/srv/t", "token": "<t>"}]}, "textual_inversions"),
    ],
)
def test_every_part_of_a_pipeline_is_looked_at(options: dict[str, Any], field: str) -> None:
    with pytest.raises(RecipeError, match=field):
        DeploymentRules(sources=("/data",)).check_recipe(recipe(source="/data/sd", **options))


def test_filters_and_detectors_name_no_other_files_either() -> None:
    rules = DeploymentRules(sources=("/data",))
    filtered = {"filter": "moderation", "classifier": "/srv/safe", "refuse": ["unsafe"]}
    with pytest.raises(RecipeError, match=r"filters\[0\]\.classifier"):
        rules.check_recipe(noise_recipe({"filters": [filtered]}).recipe)
    labels = {"detector": {"directory": "/srv/owl", "classes": {"cat": "a cat"}}}
    with pytest.raises(RecipeError, match=r"labels\.detector\.directory"):
        rules.check_recipe(noise_recipe({"labels": labels}).recipe)


def test_licences_that_a_deployment_takes() -> None:
    DeploymentRules().check_licence("sd", "openrail")
    with pytest.raises(RecipeError, match=r"generator\.model.*sd.*none is stated"):
        DeploymentRules().check_licence("sd", None)
    DeploymentRules(allow_unlicensed=True).check_licence("sd", None)
    with pytest.raises(RecipeError, match="'openrail' is not allowed"):
        DeploymentRules(licences=("MIT",)).check_licence("sd", "openrail")
    DeploymentRules(licences=("MIT",)).check_licence("sd", "mit")


def test_prompts_are_held_to_the_rules_of_the_deployment(tmp_path: Path) -> None:
    """Without a file to the built-in ones."""
    with pytest.raises(RecipeError, match=r"conditioning\.prompt.*Angela Merkel"):
        DeploymentRules().check_prompts([Prompt("a nevus"), Prompt("a photo of Angela Merkel")])
    path = tmp_path / "rules.yaml"
    path.write_text("blocklist: [tattoo]\n")
    rules = DeploymentRules.of(load_settings({"DATAGEN_PROMPT_RULES": str(path)}, home=tmp_path))
    with pytest.raises(RecipeError, match="tattoo"):
        rules.check_prompts([Prompt("a nevus beside a tattoo")])
    rules.check_prompts([Prompt("a nevus")])
