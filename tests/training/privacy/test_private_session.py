"""Private trainings as `datagen train` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from datagen.errors import InputError, TrainingError
from datagen.generators.model_directory import Model
from datagen.generators.model_facts import SourceFact
from datagen.real_images.reading import Reading
from datagen.training.admission import Admission
from datagen.training.model_recipe import DataSource, ModelRecipe, Privacy
from datagen.training.privacy.plan import RELEASE_FILE
from datagen.training.session import train_model
from tests.training.tiny_data import tiny_recipe, write_tiny_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tiny_data(tmp_path / "data")


def private_recipe(generator: str, data: Path, *, num_images: int = 16) -> ModelRecipe:
    recipe = tiny_recipe(generator, data, num_images=num_images)
    privacy = Privacy(epsilon=4.0, delta=1e-3, noise_multiplicity=2, num_canaries=4096)
    return recipe.model_copy(update={"privacy": privacy})


def trained(recipe: ModelRecipe, folder: Path, name: str = "m") -> Model:
    return train_model(recipe, out=folder / name, work=folder / f"work-{name}", admit=admit)


def admit(source: DataSource, reading: Reading) -> Admission:
    """As a registered source."""
    fact = SourceFact(
        name="wards", version=2, sha256="a" * 64, licence="MIT", permitted_use="tests"
    )
    return Admission((fact,))


@pytest.mark.slow
@pytest.mark.parametrize("generator", ["cgan", "edm"])
def test_a_private_model_says_what_it_spent_and_nothing_of_the_images(
    generator: str, data: Path, tmp_path: Path
) -> None:
    model = trained(private_recipe(generator, data), tmp_path)
    privacy, training = model.facts.privacy, model.facts.training
    assert privacy is not None
    assert training is not None
    assert privacy.audited_epsilon <= privacy.epsilon <= 4.0
    assert privacy.epsilon > 3.9
    assert (training.kid_held_out, training.kid_real, training.data_sha256) == (None, None, None)
    assert [(fact.label, fact.sha256) for fact in training.sources] == [("wards@2", None)]
    card = (model.path / "README.md").read_text()
    for text in (
        "source `wards@2` | tests",
        "one image added or removed",
        "accountant (PRV",
        "95% confidence",
        "0.001",
    ):
        assert text in card
    assert "{" not in card
    assert "IT DOES" not in card
    assert "same weights" not in card
    sampler = model.spec.load(model.config, model.weights, model.spec.options(), batch_size=3)
    assert sampler.sample([1, 2, 3], [0, 1, 2]).shape == (3, 8, 8, 1)


@pytest.mark.slow
def test_a_release_is_made_once_and_its_length_is_part_of_the_budget(
    data: Path, tmp_path: Path
) -> None:
    recipe = private_recipe("cgan", data)
    trained(recipe, tmp_path)
    release = tmp_path / "work-m" / RELEASE_FILE
    before = release.read_bytes()
    train_model(recipe, out=tmp_path / "again", work=tmp_path / "work-m")
    assert release.read_bytes() == before
    with pytest.raises(TrainingError, match="another model recipe"):
        train_model(recipe, out=tmp_path / "b", work=tmp_path / "work-m", num_images=32)
    public = recipe.model_copy(update={"privacy": None})
    with pytest.raises(TrainingError, match="another model recipe"):
        train_model(public, out=tmp_path / "c", work=tmp_path / "work-m")


@pytest.mark.slow
def test_a_training_stopped_early_has_spent_less(data: Path, tmp_path: Path) -> None:
    recipe = private_recipe("edm", data, num_images=64)
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work", max_seconds=1e-9)
    assert model.facts.privacy is not None
    assert model.facts.privacy.steps[0].num_steps == 1
    assert model.facts.privacy.epsilon < 4.0 * 0.9


def test_a_delta_above_1_over_the_images_is_refused(data: Path, tmp_path: Path) -> None:
    recipe = private_recipe("edm", data)
    bad = recipe.model_copy(update={"privacy": Privacy(epsilon=1.0, delta=9e-3)})
    with pytest.raises(InputError, match=r"privacy\.delta"):
        trained(bad, tmp_path)
