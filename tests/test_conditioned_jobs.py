"""Images that are made to fit a label map: through the stages, with the model's own numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from datagen.catalog.attempts import cached_attempts
from datagen.catalog.sources import made_here
from datagen.cli import main
from datagen.conditions import ConditionConfig, condition_digest
from datagen.engine import load_sampler
from datagen.errors import JobError, RecipeError
from datagen.formats.version import VersionReader
from datagen.generators.condition_set.spec import ConditionSetSpec
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import save_model
from datagen.image_set import ImageSet
from datagen.manifest import Manifest
from datagen.plan import Plan, attempt_seed
from datagen.recipe import RecipeDocument
from datagen.remake import remake_sample
from datagen.resolve import ResolvedRecipe, resolve
from datagen.settings import Settings, load_settings
from datagen.stages.job import CONDITION_KEY, Place, draw_images, labels_of
from datagen.verify import verify_version
from datagen.versions import version_prefix
from tests.generators.tiny_models import FACTS, TINY_CONDITIONED, save_random_model
from tests.published import Home, open_home, publish
from tests.recipes import noise_recipe

# Procedural numbers circles before stars; the model was trained with another order.
NAMES = ("background", "star", "circle")
CONFIG = replace(TINY_CONDITIONED["edm"], condition=ConditionConfig("mask", NAMES))


def changes(**more: Any) -> dict[str, Any]:
    height, width = CONFIG.image_size
    return {
        "name": "fitted",
        "image_size": [height, width],
        "classes": [{"name": CONFIG.class_names[0], "count": 6}],
        "generator": {"model": "tiny-edm", "num_inference_steps": 2},
        "conditioning": {
            "mask": {"model": "procedural", "shapes": ["circle", "star"], "size": [0.5, 0.9]}
        },
        "augmentations": [{"transform": "HorizontalFlip", "p": 0.5}],
    } | more


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = load_settings({}, home=tmp_path_factory.mktemp("fitted") / "home")
    save_random_model(settings.models_dir / "tiny-edm", CONFIG)
    publish(settings, changes())
    return settings


def resolved_of(document: RecipeDocument, settings: Settings) -> ResolvedRecipe:
    return resolve(document, [settings.models_dir])


def reader_of(home: Home) -> VersionReader:
    manifest = Manifest.from_bytes((home.folder("fitted") / "manifest.json").read_bytes())
    return VersionReader(home.store, version_prefix("local", "fitted", 1), manifest)


def test_a_model_sees_label_maps_in_the_numbers_it_was_trained_on(settings: Settings) -> None:
    resolved = resolved_of(noise_recipe(changes()), settings)
    assert resolved.conditioner is not None
    assert resolved.names == ("background", "circle", "star")
    name, sampler = CONFIG.class_names[0], load_sampler(resolved, settings)
    seed = attempt_seed(resolved.seed, name, 0, 0)
    drawn = resolved.conditioner.draw(seed, name, "train")
    assert drawn.mask is not None
    assert drawn.mask.any()
    swapped = replace(drawn, mask=np.array([0, 2, 1], np.uint8)[drawn.mask])
    by_hand = sampler.sample_conditioned([seed], [0], [swapped])  # type: ignore[attr-defined]
    made, digests = draw_images(sampler, resolved, [seed], [Place(name, 0, "train")])
    assert digests == [condition_digest(drawn)]
    assert (made == by_hand).all()
    as_numbered = sampler.sample_conditioned([seed], [0], [drawn])  # type: ignore[attr-defined]
    assert (made != as_numbered).any()


def test_the_stored_labels_are_of_who_drew_them(settings: Settings) -> None:
    with open_home(settings.home) as home:
        reader = reader_of(home)
        assert reader.names == ("background", "circle", "star")
        assert reader.manifest.recipe["conditioning"]["kind"] == "mask"
        assert reader.manifest.label_kinds == {"mask", "instances"}
        card = (home.folder("fitted") / "README.md").read_text()
        assert "| conditions drawn by model | procedural |" in card
        for sample in reader.iter_samples():
            labels = sample.labels
            assert labels.mask is not None
            assert labels.objects
            found = {reader.names[value] for value in np.unique(labels.mask) if value}
            assert {each.class_name for each in labels.objects} <= found
        verified = verify_version(home.catalog, home.store, home.version("fitted"), tenant="local")
        assert verified.findings == []


def test_labels_of_another_condition_than_the_images_are_not_packed(settings: Settings) -> None:
    """Such as that which another release of a library draws of the same seed."""
    resolved = resolved_of(noise_recipe(changes()), settings)
    request, seed = resolved.recipe.classes[0], 7
    assert resolved.conditioner is not None
    own = condition_digest(resolved.conditioner.draw(seed, request.name, "train"))
    assert (
        labels_of(resolved, request, seed=seed, ordinal=0, split="train", kept={CONDITION_KEY: own})
        is not None
    )
    other = condition_digest(resolved.conditioner.draw(8, request.name, "train"))
    with pytest.raises(JobError, match="another condition is drawn here"):
        labels_of(
            resolved, request, seed=seed, ordinal=0, split="train", kept={CONDITION_KEY: other}
        )
    with open_home(settings.home) as home:
        rows = cached_attempts(home.catalog, 1, request.name, ordinals=(0, 5))
        assert rows
        for row in rows:
            split = Plan(resolved.recipe, unit_size=8).pattern.split_of(row.ordinal)
            of_row = attempt_seed(resolved.seed, request.name, row.ordinal, row.attempt)
            drawn = resolved.conditioner.draw(of_row, request.name, split)
            assert json.loads(row.scores)[CONDITION_KEY] == condition_digest(drawn)


def test_an_image_made_again_alone_is_identical(settings: Settings) -> None:
    with open_home(settings.home) as home:
        key = f"{CONFIG.class_names[0]}-00000004"
        version = home.version("fitted")
        made = remake_sample(home.catalog, home.store, home.settings, version, key)
        assert made.identical
        assert made.raw_identical


def test_who_drew_the_conditions_is_known_of_every_image(settings: Settings) -> None:
    """So that images that train a model count as its generation, too."""
    resolved = resolved_of(noise_recipe(changes()), settings)
    with open_home(settings.home) as home:
        sample = next(iter(reader_of(home).iter_samples()))
        keys = {sample.record["attempt_key"]}
        made = made_here(home.catalog, attempt_keys=keys, raw_sha256=set())
    assert resolved.conditioner_model is not None
    assert [row[2:] for row in made] == [(resolved.model.digest, resolved.conditioner_model.digest)]


def test_what_draws_the_conditions_is_pinned(settings: Settings) -> None:
    first = resolved_of(noise_recipe(changes()), settings)
    conditioning = {"mask": {"model": "procedural", "shapes": ["circle", "star"]}}
    other = resolved_of(noise_recipe(changes(conditioning=conditioning)), settings)
    assert first.digest != other.digest
    assert first.context({}) != other.context({})
    assert first.condition_body["model_digest"] == first.conditioner_model.digest  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"conditioning": {}}, "mask: {model: ...}"),
        ({"conditioning": {"layout": {"model": "procedural"}}}, "one of kind mask"),
        ({"conditioning": {"mask": {"model": "tiny-edm"}}}, "a model that draws conditions"),
        ({"conditioning": {"mask": {"model": "nothing"}}}, "a known model"),
        ({"conditioning": {"mask": {"model": "procedural"}}}, "they have ellipse"),
        (
            {"conditioning": {"mask": {"model": "procedural", "shape": ["star"]}}},
            "did you mean 'shapes'",
        ),
        (
            {"conditioning": {"mask": {"model": "procedural", "edits": [{"add": "star"}]}}},
            "conditioning.mask.edits",
        ),
        (
            {
                "conditioning": {
                    "mask": {
                        "model": "procedural",
                        "shapes": ["circle", "star"],
                        "edits": [{"remove": "star", "classes": ["nobody"]}],
                    }
                }
            },
            "edits[0].classes",
        ),
        (
            {
                "conditioning": {
                    "mask": {
                        "model": "procedural",
                        "shapes": ["circle", "star"],
                        "objects": ["background"],
                    }
                }
            },
            "objects: 'background'",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    settings: Settings, more: dict[str, Any], expected: str
) -> None:
    with pytest.raises(RecipeError, match="conditioning") as caught:
        resolved_of(noise_recipe(changes(**more)), settings)
    assert expected in str(caught.value)


def test_a_split_without_an_item_of_a_class_is_refused_before_anything_is_drawn(
    settings: Settings,
) -> None:
    spec, (name, other) = ConditionSetSpec(), CONFIG.class_names[:2]
    images = ImageSet(
        images=np.zeros((4, *CONFIG.image_size, 1), np.uint8),
        class_ids=np.array([0, 0, 0, 1]),
        class_names=(name, other),
        names=tuple("abcd"),
        masks=np.arange(4, dtype=np.uint8)[:, None, None]
        % 3
        * np.ones(CONFIG.image_size, np.uint8),
        groups=tuple("abcd"),
        mask_names=NAMES,
    )
    found = spec.fitted(images, spec.network_options(), kind="mask", seed=0)
    config = ModelConfig("condition_set", images.class_names, CONFIG.image_size, 1, found.network)
    save_model(settings.models_dir / "few", config, found.weights, FACTS, card="# a test\n")
    given: dict[str, Any] = {
        "conditioning": {"mask": {"model": "few"}},
        "splits": {"ratios": {"train": 0.5, "val": 0.5}},
    }
    resolved_of(noise_recipe(changes(**given)), settings)
    given["classes"] = [{"name": other, "count": 2}]
    with pytest.raises(RecipeError, match=rf"conditioning\.mask.*no item of class '{other}'"):
        resolved_of(noise_recipe(changes(**given)), settings)


def test_show_names_what_drew_the_conditions_and_what_labels_there_are(settings: Settings) -> None:
    shown = CliRunner().invoke(main, ["show", "fitted@1", "--home", str(settings.home)])
    assert shown.exit_code == 0
    lines = {line[:14].strip(): line[15:].strip() for line in shown.stdout.splitlines()}
    told = next(text for name, text in lines.items() if name == "conditions")
    assert told.startswith("mask by procedural (")
    assert lines["labels"] == "instances, mask; of circle, star"
