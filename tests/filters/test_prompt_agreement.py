from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datagen.errors import ModelError, RecipeError
from datagen.filters.interface import check_options, score_key
from datagen.filters.prompt_agreement import PromptAgreementFilter, PromptAgreementOptions
from datagen.resolve import recipe_of_stored, resolve, resolve_recipe
from datagen.settings import load_settings
from tests.pretrained.tiny_networks import SIDE_PX, pictures, save_clip, save_siglip, save_vit
from tests.recipes import noise_recipe

RULE = PromptAgreementFilter()
CLASSES = ("dog", "T_shirt")
IMAGES = pictures(8)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("networks")
    save_clip(root / "clip")
    save_siglip(root / "siglip")
    save_vit(root / "vit", ["hound", "T_shirt", "cat"])
    return root


def options(path: Path, *, classes: tuple[str, ...] = CLASSES, **changes: Any) -> Any:
    given = PromptAgreementOptions.model_validate({"directory": str(path), **changes})
    return check_options(RULE, given, classes)  # type: ignore[arg-type]


def scores(given: Any, class_name: str) -> list[dict[str, Any]]:
    rows = RULE.score_by(given, IMAGES, [class_name] * len(IMAGES))
    return [json.loads(str(score)) for score in rows]


def expected(folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """(images, texts), by the network's own forward pass over all of them at once."""
    from transformers import CLIPModel, CLIPTokenizer

    network = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    sides = (SIDE_PX, SIDE_PX)
    small = [Image.fromarray(each).resize(sides, Image.Resampling.BICUBIC) for each in IMAGES]
    pixels = torch.from_numpy(np.stack([np.array(each, np.float32) for each in small]) / 255)
    pixels = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.no_grad():
        found = network(**tokens, pixel_values=pixels.permute(0, 3, 1, 2))
    return np.asarray(found.logits_per_image.softmax(-1).numpy())


def test_the_probability_is_clips_over_all_classes(folders: Path) -> None:
    given = options(folders / "clip", texts={"dog": "a dog"}, others=["a plain wall"])
    assert given.texts == {"T_shirt": "a photo of a T shirt", "dog": "a dog"}
    shares = expected(folders / "clip", [*given.texts.values(), "a plain wall"])
    names = [*given.texts, "a plain wall"]
    for column, name in enumerate(names[:2]):
        told = scores(given, name)
        assert [each["p"] for each in told] == pytest.approx(list(shares[:, column]), abs=1e-3)
        assert [each["won"] for each in told] == [names[i] for i in shares.argmax(1)]
    assert len({each["won"] for each in scores(given, "dog")}) > 1


def test_siglip_reads_the_padding_that_it_was_trained_with(folders: Path) -> None:
    from transformers import AutoTokenizer, SiglipImageProcessorPil, SiglipModel

    given = options(folders / "siglip")
    network = SiglipModel.from_pretrained(folders / "siglip").eval()
    tokenizer = AutoTokenizer.from_pretrained(folders / "siglip")
    ids = tokenizer(list(given.texts.values()), padding="max_length", max_length=24)["input_ids"]
    processor = SiglipImageProcessorPil.from_pretrained(folders / "siglip")
    pixels = processor(list(IMAGES), return_tensors="pt").pixel_values
    with torch.no_grad():
        found = network(input_ids=torch.tensor(ids), pixel_values=pixels).logits_per_image
    column = list(given.texts).index("dog")
    shares = found.softmax(-1)[:, column].tolist()
    assert [each["p"] for each in scores(given, "dog")] == pytest.approx(shares, abs=1e-3)
    assert max(shares) - min(shares) > 0.01


def test_a_classifier_is_asked_for_its_labels(folders: Path) -> None:
    given = options(folders / "vit", texts={"dog": "hound"})
    columns = [scores(given, name) for name in CLASSES]
    won = [each["won"] for each in columns[0]]
    assert won == [each["won"] for each in columns[1]]
    assert set(won) <= {"dog", "T_shirt", "label cat"}
    for dog, shirt, name in zip(*columns, won, strict=True):
        assert dog["p"] + shirt["p"] < 1
        assert name != "dog" or dog["p"] > shirt["p"]


def test_the_judge_asks_for_the_win_and_the_probability() -> None:
    def verdict(score: str, **changes: Any) -> str | None:
        given = PromptAgreementOptions(directory="x", **changes)
        return RULE.judge(given, "dog", None).reject(score)

    won, lost = '{"p":0.4,"won":"dog"}', '{"p":0.4,"won":"cat"}'
    assert (verdict(won), verdict(lost)) == (None, "prompt_agreement")
    assert verdict(lost, must_win=False) is None
    assert verdict(won, min_probability=0.4) is None
    assert verdict(won, min_probability=0.41) == "prompt_agreement"


def test_thresholds_keep_scores_and_classes_change_them(folders: Path) -> None:
    plain = options(folders / "clip")
    assert score_key(RULE, plain, None) == score_key(
        RULE, options(folders / "clip", min_probability=0.3, must_win=False), None
    )
    assert score_key(RULE, plain, None) == score_key(
        RULE, options(folders / "clip", classes=CLASSES[::-1]), None
    )
    others = [
        options(folders / "clip", classes=(*CLASSES, "cat")),
        options(folders / "clip", texts={"dog": "a dog"}),
        options(folders / "clip", others=["nothing"]),
        options(folders / "vit", texts={"dog": "hound"}),
    ]
    keys = {score_key(RULE, each, None) for each in (plain, *others)}
    assert len(keys) == 5


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("vit", {}, "it has no label 'dog' for class dog; say in texts which"),
        ("vit", {"texts": {"dog": "cat"}, "others": ["x"]}, "whose labels are all there"),
        ("vit", {"texts": {"dog": "T_shirt"}}, "two of them are the same"),
        ("clip", {"others": ["dog"]}, "two of them are the same"),
        ("clip", {"texts": {"dog": "a", "T_shirt": "a"}}, "two of them are the same"),
        ("nowhere", {}, "does not exist"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    folders: Path, name: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(reason)):
        options(folders / name, **changes)


def test_a_text_that_is_too_long_is_not_cut(folders: Path) -> None:
    given = options(folders / "clip", texts={"dog": "a very large dog in an even larger field"})
    with pytest.raises(ModelError, match=r"has \d+ tokens; its text encoder takes 24"):
        scores(given, "dog")


def test_a_recipe_pins_the_texts_of_its_classes(folders: Path, tmp_path: Path) -> None:
    models = [load_settings({}, home=tmp_path).models_dir]
    asked = {"filter": "prompt_agreement", "directory": str(folders / "clip")}
    resolved = resolve(noise_recipe({"filters": [asked]}), models)
    pinned = json.loads(resolved.body)["filters"][0]
    assert pinned["options"]["texts"] == {"cat": "a photo of a cat", "dog": "a photo of a dog"}
    assert pinned["scores"] == resolved.score_keys["prompt_agreement"]
    stored, _ = recipe_of_stored(resolved.body.decode())
    assert resolve_recipe(stored, models).body == resolved.body
    wrong = asked | {"texts": {"bird": "a bird"}}
    with pytest.raises(RecipeError, match=r"bird.*a class of the recipe: cat, dog"):
        resolve(noise_recipe({"filters": [wrong]}), models)
