"""card.py: front matter that PyYAML and Hugging Face read, counts, sheets, hostile text."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from datagen.formats.card import MAX_SHEETS_SHOWN, contact_sheet_path, write_card
from datagen.formats.origin import ModelOrigin
from datagen.manifest import Manifest, claims_of
from tests.formats.small_version import ATTRIBUTES, publish_small_version

ORIGIN = ModelOrigin("MIT", "Fashion-MNIST, Debian package dataset-fashion-mnist", "MIT")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return publish_small_version(tmp_path_factory.mktemp("store")).manifest


def _front_matter(card: str) -> dict[str, Any]:
    opening, block, _ = card.split("---\n", 2)
    assert opening == ""
    content: dict[str, Any] = yaml.safe_load(block)
    return content


def test_a_card_names_the_model_that_drew_the_conditions_and_its_licence(tmp_path: Path) -> None:
    manifest = publish_small_version(tmp_path).manifest
    drawn = {"kind": "mask", "model": "maps", "model_digest": "5" * 64, "label_kinds": ["mask"]}
    fitted = dataclasses.replace(manifest, recipe=manifest.recipe | {"conditioning": drawn})
    origin = dataclasses.replace(ORIGIN, conditions=ModelOrigin("CC-BY-NC-4.0", "hospital X"))
    card = write_card(fitted, origin=origin)
    assert "| conditions drawn by model | maps |" in card
    assert "| its licence | CC-BY-NC-4.0 |" in card
    assert "| made from | hospital X |" in card
    assert "license: other" in card
    assert "image-segmentation" in card
    assert "object-detection" not in card
    alike = dataclasses.replace(ORIGIN, conditions=ModelOrigin("MIT"))
    assert "license: mit" in write_card(fitted, origin=alike)


def test_a_card_of_painted_pictures_says_that_parts_are_real(tmp_path: Path) -> None:
    manifest = publish_small_version(tmp_path).manifest
    recipe = manifest.recipe | {"conditioning": {"kind": "inpaint", "model": "backgrounds"}}
    painted = dataclasses.replace(manifest, recipe=recipe)
    card = write_card(painted, origin=ModelOrigin("MIT"))
    assert "outside that part it is a real image" in card
    assert "none is a photograph" not in card


def test_front_matter_is_what_hugging_face_asks_for(manifest: Manifest, tmp_path: Path) -> None:
    card = write_card(manifest, origin=ORIGIN)
    content = _front_matter(card)
    assert content["license"] == "mit"
    assert content["task_categories"] == ["image-classification"]
    assert content["size_categories"] == ["n<1K"]
    huggingface_hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "README.md").write_text(card)
    read = huggingface_hub.DatasetCard.load(tmp_path / "README.md")
    assert read.data.to_dict() == content


@pytest.mark.parametrize(
    ("num_samples", "expected"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**8, "n>10M")],
)
def test_size_category(manifest: Manifest, num_samples: int, expected: str) -> None:
    counts = {"trouser": {"train": num_samples}}
    card = write_card(dataclasses.replace(manifest, counts=counts), origin=ORIGIN)
    assert _front_matter(card)["size_categories"] == [expected]


def test_counts_by_class_and_split(manifest: Manifest) -> None:
    card = write_card(manifest, origin=ORIGIN)
    rows = re.findall(r"^\| (\S+) \| (\d+) \| (\d+) \| (\d+) \|$", card, re.MULTILINE)
    assert rows == [
        ("trouser", "7", "3", "10"),
        ("ankle-boot", "7", "3", "10"),
        ("bag", "7", "3", "10"),
        ("**all**", "21", "9", "30"),
    ]


def test_every_class_shows_its_contact_sheet(manifest: Manifest) -> None:
    card = write_card(manifest, origin=ORIGIN)
    assert re.findall(r"!\[\S+\]\((\S+)\)", card) == [contact_sheet_path(c) for c in ATTRIBUTES]


def test_thousands_of_classes_show_the_first_sheets_and_say_so(manifest: Manifest) -> None:
    names = [f"class-{i}" for i in range(2000)]
    recipe = {**manifest.recipe, "classes": [{"name": name} for name in names]}
    counts = {name: {"train": 1} for name in names}
    card = write_card(dataclasses.replace(manifest, recipe=recipe, counts=counts), origin=ORIGIN)
    assert card.count("![") == MAX_SHEETS_SHOWN
    assert "The first 100 of 2,000 classes." in card


def test_says_origin_limits_and_that_nothing_was_evaluated(manifest: Manifest) -> None:
    card = write_card(manifest, origin=ORIGIN)
    for words in ("Fashion-MNIST", "MIT", manifest.digest, "Not evaluated", "Not for:", "pull"):
        assert words in card
    assert "| trained on | no images |" in write_card(manifest, origin=ModelOrigin())
    unsaid = ModelOrigin(training_data="")
    assert "| trained on | not stated |" in write_card(manifest, origin=unsaid)


def test_figures_take_the_place_of_not_evaluated(manifest: Manifest) -> None:
    figures = {"verdict": "helps | [x](http://h)", "FID": "12.3 (floor 4.5)"}
    card = write_card(manifest, origin=ORIGIN, figures=figures)
    assert "| FID | 12.3 (floor 4.5) |" in card
    assert r"| verdict | helps \| \[x\](http://h) |" in card
    assert "Not evaluated" not in card


def test_synthetic_splits_but_the_training_one_are_marked(manifest: Manifest) -> None:
    assert "**Not for performance claims: `val`.**" in write_card(manifest, origin=ORIGIN)
    counts = {name: {"train": 10, "test": 0} for name in manifest.counts}
    alone = dataclasses.replace(manifest, counts=counts)
    assert "performance claims" not in write_card(alone, origin=ORIGIN)
    assert claims_of(alone.counts) == "train split only"
    assert claims_of(manifest.counts) == "not for performance claims: val"


def test_of_thousands_of_rejected_images_the_card_names_the_first(manifest: Manifest) -> None:
    rejected = [f"{i:064x}" for i in range(1000)]
    filters = [{"filter": "review", "options": {"rejected": rejected}}]
    card = write_card(
        dataclasses.replace(manifest, recipe={**manifest.recipe, "filters": filters}), origin=ORIGIN
    )
    assert rejected[19] in card
    assert rejected[20] not in card
    assert "... and 980 more in manifest.json" in card


def test_a_manifest_of_before_performance_claims_is_read_and_written_as_it_was(
    manifest: Manifest,
) -> None:
    data = manifest.to_bytes()
    assert b"performance_claims" not in data
    assert Manifest.from_bytes(data).to_bytes() == data
    stated = dataclasses.replace(manifest, performance_claims=claims_of(manifest.counts))
    assert Manifest.from_bytes(stated.to_bytes()).performance_claims == stated.performance_claims
    newer = stated.to_bytes().replace(b'{"', b'{"a_later_field":1,"', 1)
    assert Manifest.from_bytes(newer) == Manifest.from_bytes(stated.to_bytes())


def test_a_shortfall_is_said(manifest: Manifest) -> None:
    card = write_card(dataclasses.replace(manifest, shortfall={"bag": 1200}), origin=ORIGIN)
    assert "Missing: bag: 1,200." in card


def test_equal_manifests_give_equal_cards_whatever_their_key_order(manifest: Manifest) -> None:
    read_back = Manifest.from_bytes(manifest.to_bytes())
    assert list(read_back.counts) != list(manifest.counts)
    assert write_card(read_back, origin=ORIGIN) == write_card(manifest, origin=ORIGIN)


def test_the_recipe_in_it_is_the_recipe(manifest: Manifest) -> None:
    hostile = {**manifest.recipe, "generator": {"model": "noise", "prompt": "```\n# not a title"}}
    card = write_card(dataclasses.replace(manifest, recipe=hostile), origin=ORIGIN)
    found = re.search(r"^(`{3,})yaml\n(.*?)^\1$", card, re.MULTILINE | re.DOTALL)
    assert found is not None
    assert yaml.safe_load(found[2]) == hostile


def test_text_of_a_model_cannot_add_markup(manifest: Manifest) -> None:
    origin = ModelOrigin("MIT", "x | y\n\n# title <script> ![](http://host/p.png)", None)
    line = next(
        line
        for line in write_card(manifest, origin=origin).splitlines()
        if line.startswith("| trained on")
    )
    assert line == (r"| trained on | x \| y \# title \<script\> !\[\](http://host/p.png) |")


@pytest.mark.parametrize(
    ("license", "hugging_face", "url"),
    [
        ("Apache-2.0", "apache-2.0", "https://spdx.org/licenses/Apache-2.0.html"),
        ("ours, ask us", "other", "ours, ask us"),
        (None, "unknown", "unknown"),
        ("", "unknown", "unknown"),
    ],
)
def test_a_licence_is_an_identifier_or_words(
    license: str | None, hugging_face: str, url: str
) -> None:
    origin = ModelOrigin(license)
    assert (origin.hugging_face_license, origin.license_url) == (hugging_face, url)
