"""Filters that need a reference, from the recipe to the published version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.embedded import RunResult, run_recipe
from datagen.errors import JobError, RecipeError
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import REFERENCE_FILE, load_model
from datagen.references.reference import make_reference, save_reference
from datagen.resolve import ResolvedRecipe, resolve, resolve_stored
from datagen.settings import Settings, load_settings
from tests.generators.tiny_models import save_random_model
from tests.recipes import noise_recipe
from tests.tiny_reference import CLASS_NAMES, SIDE_PX, other_reference, tiny_reference

NETWORK = {"latent_dim": 4, "widths": [8, 4], "num_blocks": 1}
CONFIG = ModelConfig("cgan", CLASS_NAMES, (SIDE_PX, SIDE_PX), 1, NETWORK)
LABELS = {"filter": "label_agreement", "min_probability": 0.0}
QUALITY = {"filter": "quality", "min_sharpness": 0.0}


def make_home(folder: Path, *, with_reference: bool = True) -> Settings:
    settings = load_settings({}, home=folder)
    model = save_random_model(settings.models_dir / "tiny", CONFIG)
    if with_reference:
        save_reference(tiny_reference(), model.path / REFERENCE_FILE)
    return settings


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return make_home(tmp_path / "home")


def resolved(settings: Settings, filters: list[dict[str, Any]]) -> ResolvedRecipe:
    changes = {
        "image_size": [SIDE_PX, SIDE_PX],
        "classes": [{"name": "disc", "count": 24}, {"name": "bar", "count": 16}],
        "generator": {"model": "tiny"},
        "filters": filters,
    }
    return resolve(noise_recipe(changes), [settings.models_dir])


def run(settings: Settings, filters: list[dict[str, Any]]) -> RunResult:
    return run_recipe(resolved(settings, filters), settings)


def records_of(settings: Settings, result: RunResult) -> list[dict[str, Any]]:
    import tarfile

    found = []
    for shard in sorted((Path(result.path) / "shards").glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar.getmembers():
                stream = tar.extractfile(member)
                if member.name.endswith(".json") and stream is not None:
                    found.append(json.loads(stream.read()))
    return found


def median_distance(settings: Settings) -> float:
    """Of the class that lies farther."""
    records = records_of(settings, run(settings, [{"filter": "outlier", "max_distance": 1000.0}]))
    distances: dict[str, list[float]] = {}
    for record in records:
        distances.setdefault(record["class_name"], []).append(record["scores"]["outlier"])
    return max(sorted(each)[len(each) // 2] for each in distances.values())


def test_a_reference_changes_no_model_and_no_image(tmp_path: Path) -> None:
    without = make_home(tmp_path / "without", with_reference=False)
    with_it = make_home(tmp_path / "with")
    models = [load_model(s.models_dir / "tiny") for s in (without, with_it)]
    assert models[0].digest == models[1].digest
    assert (models[0].reference, models[1].reference) == (None, models[1].path / REFERENCE_FILE)
    recipes = [resolved(s, [QUALITY]) for s in (without, with_it)]
    assert recipes[0].body == recipes[1].body
    assert b"reference_digest" not in recipes[0].body


def test_a_filter_that_needs_one_pins_it(home: Settings) -> None:
    recipe = resolved(home, [LABELS, QUALITY])
    digest = tiny_reference().digest
    assert json.loads(recipe.body)["reference_digest"] == digest
    assert recipe.score_keys == {
        "label_agreement": f"label_agreement@{digest[:12]}",
        "quality": "quality",
    }
    again = resolve_stored(recipe.body.decode(), [home.models_dir])
    assert again.body == recipe.body


@pytest.mark.soak
@pytest.mark.slow
def test_another_reference_than_the_pinned_one_is_told(home: Settings) -> None:
    body = resolved(home, [LABELS]).body.decode()
    path = home.models_dir / "tiny" / REFERENCE_FILE
    save_reference(other_reference(), path)
    with pytest.raises(JobError, match="the reference of model tiny has changed"):
        resolve_stored(body, [home.models_dir])
    path.unlink()
    with pytest.raises(RecipeError, match="has none"):
        resolve_stored(body, [home.models_dir])


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (
            [{"filter": "label_agreement", "min_probability": 2}],
            r"filters\[0\].min_probability: 2",
        ),
        ([{"filter": "label_agreement", "thresholds": {"rnig": 0.1}}], "'rnig'"),
        ([{"filter": "outlier", "max_distanse": 2}], "did you mean 'max_distance'"),
        ([{"filter": "label_agrement"}], "did you mean 'label_agreement'"),
        ([{"filter": "review", "rejected": ["x"]}], r"filters\[0\].rejected.0"),
    ],
)
def test_mistakes_in_options_are_told(
    filters: list[dict[str, Any]], message: str, home: Settings
) -> None:
    with pytest.raises(RecipeError, match=message):
        resolved(home, filters)


def test_a_model_without_a_reference_is_told_with_the_remedy(tmp_path: Path) -> None:
    settings = make_home(tmp_path / "home", with_reference=False)
    with pytest.raises(RecipeError) as caught:
        resolved(settings, [QUALITY, LABELS])
    assert "filters[1].filter" in str(caught.value)
    assert "'label_agreement'" in str(caught.value)
    assert "datagen models fit-reference tiny --data DIR" in str(caught.value)


def test_a_reference_of_other_images_is_told(home: Settings) -> None:
    facts = tiny_reference().facts.model_copy(update={"image_size": (16, 32)})
    wide = make_reference(facts, tiny_reference().tensors)
    save_reference(wide, home.models_dir / "tiny" / REFERENCE_FILE)
    with pytest.raises(RecipeError, match=r"is of images of \(16, 32, 1\)"):
        resolved(home, [LABELS])


def test_rejected_attempts_are_refilled_and_counted_by_reason(home: Settings) -> None:
    strict = {"filter": "outlier", "max_distance": median_distance(home)}
    result = run(home, [strict, {"filter": "quality", "max_noise": 10.0}])
    records = records_of(home, result)
    assert len(records) == 40
    for record in records:
        assert set(record["scores"]) == {"outlier", "quality"}
        assert record["scores"]["outlier"] <= strict["max_distance"]
    assert {reason for counts in result.rejections.values() for reason in counts} == {"outlier"}


def test_scores_of_one_reference_serve_every_later_threshold(home: Settings) -> None:
    """Also where cached attempts are scored in other batches than new ones."""
    strict = [LABELS, {"filter": "outlier", "max_distance": median_distance(home)}]
    later = run(home, strict)
    fresh = run(make_home(home.home.parent / "fresh"), strict)
    assert later.digest == fresh.digest
    assert later.rejections == fresh.rejections
    rescored = make_home(home.home.parent / "rescored")
    run(rescored, [])
    assert run(rescored, strict).digest == fresh.digest


def test_what_a_reviewer_refused_is_replaced_and_nothing_else(home: Settings) -> None:
    records = records_of(home, run(home, []))
    refused = records[7]
    reviewed = run(home, [{"filter": "review", "rejected": [refused["raw_sha256"]]}])
    after = {record["key"]: record["raw_sha256"] for record in records_of(home, reviewed)}
    before = {record["key"]: record["raw_sha256"] for record in records}
    assert {key for key in before if before[key] != after[key]} == {refused["key"]}
    assert reviewed.rejections[refused["class_name"]] == {"review": 1}
