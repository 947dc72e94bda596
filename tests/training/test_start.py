"""Starting from another model: `init`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from datagen.errors import InputError, ModelError
from datagen.generators import GENERATORS
from datagen.generators.interface import ModelConfig, Objective
from datagen.generators.model_directory import Model
from datagen.training.model_recipe import InvalidRecipe, ModelRecipe, parse_model_recipe
from datagen.training.session import train_model
from tests.training.tiny_data import tiny_recipe, tiny_recipe_text, write_tiny_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_data(tmp_path / "data")


def trained(generator: str, data: Path, home: Path) -> Model:
    recipe = tiny_recipe(generator, data, num_images=64)
    return train_model(recipe, out=home / "models" / "parent", work=home / "parent")


def renamed(recipe: ModelRecipe, *names: str) -> ModelRecipe:
    source = recipe.data.model_copy(update={"class_names": names})
    return recipe.model_copy(update={"data": source})


def test_a_training_starts_from_the_weights_of_a_model(data: Path, tmp_path: Path) -> None:
    """Of which the classes are in another order, and one is new; the learning rate is nearly 0."""
    parent = trained("cgan", data, tmp_path)
    recipe = tiny_recipe("cgan", data, num_images=8, learning_rate=1e-12)
    recipe = renamed(recipe, "right", "left", "new").model_copy(update={"network": {}})
    child = train_model(
        recipe,
        out=tmp_path / "models" / "child",
        work=tmp_path / "child",
        init="parent",
        models_dirs=[tmp_path / "models"],
    )
    assert parent.weights is not None
    assert child.weights is not None
    before, after = load_file(parent.weights), load_file(child.weights)
    table = "embedding.weight"
    for name in before.keys() - {table}:
        assert torch.allclose(before[name], after[name], atol=1e-6), name
    rows = before[table]
    expected = torch.stack([rows[1], rows[0], rows.mean(0)])
    assert torch.allclose(after[table], expected, atol=1e-6)
    assert child.facts.parent == parent.digest
    assert child.config.network == parent.config.network


def test_a_diffusion_model_keeps_its_null_class_in_its_place() -> None:
    spec = GENERATORS["edm"]
    options, network = spec.objective_options(), {"widths": [8, 16], "norm_num_groups": 4}

    def objective_of(*names: str) -> Objective:
        return spec.objective(
            ModelConfig("edm", names, (8, 8), 1, network), options, seed=len(names)
        )

    parent = objective_of("a", "b", "c").ema_weights()
    child = objective_of("b", "a")
    child.init_from(parent, [1, 0])
    table = "unet.class_embedding.weight"
    assert torch.equal(child.ema_weights()[table], parent[table][[1, 0, 3]])
    assert all(torch.equal(v, parent[k]) for k, v in child.ema_weights().items() if k != table)


def test_a_checkpoint_belongs_to_the_model_it_started_from(data: Path, tmp_path: Path) -> None:
    trained("cgan", data, tmp_path)
    recipe = tiny_recipe("cgan", data, num_images=16)
    folders = {"models_dirs": [tmp_path / "models"]}
    place = {"out": tmp_path / "a", "work": tmp_path / "w"}
    train_model(recipe, **place, init="parent", max_seconds=1e-9, **folders)
    with pytest.raises(Exception, match="another model recipe"):
        train_model(recipe, out=tmp_path / "b", work=tmp_path / "w")


def test_models_that_cannot_be_started_from_are_refused(data: Path, tmp_path: Path) -> None:
    trained("cgan", data, tmp_path)
    folders = {"models_dirs": [tmp_path / "models"]}
    place = {"out": tmp_path / "m", "work": tmp_path / "w"}
    with pytest.raises(InputError, match="generator cgan; generator edm starts from one of edm"):
        train_model(tiny_recipe("edm", data), init="parent", **place, **folders)
    with pytest.raises(ModelError, match="'missing' does not exist"):
        train_model(tiny_recipe("edm", data), init="missing", **place, **folders)
    other = tiny_recipe("cgan", data)
    other = other.model_copy(update={"network": {**other.network, "latent_dim": 6}})
    with pytest.raises(ModelError, match=r"init: tensor .* expected"):
        train_model(other, init="parent", **place, **folders)
    assert not (tmp_path / "m").exists()


def test_a_private_training_starts_from_no_model(data: Path) -> None:
    text = tiny_recipe_text("cgan", data) + "init: parent\nprivacy: {epsilon: 1, delta: 0.001}\n"
    with pytest.raises(InvalidRecipe, match="init"):
        parse_model_recipe(text.encode(), source="x.yaml")


@pytest.mark.parametrize("field", ["class_balanced: true", "max_copy_share: 0.5"])
def test_a_private_training_takes_no_option_that_it_would_ignore(data: Path, field: str) -> None:
    text = tiny_recipe_text("cgan", data) + "privacy: {epsilon: 1, delta: 0.001}\n"
    text = text.replace("schedule:\n", f"schedule:\n  {field}\n")
    name = field.partition(":")[0]
    with pytest.raises(InvalidRecipe, match=f"schedule.{name}"):
        parse_model_recipe(text.encode(), source="x.yaml")
