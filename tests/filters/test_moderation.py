from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from datagen.catalog.samples import iterate_samples
from datagen.embedded import run_recipe
from datagen.errors import JobError, ModelError, RecipeError
from datagen.filters.interface import Score, score_key
from datagen.filters.moderation import ModerationFilter, ModerationOptions
from datagen.resolve import resolve, resolve_stored
from datagen.settings import Settings, load_settings
from tests.pretrained.tiny_networks import (
    SIDE_PX,
    onnx_mean_of_channels,
    pictures,
    save_clip,
    save_safety_checker,
    save_vit,
)
from tests.published import open_home
from tests.recipes import noise_recipe
from tests.schema import lay_tables

RULE = ModerationFilter()
LABELS = ("normal", "porn", "gore")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classifiers")
    save_vit(root / "vit", LABELS)
    save_vit(root / "multi", LABELS, is_multi=True)
    save_safety_checker(root / "pipeline")
    save_clip(root / "clip")
    (root / "mean.onnx").write_bytes(onnx_mean_of_channels())
    (root / "labels.txt").write_text("red\ngreen\nblue\n")
    return root


def options(path: Path, **changes: Any) -> ModerationOptions:
    checked = ModerationOptions.model_validate({"classifier": str(path), **changes})
    RULE.check(checked)
    return checked


def told(given: ModerationOptions, images: NDArray[np.uint8]) -> list[dict[str, float]]:
    return [json.loads(str(score)) for score in RULE.score_by(given, images, ["cat"] * len(images))]


def pixels(image: NDArray[np.uint8]) -> torch.Tensor:
    """As ViT's processor makes them: bilinear, -1 to 1."""
    small = Image.fromarray(image).resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1


@pytest.mark.parametrize("name", ["vit", "multi"])
def test_scores_are_the_networks_own(folders: Path, name: str) -> None:
    from transformers import ViTForImageClassification

    network = ViTForImageClassification.from_pretrained(folders / name).eval()
    given = options(folders / name, refuse=["porn", "gore"])
    images = pictures(6)
    scores = told(given, images)
    with torch.no_grad():
        for image, score in zip(images, scores, strict=True):
            logits = network(pixels(image)).logits[0]
            shares = logits.sigmoid() if name == "multi" else logits.softmax(0)
            assert score == pytest.approx(
                {"gore": float(shares[2]), "porn": float(shares[1])}, abs=1e-4
            )
    assert len({str(score) for score in scores}) == 6


