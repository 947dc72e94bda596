from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from datagen.errors import RecipeError
from datagen.generators.interface import takes_any_class
from datagen.generators.model_directory import find_model, load_model, model_names
from datagen.real_images.opening import Kind
from datagen.training.model_recipe import (
    ModelRecipe,
    load_model_recipe,
    model_recipe_digest,
    parse_model_recipe,
)
from tests.training.tiny_data import tiny_recipe, tiny_recipe_text

RECIPES = Path(__file__).resolve().parent.parent.parent / "recipes" / "models"


def changed(field: str, value: Any) -> ModelRecipe:
    """The tiny cgan recipe with one field, such as data.licence, set to another value."""
    content = yaml.safe_load(tiny_recipe_text("cgan", Path("/data")))
    *parents, last = field.split(".")
    target = content
    for parent in parents:
        target = target[parent]
    target[last] = value
    return parse_model_recipe(yaml.safe_dump(content, sort_keys=False).encode(), source="m.yaml")


def test_standard_recipes_are_valid() -> None:
    names = {load_model_recipe(path).name for path in RECIPES.glob("*.yaml")}
    assert {"fashion-mnist-cgan", "fashion-mnist-edm"} <= names


@pytest.mark.parametrize(
    ("generator", "digest"),
    [
        ("cgan", "c9d25819fe65efdac3220e2a7b223d8bc7497a316a8859fdb76686c01d28570d"),
        ("edm", "9e16d4d22ee225515ea912ce1c8a32384cc06fad48b50dd1a69d8dbe67c58a50"),
    ],
)
def test_the_digest_of_a_recipe_stays(generator: str, digest: str) -> None:
    """Checkpoints and cards name it: a new field must not change an old digest."""
    assert model_recipe_digest(tiny_recipe(generator, Path("/data"))) == digest


def test_shipped_models_were_trained_by_the_recipes_of_their_names() -> None:
    for name, path in model_names([]).items():
        model = load_model(path)
        training = model.facts.training
        # One that takes any class learned from captions, by a benchmark: its card says how.
        if training is not None and not takes_any_class(model.spec):
            recipe = load_model_recipe(RECIPES / f"{name}.yaml")
            if recipe.init is not None:  # trained with it pinned, and with its network
                parent = find_model(recipe.init, [])
                network = recipe.network or parent.config.network
                recipe = recipe.model_copy(update={"init": parent.digest, "network": network})
            assert training.recipe_digest == model_recipe_digest(recipe), name


