"""Jobs of pipelines in this process: the batch shape, captions, growth, an image made again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datagen.batch_shape import with_batch_shape
from datagen.deployment_rules import DeploymentRules
from datagen.embedded import run_recipe
from datagen.engine import load_sampler
from datagen.errors import RecipeError
from datagen.formats.version import StoredSample, VersionReader
from datagen.manifest import Manifest
from datagen.remake import remake_sample
from datagen.resolve import ResolvedRecipe, resolve
from datagen.settings import Settings, load_settings
from datagen.stages.job import Place, draw_images, labels_of
from datagen.versions import version_prefix
from tests.generators.tiny_pipelines import save_tiny
from tests.published import Home, open_home
from tests.recipes import noise_recipe

PROMPT = {
    "template": "a {shade} {class}",
    "negative": "a b",
    "attributes": {"shade": {"weights": {"dark": 0.5, "pale": 0.5}}},
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny("sd", tmp_path_factory.mktemp("pipelines") / "sd")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings({}, home=tmp_path_factory.mktemp("home"))


def recipe_of(pipeline: Path, counts: dict[str, int], **changes: Any) -> ResolvedRecipe:
    content = {
        "name": "words",
        "image_size": [32, 32],
        "classes": [{"name": name, "count": count} for name, count in counts.items()],
        "generator": {"model": "pipeline", "source": str(pipeline), "num_inference_steps": 2},
        "conditioning": {"prompt": PROMPT},
        "splits": {"ratios": {"train": 0.5, "val": 0.5}},
    } | changes
    return resolve(noise_recipe(content), [])


def samples_of(home: Home, name: str) -> dict[str, StoredSample]:
    row = home.version(name)
    folder = home.folder(row.name, row.version)
    manifest = Manifest.from_bytes((folder / "manifest.json").read_bytes())
    reader = VersionReader(home.store, version_prefix("local", row.name, row.version), manifest)
    return {sample.key: sample for sample in reader.iter_samples()}


@pytest.mark.slow
def test_a_job_of_prompts_from_recipe_to_version(pipeline: Path, settings: Settings) -> None:
    """Grown by a class and by images, it keeps every image that it had."""
    first = recipe_of(pipeline, {"nevus": 6})
    result = run_recipe(first, settings)
    assert result.counts == {"nevus": {"train": 3, "val": 3}}
    with open_home(settings.home) as home:
        before = samples_of(home, "words@1")
        told = {s.record["attributes"]["shade"] for s in before.values()}
        assert told == {"dark", "pale"}
        for sample in before.values():
            assert sample.labels.caption == f"a {sample.record['attributes']['shade']} nevus"

        key = min(before)
        again = remake_sample(home.catalog, home.store, settings, home.version("words@1"), key)
        assert again.identical

        shapes = list((settings.home / "batch-shapes").iterdir())
        assert len(shapes) == 1
        chosen = json.loads(shapes[0].read_bytes())["batch_size"]
        fingerprint = Manifest.from_bytes(
            (home.folder("words", 1) / "manifest.json").read_bytes()
        ).fingerprint
        assert fingerprint["generation"]["batch_size"] == chosen

    run_recipe(recipe_of(pipeline, {"nevus": 9, "mole": 2}), settings)
    with open_home(settings.home) as home:
        after = samples_of(home, "words@2")
    assert len(after) == 11
    for key, sample in before.items():
        assert after[key].png == sample.png
        assert after[key].record["split"] == sample.record["split"]
        assert after[key].labels.caption == sample.labels.caption


def test_the_batch_shape_is_measured_once(pipeline: Path, settings: Settings) -> None:
    """What was remembered holds, and what the recipe says goes before it."""
    said = recipe_of(
        pipeline,
        {"nevus": 2},
        generator={"model": "pipeline", "source": str(pipeline), "batch_size": 3},
    )
    assert with_batch_shape(said, settings).batch_size == 3
    noise = resolve(noise_recipe(), [])
    assert with_batch_shape(noise, settings) is noise


def test_attributes_of_exact_counts(pipeline: Path) -> None:
    counts = {"dark": 2, "pale": 5}
    prompt = PROMPT | {"attributes": {"shade": {"counts": counts}}}
    resolved = recipe_of(pipeline, {"nevus": 7}, conditioning={"prompt": prompt})
    assert resolved.prompts is not None
    dealt = Counter(resolved.prompts.of("nevus", k).attributes["shade"] for k in range(7))
    assert dealt == counts


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"conditioning": {}}, r"conditioning\.prompt.*makes images from text"),
        (
            {"conditioning": {"prompt": {"template": "a {class} of Angela Merkel"}}},
            r"conditioning\.prompt.*Angela Merkel",
        ),
        (
            {"conditioning": {"prompt": {"template": "a {class}" + " with spots" * 50}}},
            r"conditioning\.prompt.*tokens",
        ),
        ({"image_size": [30, 32]}, "multiple"),
        ({"conditioning": {"prompt": PROMPT, "mix": {"between": "images"}}}, "mix"),
    ],
)
def test_what_a_pipeline_does_not_take_is_refused(
    pipeline: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe_of(pipeline, {"nevus": 2}, **changes)


def test_models_without_words_take_no_prompt() -> None:
    with pytest.raises(RecipeError, match=r"conditioning\.prompt.*noise takes none"):
        resolve(noise_recipe({"conditioning": {"prompt": {"template": "a {class}"}}}), [])


def test_a_pipeline_without_a_licence_is_refused_unless_the_deployment_allows(
    pipeline: Path, tmp_path: Path
) -> None:
    bare = save_tiny("ddpm", tmp_path / "bare")
    document = noise_recipe(
        {
            "image_size": [16, 16],
            "classes": [{"name": "nevus", "count": 1}],
            "generator": {"model": "pipeline", "source": str(bare), "num_inference_steps": 2},
        }
    )
    with pytest.raises(RecipeError, match="none is stated"):
        resolve(document, [])
    assert resolve(document, [], DeploymentRules(allow_unlicensed=True)).label_kinds == frozenset()


def test_segmentation_control_takes_any_names(tmp_path: Path) -> None:
    """The label maps are shown in colours by their values; the labels keep their names."""
    folders = [save_tiny(kind, tmp_path / kind) for kind in ("sd", "controlnet of sd")]
    for folder in folders:
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    resolved = recipe_of(
        folders[0],
        {"star": 2},
        generator={
            "model": "pipeline",
            "source": str(folders[0]),
            "task": "controlnet",
            "controlnet": str(folders[1]),
            "control": "segmentation",
            "num_inference_steps": 2,
        },
        conditioning={"prompt": {"template": "a {class}"}, "mask": {"model": "procedural"}},
    )
    assert "star" in resolved.names
    sampler = load_sampler(resolved, load_settings({}, home=tmp_path), batch_size=2)
    places = [Place("star", ordinal, "train") for ordinal in range(2)]
    images, conditions = draw_images(sampler, resolved, [5, 6], places)
    assert images.shape == (2, 32, 32, 3)
    assert len(set(conditions)) == 2
    labels = labels_of(resolved, resolved.recipe.classes[0], seed=5, ordinal=0, split="train")
    assert labels is not None
    assert labels.mask is not None
    assert labels.caption == "a star"


def context_of(resolved: ResolvedRecipe) -> bytes:
    return resolved.context({})


def test_what_decides_no_image_is_in_no_context(pipeline: Path) -> None:
    """So a class or an attribute that is added leaves the images of the others as they were."""
    one = recipe_of(pipeline, {"nevus": 2})
    assert context_of(recipe_of(pipeline, {"nevus": 9, "mole": 2})) == context_of(one)
    staged = [{"name": "nevus", "count": 2, "attributes": {"stage": "a"}}]
    assert context_of(recipe_of(pipeline, {}, classes=staged)) == context_of(one)
    shown = {"template": "a {stage} {class}"}
    stages = [
        [{"name": "nevus", "count": 2, "attributes": {"stage": stage}}] for stage in ("a", "b")
    ]
    first, second = (
        recipe_of(pipeline, {}, classes=classes, conditioning={"prompt": shown})
        for classes in stages
    )
    assert context_of(first) != context_of(second)


def test_a_class_mix_is_told_in_the_prompt_of_the_other_class(pipeline: Path) -> None:
    prompt = {"template": {"nevus": "a dark {class}", "mole": "a {class}"}, "words": {"mole": "m"}}
    mixed = {"prompt": prompt, "mix": {"between": "classes", "weight": [1.0, 1.0]}}
    resolved = recipe_of(pipeline, {"nevus": 2, "mole": 2}, conditioning=mixed)
    plain = recipe_of(pipeline, {"nevus": 2, "mole": 2}, conditioning={"prompt": prompt})
    home = load_settings({}, home=pipeline.parent)
    made, _ = draw_images(
        load_sampler(resolved, home, batch_size=2), resolved, [5], [Place("nevus", 0, "train")]
    )
    end, _ = draw_images(
        load_sampler(plain, home, batch_size=2), plain, [5], [Place("mole", 0, "train")]
    )
    assert (made == end).all()
    labels = labels_of(resolved, resolved.recipe.classes[0], seed=5, ordinal=0, split="train")
    assert labels is not None
    assert labels.attributes["mix_with"] == "mole"
    assert labels.attributes["mix_weight"] == 1.0


def test_the_card_of_a_pipeline_is_believed_before_its_model(
    pipeline: Path, tmp_path: Path
) -> None:
    """And that of a ControlNet counts as well."""
    control = save_tiny("controlnet of sd", tmp_path / "control")
    (control / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    changes = {
        "generator": {
            "model": "pipeline",
            "source": str(pipeline),
            "task": "controlnet",
            "controlnet": str(control),
            "control": "segmentation",
        },
        "conditioning": {"prompt": {"template": "a {class}"}, "mask": {"model": "procedural"}},
    }
    content = {
        "image_size": [32, 32],
        "classes": [{"name": "star", "count": 1}],
        **changes,
    }
    with pytest.raises(RecipeError, match=r"its ControlNet.*'cc-by-nc-4.0' is not allowed"):
        resolve(noise_recipe(content), [], DeploymentRules(licences=("mit",)))


def test_negative_prompts_need_guidance(pipeline: Path) -> None:
    """Without it nothing is drawn away from them; below 1 all is drawn to them."""
    generator = {"model": "pipeline", "source": str(pipeline), "guidance_scale": 0.5}
    with pytest.raises(RecipeError, match=r"conditioning\.prompt\.negative.*no negative prompt"):
        recipe_of(pipeline, {"nevus": 2}, generator=generator)


def test_every_prompt_is_measured_however_many_there_are(pipeline: Path) -> None:
    """The pipeline itself would cut a longer one unsaid."""
    names = ["nevus", "mole", "wart"]
    lists = {name: [f"a {name[0]} {number}" for number in range(7000)] for name in names}
    lists["wart"][-1] = "spots " * 20
    with pytest.raises(RecipeError, match=r"conditioning\.prompt.*spots.*tokens"):
        recipe_of(pipeline, dict.fromkeys(names, 7000), conditioning={"prompt": {"lists": lists}})
