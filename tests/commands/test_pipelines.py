"""`datagen models add-pipeline`: what it keeps, and what it refuses before anything is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from datagen.cli import main
from datagen.generators.pipeline.files import open_pipeline
from tests.generators.pipeline_folders import (
    CARD,
    edit_json,
    write_controlnet,
    write_inversion,
    write_json,
    write_lora,
    write_pipeline,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("DATAGEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "sd")


def datagen(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["--home", "home", *map(str, arguments)])


def parsed(*arguments: str | Path) -> dict[str, Any]:
    result = datagen(*arguments, "--json")
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def refused(*arguments: str | Path) -> str:
    """By bad input, and nothing was written."""
    result = datagen("models", "add-pipeline", *arguments)
    assert result.exit_code == 2, result.output
    assert not Path("home/models").exists() or not list(Path("home/models").iterdir())
    return result.stderr


def test_a_pipeline_becomes_a_model_that_pins_its_files(folder: Path) -> None:
    added = parsed("models", "add-pipeline", "disc", "sd", "--description", "Discs.")
    assert added["network"] == {
        "source": str(folder),
        "sha256": open_pipeline(str(folder)).sha256,
        "pipeline_class": "StableDiffusionPipeline",
        "task": "text-to-image",
        "licence": "apache-2.0",
    }
    assert (added["licence"], added["description"], added["is_new"]) == (
        "apache-2.0",
        "Discs.",
        True,
    )
    assert (added["class_names"], added["image_size"], added["channels"]) == ([], None, None)
    assert parsed("models", "add-pipeline", "disc", folder)["is_new"] is False
    again = parsed("models", "add-pipeline", "disc", folder, "--task", "inpainting")
    assert (again["name"], again["is_new"]) == ("disc@2", True)
    assert again["digest"] != added["digest"]


def test_parts_are_pinned_and_told_on_the_card(folder: Path, tmp_path: Path) -> None:
    write_controlnet(tmp_path / "canny")
    write_lora(tmp_path / "derm.safetensors")
    write_inversion(tmp_path / "disc.safetensors")
    write_inversion(tmp_path / "other.safetensors", name="emb_params")
    added = parsed(
        *("models", "add-pipeline", "edges", folder, "--controlnet", "canny"),
        *("--lora", "derm.safetensors:0.8", "--lora", "derm.safetensors"),
        *("--textual-inversion", "disc.safetensors"),
        *("--textual-inversion", "other.safetensors:<other>"),
        *("--image-size", "64", "96", "--batch-size", "2"),
    )
    network = added["network"]
    assert (network["task"], network["batch_size"]) == ("controlnet", 2)
    assert added["image_size"] == [64, 96]
    assert network["controlnet"] == str(tmp_path / "canny")
    assert [each.get("weight", 1) for each in network["loras"]] == [0.8, 1]
    assert [each["token"] for each in network["textual_inversions"]] == ["<disc>", "<other>"]
    card = Path("home/models/edges/README.md").read_text()
    for text in (
        *("controlnet", "96 x 64 pixels", "apache-2.0"),
        *("| unet | diffusers | `UNet2DConditionModel` |", "LoRA, weight 0.8", "embedding <disc>"),
        *(network["sha256"], network["controlnet_sha256"], network["loras"][0]["sha256"]),
    ):
        assert text in card


def test_the_other_commands_take_it_as_any_model(folder: Path) -> None:
    digest = parsed("models", "add-pipeline", "disc", folder)["digest"]
    rows = {each["name"]: each for each in parsed("models", "ls")["models"]}
    assert rows["disc"]["digest"] == digest
    assert "licence    apache-2.0" in datagen("models", "show", "disc").output
    assert parsed("models", "export", "disc", "out/copy")["digest"] == digest
    assert parsed("models", "rm", "disc")["removed"] is True
    imported = parsed("models", "import", "out/copy")
    assert (imported["name"], imported["digest"]) == ("copy", digest)


def test_a_licence_is_stated_once(folder: Path) -> None:
    assert "states 'apache-2.0'; leave" in refused("disc", folder, "--licence", "mit")
    (folder / "README.md").unlink()
    message = refused("disc", folder)
    assert "none is stated" in message
    assert "--licence" in message
    stated = parsed("models", "add-pipeline", "mine", folder, "--licence", "mit")
    assert stated["licence"] == stated["network"]["licence"] == "mit"
    allowed = parsed("models", "add-pipeline", "theirs", folder, "--allow-unlicensed")
    assert allowed["licence"] == "none stated"
    assert "licence" not in allowed["network"]


def test_a_deployment_may_take_what_has_no_licence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "README.md").unlink()
    monkeypatch.setenv("DATAGEN_ALLOW_UNLICENSED", "yes")
    assert parsed("models", "add-pipeline", "disc", folder)["licence"] == "none stated"


def test_a_deployment_lists_licences_and_sources(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATAGEN_PIPELINE_LICENCES", "mit,openrail++")
    assert "'apache-2.0' is not allowed" in refused("disc", folder)
    controlnet = write_controlnet(tmp_path / "canny")
    (folder / "README.md").write_text(CARD.replace("apache-2.0", "mit"))
    assert "'apache-2.0' is not allowed" in refused("disc", folder, "--controlnet", controlnet)
    monkeypatch.setenv("DATAGEN_PIPELINE_SOURCES", f"{folder},owner/*")
    assert parsed("models", "add-pipeline", "disc", folder)["is_new"]
    parsed("models", "rm", "disc")
    assert f"'{controlnet}' is not among" in refused("disc", folder, "--controlnet", controlnet)
    lora = write_lora(tmp_path / "a.safetensors")
    assert f"'{lora}' is not among" in refused("disc", folder, "--lora", lora)
    assert "'other/name' is not among" in refused("disc", "other/name", "--revision", "0" * 40)
    assert "hf download owner/name" in refused("disc", "owner/name", "--revision", "0" * 40)


def test_what_is_unsafe_or_of_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    wide = write_lora(tmp_path / "xl.safetensors", width=2048)
    message = refused("disc", folder, "--lora", f"{wide}:0.5")
    assert "attn2.to_k.lora_A.weight of shape [2, 2048]" in message
    assert "shape [16, 12]" in message
    other = write_inversion(tmp_path / "wide.safetensors", width=768)
    message = refused("disc", folder, "--textual-inversion", other)
    assert "shape [2, 768]; expected [vectors, 12]" in message
    assert "is missing" in refused("disc", folder, "--lora", "missing.safetensors")
    flux = write_controlnet(tmp_path / "flux", _class_name="FluxControlNetModel")
    assert "expected ControlNetModel" in refused("disc", folder, "--controlnet", flux)
    write_json(folder / "unet/diffusion_pytorch_model.bin", {})
    assert "is a pickle" in refused("disc", folder)
    (folder / "unet/diffusion_pytorch_model.bin").unlink()
    edit_json(folder / "model_index.json", _class_name="MyPipeline")
    assert "'MyPipeline' is none of the pipelines" in refused("disc", folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Disc!", "sd"), "model name 'Disc!'"),
        (("disc@2", "sd"), "leave the version out"),
        (("disc", "missing"), "is not a folder"),
        (("disc", "owner/name"), "is a branch or tag, which the hub alone can tell"),
        (("disc", "owner/name", "--revision", "v1"), "'v1' is a branch or tag"),
        (("disc", "sd", "--revision", "main"), "expected a hub id"),
        (("disc", "sd", "--task", "upscaling"), "does no upscaling; it does text-to-image"),
        (("disc", "sd", "--task", "controlnet"), "needs a folder with a ControlNetModel"),
        (("disc", "sd", "--lora", "a.safetensors:much"), "weight 'much' is no number"),
        (("disc", "sd", "--lora", "a.safetensors:11"), "weight 11.0; expected"),
        (("disc", "sd", "--lora", "a.safetensors:nan"), "weight nan; expected"),
        (("disc", "sd", "--textual-inversion", "b.safetensors"), "expected a token"),
        (("disc", "sd", "--textual-inversion", "b.safetensors:a b"), "expected a token"),
        (("disc", "sd", "--description", "x" * 1001), "1001 characters; expected at most 1000"),
    ],
)
def test_bad_input_names_the_field_and_what_to_do(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    write_lora(tmp_path / "a.safetensors")
    write_inversion(tmp_path / "b.safetensors", name="emb_params")
    assert message in refused(*arguments)