def test_the_safety_checker_decides_as_in_its_pipeline(folders: Path) -> None:
    """With one bit more: how far."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessorPil

    folder = folders / "pipeline"
    checker = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker").eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    images = pictures(40)
    images = np.concatenate([images, 255 - images, images // 2])
    flagged = []
    for image in images:
        inputs = processor(image, return_tensors="pt").pixel_values
        flagged += checker(clip_input=inputs, images=[image.astype(np.float32)])[1]
    given = options(folder)
    judge = RULE.judge(given, "cat", None)
    verdicts = [judge.reject(score) for score in RULE.score_by(given, images, ["cat"] * 120)]
    assert [verdict is not None for verdict in verdicts] == flagged
    assert 0 < sum(flagged) < len(flagged)


def test_the_checker_alone_is_the_same(folders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checker"
    shutil.copytree(folders / "pipeline" / "safety_checker", folder)
    shutil.copy(folders / "pipeline" / "feature_extractor" / "preprocessor_config.json", folder)
    assert told(options(folder), pictures(5)) == told(options(folders / "pipeline"), pictures(5))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_onnx_file_is_fed_as_its_options_say(folders: Path, channels: int) -> None:
    images = pictures(5, height=8, width=8, channels=channels)
    mean = {"refuse": ["red", "blue"], "mean": [0.1, 0.2, 0.3], "std": [2.0], "activation": "none"}
    brighter = images // 2 + 100
    for image, score in zip(
        brighter, told(options(folders / "mean.onnx", **mean), brighter), strict=True
    ):
        colour = np.repeat(image, 3, axis=2) if channels == 1 else image
        red, _, blue = colour.mean((0, 1)) / 255
        assert score == pytest.approx({"red": (red - 0.1) / 2, "blue": (blue - 0.3) / 2}, abs=1e-3)
    shares = told(options(folders / "mean.onnx", refuse=["red"], activation="softmax"), images)
    assert shares[1]["red"] == pytest.approx(1 / 3, abs=1e-4)


def test_what_is_no_probability_is_refused(folders: Path) -> None:
    given = options(folders / "mean.onnx", refuse=["red"], activation="none", mean=[0.5])
    with pytest.raises(ModelError, match="no probabilities; give activation"):
        told(given, pictures(3))


def test_thresholds_are_the_judges_alone(folders: Path) -> None:
    loose = options(folders / "vit", refuse=["porn", "gore"])
    strict = options(folders / "vit", refuse=["gore", "porn"], thresholds={"gore": 0.2})
    assert score_key(RULE, loose, None) == score_key(RULE, strict, None)
    score: Score = '{"gore":0.3,"porn":0.5}'
    assert RULE.judge(loose, "cat", None).reject(score) is None
    assert RULE.judge(strict, "cat", None).reject(score) == "moderation"
    assert RULE.judge(loose, "cat", None).reject('{"gore":0.1,"porn":0.5001}') == "moderation"


def test_another_question_has_another_key(folders: Path) -> None:
    asked = [
        options(folders / "vit", refuse=["porn"]),
        options(folders / "vit", refuse=["porn", "gore"]),
        options(folders / "multi", refuse=["porn"]),
        options(folders / "mean.onnx", refuse=["red"], activation="softmax"),
        options(folders / "mean.onnx", refuse=["red"], activation="sigmoid"),
        options(folders / "mean.onnx", refuse=["red"], activation="sigmoid", mean=[0.5]),
    ]
    keys = {score_key(RULE, each, None) for each in asked}
    assert len(keys) == len(asked)
    assert all(re.fullmatch(r"moderation@[0-9a-f]{12}", key) for key in keys)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("vit", {"refuse": ["nsfw"]}, "it has no label 'nsfw'; it has normal, porn, gore"),
        ("vit", {}, "refuse: name what is refused, of its labels normal, porn, gore"),
        ("vit", {"refuse": ["gore"], "thresholds": {"porn": 0.1}}, "'porn' is not in refuse"),
        ("vit", {"refuse": ["gore"], "thresholds": {"gore": -0.1}}, "expected a probability"),
        ("vit", {"refuse": ["gore"], "std": [0.5]}, "std: of ONNX files alone"),
        ("vit", {"refuse": ["gore"], "labels": ["a"]}, "labels are given for ONNX files alone"),
        ("mean.onnx", {"refuse": ["red"]}, "expected softmax, sigmoid, or none"),
        ("mean.onnx", {"refuse": ["r"], "labels": ["r", "r"]}, "expected each once"),
        ("mean.onnx", {"refuse": ["red"], "activation": "none", "std": [0]}, "numbers above 0"),
        ("mean.onnx", {"refuse": ["red"], "activation": "none", "std": [1, 1]}, "one number, or"),
        ("none.onnx", {"refuse": ["red"]}, "does not exist; expected an ONNX file"),
        ("nowhere", {"refuse": ["red"]}, "does not exist; expected the folder of an image"),
        ("clip", {"refuse": ["red"]}, "architecture 'CLIPModel'; expected an image classifier"),
        ("pipeline/feature_extractor", {}, "it has no config.json"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(
    folders: Path, name: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises((ModelError, ValidationError), match=re.escape(reason)):
        options(folders / name, **changes)


def test_labels_are_asked_for_where_there_are_none(folders: Path, tmp_path: Path) -> None:
    shutil.copy(folders / "mean.onnx", tmp_path)
    with pytest.raises(ModelError, match="what do its outputs mean"):
        options(tmp_path / "mean.onnx", refuse=["red"], activation="none")
    four = {"labels": ["a", "b", "c", "d"], "refuse": ["a"], "activation": "none"}
    with pytest.raises(ModelError, match="one number for each of 4 labels"):
        told(options(tmp_path / "mean.onnx", **four), pictures(1))
    (tmp_path / "mean.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        told(options(tmp_path / "mean.onnx", **four), pictures(1))


def test_weights_that_are_missing_are_not_made_up(folders: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folders / "vit", tmp_path / "vit")
    weights = load_file(tmp_path / "vit" / "model.safetensors")
    del weights["classifier.bias"]
    save_file(weights, tmp_path / "vit" / "model.safetensors")
    given = options(tmp_path / "vit", refuse=["porn"])
    with pytest.raises(ModelError, match=r"1 tensors are missing.*classifier\.bias"):
        told(given, pictures(1))


def test_what_is_no_number_is_not_let_through(folders: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(folders / "vit", tmp_path / "vit")
    weights = load_file(tmp_path / "vit" / "model.safetensors")
    weights["classifier.bias"][0] = np.nan
    save_file(weights, tmp_path / "vit" / "model.safetensors")
    with pytest.raises(ModelError, match="no number"):
        told(options(tmp_path / "vit", refuse=["porn"]), pictures(1))


# --- in a recipe ----------------------------------------------------------------------------------


def test_files_that_change_under_a_job_stop_it(folders: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders / "vit", tmp_path / "vit"))
    given = options(folder, refuse=["porn"])
    key = RULE.scorer_digest(given)
    told(given, pictures(1))
    with (folder / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ModelError, match="others than when they were pinned"):
        told(given, pictures(1))
    assert RULE.scorer_digest(given) == key != RULE.scorer_digest(options(folder, refuse=["porn"]))


def moderated(path: Path, threshold: float) -> dict[str, Any]:
    asked = {"classifier": str(path), "refuse": ["grey"], "labels": ["grey"], "activation": "none"}
    return {"filters": [{"filter": "moderation", **asked, "thresholds": {"grey": threshold}}]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load_settings({}, home=tmp_path / "home")
    settings.home.mkdir()
    lay_tables(settings.database_url)
    return settings


def test_a_job_refuses_what_the_classifier_finds(settings: Settings, tmp_path: Path) -> None:
    """Another threshold is judged on the scores that there are; another file is not the same."""
    path = tmp_path / "mean.onnx"
    path.write_bytes(onnx_mean_of_channels(channels=1))
    made = []
    for version, threshold in enumerate((0.5, 0.51), start=1):
        document = noise_recipe(moderated(path, threshold))
        resolved = resolve(document, [settings.models_dir])
        result = run_recipe(resolved, settings)
        made.append(result.images_generated)
        assert result.rejections["cat"].keys() == {"moderation"}
        with open_home(settings.home) as home:
            rows = list(iterate_samples(home.catalog, version, "cat"))
        told = [json.loads(json.loads(row.scores)["moderation"])["grey"] for row in rows]
        assert len(told) == 60
        assert threshold - 0.02 < max(told) <= threshold
    assert made[0] > 100
    assert made[1] == 0
    stored = resolved.body.decode()
    assert resolve_stored(stored, [settings.models_dir]).body == resolved.body
    path.write_bytes(onnx_mean_of_channels(batch="n", channels=1))
    with pytest.raises(JobError, match="filter moderation: the network that it asks has changed"):
        resolve_stored(stored, [settings.models_dir])


def test_a_recipe_with_a_classifier_that_is_gone_names_the_filter(
    settings: Settings, tmp_path: Path
) -> None:
    document = noise_recipe(moderated(tmp_path / "gone.onnx", 0.5))
    with pytest.raises(RecipeError, match=r"filters\[0\].*moderation.*gone\.onnx: does not exist"):
        resolve(document, [settings.models_dir])
