"""With a family that keeps the mean of the label maps: what every fitted one goes through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict

from datagen.conditions import ConditionKind
from datagen.errors import InputError
from datagen.generators import GENERATORS
from datagen.generators.interface import ModelConfig
from datagen.generators.noise.spec import NoiseSpec
from datagen.image_set import ImageSet
from datagen.recipe import InvalidRecipe
from datagen.training.dataset import read_training_images
from datagen.training.fitting import Fitted, pairs_digest
from datagen.training.model_recipe import ModelRecipe, model_recipe_digest
from datagen.training.session import train_model
from tests.training.tiny_pairs import NAMES, pairs_content, parsed, write_pairs


class MeanNetwork(BaseModel):
    model_config = ConfigDict(extra="forbid")

    names: list[str] = []


class MeanSpec(NoiseSpec):
    name = "layout"
    network_options = MeanNetwork
    needs_weights = True

    def __init__(self) -> None:
        self.seen: list[ImageSet] = []

    def check(self, config: ModelConfig) -> None:
        pass

    def fitted(
        self, images: ImageSet, options: BaseModel, *, kind: ConditionKind, seed: int
    ) -> Fitted:
        assert images.masks is not None
        self.seen.append(images)
        mean = torch.from_numpy(images.masks.astype(np.float32).mean(0))
        return Fitted({"names": list(images.mask_names)}, {"mean": mean}, [f"maps of kind {kind}"])


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> MeanSpec:
    spec = MeanSpec()
    monkeypatch.setitem(GENERATORS, "layout", spec)
    return spec


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs")


def content(data: Path) -> dict[str, Any]:
    found = pairs_content("edm", data) | {"generator": "layout", "network": {}, "objective": {}}
    del found["schedule"]
    return found


def recipe(data: Path) -> ModelRecipe:
    return parsed(content(data))


def test_a_fitted_model_is_a_model_of_what_is_not_held_out(
    spec: MeanSpec, data: Path, tmp_path: Path
) -> None:
    asked = recipe(data)
    model = train_model(asked, out=tmp_path / "m", work=tmp_path / "work")
    assert model.config.network == {"names": NAMES}
    training = model.facts.training
    assert training is not None
    assert (training.num_train, training.num_held_out) == (36, 12)
    assert training.recipe_digest == model_recipe_digest(asked)
    # The same images that a trained model with that seed never sees.
    everything = read_training_images(asked.data).images
    assert len(set(everything.names) - set(spec.seen[0].names)) == 12
    card = (model.path / "README.md").read_text()
    for text in ("36 images; 12 more were held out", "maps of kind mask", "MIT", "made up"):
        assert text in card
    again = train_model(asked, out=tmp_path / "n", work=tmp_path / "work")
    assert again.digest == model.digest


def test_other_data_in_the_same_place_are_fitted_anew(
    spec: MeanSpec, data: Path, tmp_path: Path
) -> None:
    first = train_model(recipe(data), out=tmp_path / "m", work=tmp_path / "work")
    smaller = write_pairs(tmp_path / "other", 40)
    other = train_model(recipe(smaller), out=tmp_path / "n", work=tmp_path / "work")
    assert first.digest != other.digest


def test_the_card_tells_data_apart_by_their_label_maps(
    spec: MeanSpec, data: Path, tmp_path: Path
) -> None:
    """The images of both are the same, and so withdrawing them finds both models."""
    first = train_model(recipe(data), out=tmp_path / "m", work=tmp_path / "work")
    other = write_pairs(tmp_path / "other")
    for path in (other / "masks").iterdir():
        Image.fromarray(np.asarray(Image.open(path))[::-1]).save(path)
    second = train_model(recipe(other), out=tmp_path / "n", work=tmp_path / "work")
    told = []
    for model, place in ((first, data), (second, other)):
        card = (model.path / "README.md").read_text()
        digest = pairs_digest(read_training_images(recipe(place).data).images)
        assert f"sha256 `{digest}`. The same recipe and data of that sha256 give" in card
        assert model.facts.training is not None
        told.append((model.facts.training.data_sha256, digest))
    assert told[0][0] == told[1][0]
    assert told[0][1] != told[1][1]
    assert first.digest != second.digest


def test_all_that_is_read_is_in_the_digest_of_pairs(data: Path) -> None:
    images = read_training_images(recipe(data).data).images
    assert images.masks is not None
    changed = [
        images,
        replace(images, masks=None),
        replace(images, conditions=images.images, masks=None),
        replace(images, images=255 - images.images),
        replace(images, names=tuple(reversed(images.names))),
        replace(images, groups=images.names),
        replace(images, spacing_mm=np.ones((len(images), 2))),
        replace(images, mask_names=("background", "dot", "bar")),
    ]
    assert len({pairs_digest(each) for each in changed}) == len(changed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schedule", {"num_images": 100, "learning_rate": 0.1}),
        ("init", "some-model"),
        ("privacy", {"epsilon": 1.0, "delta": 1e-3}),
    ],
)
def test_what_belongs_to_steps_is_left_out(
    field: str, value: object, spec: MeanSpec, data: Path
) -> None:
    with pytest.raises(InvalidRecipe, match=field):
        parsed(content(data) | {field: value})


def test_what_it_is_fitted_to_is_needed(spec: MeanSpec, data: Path, tmp_path: Path) -> None:
    bare = content(data)
    del bare["data"]["condition"], bare["data"]["class_names"]
    with pytest.raises(InvalidRecipe, match=r"data\.condition"):
        parsed(bare)
    greedy = content(data)
    greedy["data"]["held_out"] = 48
    with pytest.raises(InputError, match="leaves none to train on"):
        train_model(parsed(greedy), out=tmp_path / "m", work=tmp_path / "work")
    assert spec.seen == []
