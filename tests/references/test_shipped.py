"""The references of the shipped models: sound, small, and as good as docs/filters.md says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datagen.embedded import run_recipe
from datagen.filters import FILTERS
from datagen.filters.interface import NetworkRule
from datagen.generators.model_directory import load_model
from datagen.real_images import load_image_set
from datagen.recipe import load_recipe
from datagen.references.reference import load_reference
from datagen.resolve import resolve
from datagen.resources import shipped_models_dir
from datagen.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
every_model = pytest.mark.parametrize("name", ["fashion-mnist-cgan", "fashion-mnist-edm"])


@every_model
def test_a_shipped_reference_is_of_what_its_model_was_trained_on(name: str) -> None:
    model = load_model(shipped_models_dir() / name)
    assert model.reference is not None
    assert model.reference.stat().st_size < 10e6
    reference = load_reference(model.reference)
    training, config = model.facts.training, model.config
    assert training is not None
    assert reference.facts.num_train == training.num_train
    assert reference.class_names == config.class_names
    assert reference.image_shape == (*config.image_size, config.channels)
    assert reference.facts.licence == model.facts.licence == "MIT"


@every_model
def test_its_measured_rates_hold_what_is_promised(name: str) -> None:
    model = load_model(shipped_models_dir() / name)
    assert model.reference is not None
    facts = load_reference(model.reference).facts
    assert facts.labels.mean_wrong_rejected >= 0.9
    assert facts.labels.mean_right_rejected <= 0.05
    assert facts.outliers.rejected <= 0.005
    assert facts.quality.rejected <= 0.01
    assert facts.copies.rejected[facts.copies.rates.index(0.005)] <= 0.015


@pytest.mark.slow
def test_it_finds_copies_of_training_images() -> None:
    """Eleven in twelve images of the sample are among those that the model was trained on."""
    reference = load_reference(
        shipped_models_dir() / "fashion-mnist-cgan" / "reference.safetensors"
    )
    facts = reference.facts.copies
    sample = load_image_set(
        ROOT / "recipes" / "data" / "fashion-mnist-sample", max_images=40, seed=1
    )
    noise = np.random.default_rng(1).normal(0, 10, sample.images.shape)
    noisy = np.clip(sample.images + noise, 0, 255).astype(np.uint8)
    for copies in (sample.images, sample.images[:, :, ::-1], noisy):
        found = reference.copies.search(copies).score > facts.thresholds[facts.rates.index(0.01)]
        assert found.mean() >= 0.5


@pytest.mark.slow
def test_a_recipe_with_every_filter_runs(settings: Settings) -> None:
    document = load_recipe(ROOT / "recipes" / "fashion-filtered.yaml")
    named = {name for name, rule in FILTERS.items() if not isinstance(rule, NetworkRule)}
    assert {request.filter for request in document.recipe.filters} == named
    result = run_recipe(resolve(document, [settings.models_dir]), settings)
    assert sum(sum(splits.values()) for splits in result.counts.values()) == 100
    assert result.shortfall == {}