def test_length_place_and_words_do_not_change_the_digest() -> None:
    digest = model_recipe_digest(tiny_recipe("cgan", Path("/data")))
    for field, value in [
        ("schedule.num_images", 10**9),
        ("data.path", "/elsewhere"),
        ("description", "Other words."),
    ]:
        assert model_recipe_digest(changed(field, value)) == digest
    for field, value in [
        ("seed", 4),
        ("schedule.batch_size", 16),
        ("network.num_blocks", 2),
        ("data.held_out", 61),
        ("weights_dtype", "float16"),
    ]:
        assert model_recipe_digest(changed(field, value)) != digest


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("generator", "cgna", "; did you mean 'cgan'?"),
        ("generator", "noise", "one of cgan, "),
        ("lerning_rate", 1, "a known field"),
        ("network.width", [8, 4], "a known field"),
        ("network.widths", [8, 10**9], "two multiples of 4"),
        ("network.latent_dim", True, "a whole number from 1 to 1024"),
        ("objective.gamma", -1, "0 or more"),
        ("objective.precision", "float8", "float32 or bfloat16"),
        ("schedule.learning_rate", float("nan"), "above 0"),
        ("schedule.learning_rate", 0, "above 0"),
        ("schedule.num_images", 0, "1 or more"),
        ("schedule.num_images", True, "1 or more"),
        ("schedule.batch_size", 10**12, "1 to 65536"),
        ("seed", 2**63, "a whole number from 0"),
        ("name", "../x", "lower-case letters"),
        ("data.class_names", ["a", "../b"], "class names of letters"),
        ("data.class_names", ["a", "A"], "each name once"),
        ("data.class_names", ["a"], "2 to 1000"),
        ("data.format", "pickle", "one of idx, imagefolder"),
        ("data.image_size", 7, "a side of 8 to 256 pixels"),
        ("data.image_size", [8, 300], "[height, width]"),
        ("data.fit", "shrink", "crop, pad or stretch"),
        ("data.held_out", 0, "2 or more"),
        ("data.licence", "", "the licence"),
        ("data.licence", "MIT\n", "one line of at most 1024 printable characters"),
        ("data.source", "a\0b\n| evil", "one line of"),
        ("data.path", "/data/a\0b", "one line of"),
        ("data.path", "x/" * 600, "one line of"),
    ],
)
def test_an_error_names_file_line_field_and_what_was_expected(
    field: str, value: Any, expected: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        changed(field, value)
    message = str(caught.value)
    assert message.startswith("m.yaml:")
    assert message.split(":")[1].isdigit()
    assert field in message
    assert expected in message


def test_several_faults_are_told_at_once() -> None:
    text = (
        tiny_recipe_text("edm", Path("/d"))
        .replace("widths", "widhts")
        .replace("steps: 2", "steps: 0")
    )
    with pytest.raises(RecipeError) as caught:
        parse_model_recipe(text.encode(), source="m.yaml")
    assert "did you mean 'widths'?" in str(caught.value)
    assert "objective.evaluation_steps: 0" in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"a: &a [*a]", b"a: !!python/object:os.system x"])
def test_what_is_no_recipe_is_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(text)
    with pytest.raises(RecipeError, match=r"m\.yaml"):
        load_model_recipe(path)


def test_a_budget_of_privacy_is_read_and_changes_the_digest(tmp_path: Path) -> None:
    text = tiny_recipe_text("edm", tmp_path)
    private = parse_model_recipe(
        (text + "privacy: {epsilon: 2, delta: 1.0e-4}\n").encode(), source="a"
    )
    assert private.privacy is not None
    assert (private.privacy.epsilon, private.privacy.noise_multiplicity) == (2.0, 8)
    open_ = parse_model_recipe(text.encode(), source="a")
    assert model_recipe_digest(private) != model_recipe_digest(open_)
    longer = {"schedule": private.schedule.model_copy(update={"num_images": 10**6})}
    assert model_recipe_digest(private.model_copy(update=longer)) != model_recipe_digest(private)
    assert model_recipe_digest(open_.model_copy(update=longer)) == model_recipe_digest(open_)


@pytest.mark.parametrize(
    ("privacy", "field"),
    [
        ("{epsilon: 0, delta: 1.0e-5}", "privacy.epsilon"),
        ("{epsilon: 1}", "privacy.delta"),
        ("{epsilon: 1, delta: 0.5}", "privacy.delta"),
        ("{epsilon: 1, delta: 1.0e-5, noise: 0}", "privacy.noise"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(privacy: str, field: str, tmp_path: Path) -> None:
    text = tiny_recipe_text("cgan", tmp_path) + f"privacy: {privacy}\n"
    with pytest.raises(RecipeError, match=field):
        parse_model_recipe(text.encode(), source="a")


def test_new_fields_of_the_data_change_the_digest_only_where_they_are_given() -> None:
    digest = model_recipe_digest(tiny_recipe("cgan", Path("/data")))
    for field, default, other in [("image_size", None, 16), ("fit", "crop", "pad")]:
        assert model_recipe_digest(changed(f"data.{field}", default)) == digest
        assert model_recipe_digest(changed(f"data.{field}", other)) != digest


def test_the_command_offers_every_format_of_the_recipe() -> None:
    from datagen.commands.models import fit_reference_

    option = next(o for o in fit_reference_.params if o.name == "data_format")
    formats = ("auto", *get_args(Kind))
    assert tuple(option.to_info_dict()["type"]["choices"]) == formats
