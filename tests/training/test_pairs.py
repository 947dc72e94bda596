from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datagen.conditions import Condition, ConditionConfig
from datagen.errors import InputError, ModelError
from datagen.generators.encoding import encode
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import load_model
from datagen.images import decode_png
from datagen.labels import Labels
from datagen.recipe import InvalidRecipe
from datagen.training.dataset import RealImages, read_training_images, real_images
from datagen.training.judge import Drawn, HeldOutJudge
from datagen.training.model_recipe import ModelRecipe, model_recipe_digest
from datagen.training.pairs import (
    boxes_of,
    condition_config,
    held_out_conditions,
    picture_of,
    planes_of,
)
from datagen.training.session import train_model
from tests.training.tiny_data import tiny_recipe
from tests.training.tiny_pairs import NAMES, pairs_content, pairs_recipe, parsed, write_pairs

MASK = ConditionConfig("mask", tuple(NAMES))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def read(recipe: ModelRecipe) -> RealImages:
    return real_images(read_training_images(recipe.data))


@pytest.mark.parametrize("generator", ["edm", "spade"])
def test_a_training_on_pairs_writes_a_model_that_draws_with_label_maps(
    generator: str, data: Path, tmp_path: Path
) -> None:
    recipe = pairs_recipe(generator, data)
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    assert load_model(model.path).config.condition == MASK
    assert model.config.class_names == ("slice",)
    sampler: Any = model.spec.load(model.config, model.weights, model.spec.options(), batch_size=2)
    masks = [np.full((8, 8), value, np.uint8) for value in (0, 1)]
    drawn = [Condition(Labels("slice"), mask=mask) for mask in masks]
    images = sampler.sample_conditioned([5, 5], [0, 0], drawn)
    assert images.shape == (2, 8, 8, 1)
    with pytest.raises(ModelError, match="takes a condition of kind mask"):
        sampler.sample([5], [0])
    (grid,) = sorted((tmp_path / "work" / "grids").iterdir())
    # condition, sample and real image; the card shows no real one.
    heights = [decode_png(p.read_bytes()).shape[0] for p in (grid, model.path / "samples.png")]
    assert heights[0] > heights[1] > heights[0] // 2
    card = (model.path / "README.md").read_text()
    assert "The same recipe, images with what lies beside them and machine give" in card
    assert "a condition of kind mask: background, bar, dot" in card
    assert "No real picture is shown" in card


def test_the_condition_shapes_what_spade_draws(data: Path, tmp_path: Path) -> None:
    recipe = pairs_recipe("spade", data, num_images=800, evaluate_every_images=800)
    recipe = recipe.model_copy(update={"network": {"latent_dim": 4, "widths": [16, 8]}})
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    real = read(recipe)
    sampler: Any = model.spec.load(model.config, model.weights, model.spec.options(), batch_size=48)
    images = sampler.sample_conditioned(list(range(48)), [0] * 48, held_out_conditions(real, MASK))
    assert real.masks is not None
    bars, grounds = (images[..., 0][real.masks == value].mean() for value in (1, 0))
    assert bars > grounds + 40


def test_a_prolonged_training_on_pairs_equals_one_that_was_long(data: Path, tmp_path: Path) -> None:
    """Step by step through checkpoints: the rows of step k and their conditions come from k."""
    recipe = pairs_recipe("spade", data)
    whole = train_model(recipe, out=tmp_path / "a", work=tmp_path / "wa")
    train_model(recipe, out=tmp_path / "b", work=tmp_path / "wb", num_images=16)
    long = train_model(recipe, out=tmp_path / "c", work=tmp_path / "wb")
    assert long.digest == whole.digest


def test_the_same_images_with_other_label_maps_are_other_data(data: Path) -> None:
    real = read(pairs_recipe("edm", data))
    assert real.masks is not None
    other = replace(real, masks=real.masks[::-1].copy())
    assert real.digest() != other.digest() != replace(real, masks=None).digest()


def test_label_maps_lie_anywhere_if_the_recipe_says_where(data: Path, tmp_path: Path) -> None:
    os.symlink(data / "masks", tmp_path / "maps")
    condition = {"kind": "mask", "names": NAMES, "path": str(tmp_path / "maps")}
    here = pairs_recipe("edm", data / "images", condition=condition)
    assert read(here).digest() == read(pairs_recipe("edm", data)).digest()
    # Where they lie does not count, what they are called does.
    assert model_recipe_digest(here) == model_recipe_digest(pairs_recipe("edm", data))
    renamed = {"kind": "mask", "names": [*NAMES[:2], "spot"]}
    assert model_recipe_digest(pairs_recipe("edm", data, condition=renamed)) != (
        model_recipe_digest(here)
    )


def test_a_recipe_without_pairs_keeps_its_digest(tmp_path: Path) -> None:
    assert "condition" not in tiny_recipe("edm", tmp_path).data.model_dump(exclude_defaults=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"generator": "cgan", "network": {}, "objective": {}}, "generator"),
        ({"generator": "spade", "network": {}, "condition": {"kind": "image"}}, "generator"),
        ({"condition": {"kind": "image", "names": ["a", "b"]}}, "data.condition.names"),
        ({"condition": {"kind": "mask", "derive": "edges"}}, "data.condition.derive"),
        ({"condition": {"kind": "mask", "names": ["a", "a"]}}, "data.condition.names"),
        ({"condition": {"kind": "mask", "names": ["a", "background"]}}, "data.condition.names"),
        ({"condition": {"kind": "mask", "names": ["a", "b"], "values": [1]}}, "values"),
        (
            {"condition": {"kind": "mask", "names": ["a", "b"], "colours": [[0, 0, 0]]}},
            "data.condition.colours",
        ),
        (
            {
                "condition": {
                    "kind": "mask",
                    "names": ["a", "b"],
                    "values": [0, 1],
                    "colours": [[0, 0, 0], [1, 1, 1]],
                }
            },
            "data.condition.colours",
        ),
        ({"privacy": {"epsilon": 1.0, "delta": 1e-3}}, "privacy"),
    ],
)
def test_what_does_not_go_together_is_refused(
    changes: dict[str, Any], field: str, data: Path
) -> None:
    content = pairs_content("edm", data)
    if "condition" in changes:
        content["data"]["condition"] = changes.pop("condition")
    with pytest.raises(InvalidRecipe, match=field):
        parsed(content | changes)


def test_spade_without_label_maps_is_refused(data: Path) -> None:
    content = pairs_content("spade", data)
    del content["data"]["condition"], content["data"]["class_names"]
    with pytest.raises(InvalidRecipe, match=r"data\.condition"):
        parsed(content)


def test_classes_that_are_none_of_the_recipe_are_told(data: Path) -> None:
    content = pairs_content("edm", data)
    del content["data"]["condition"]
    content["data"]["class_names"] = ["knee", "hip"]
    with pytest.raises(InputError, match=r"classes images, masks; expected some of .*knee, hip"):
        read(parsed(content))


def test_images_without_a_label_map_stop_the_training(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs")
    (folder / "masks" / "007.png").unlink()
    with pytest.raises(InputError, match=r"007\.png.*no label map lies beside it"):
        read(pairs_recipe("edm", folder))
    for path in (folder / "masks").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no image file in it"):
        read(pairs_recipe("edm", folder))


def test_pairs_that_lie_nowhere_are_asked_for(data: Path) -> None:
    with pytest.raises(InputError, match=r"no label maps lie beside.*data\.condition\.path"):
        read(pairs_recipe("edm", data / "images"))
    nameless = pairs_recipe("edm", data, condition={"kind": "mask"})
    with pytest.raises(InputError, match=r"data\.condition\.names"):
        read(nameless)


def test_values_without_a_name_are_told(data: Path) -> None:
    condition = {"kind": "mask", "names": NAMES[:2]}
    with pytest.raises(InputError, match="values without a name: 2; expected 0 background, 1 bar"):
        read(pairs_recipe("edm", data, condition=condition))


def test_values_of_files_become_numbers_of_names(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", 12)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.array([0, 90, 255], np.uint8)[np.asarray(Image.open(path))]).save(path)
    condition = {"kind": "mask", "names": NAMES, "values": [0, 90, 255]}
    content = pairs_content("edm", folder, condition=condition)
    masks = read(parsed(content)).masks
    assert masks is not None
    assert np.unique(masks).tolist() == [0, 1, 2]


def test_colours_of_files_become_numbers_of_names(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", 12)
    expected = read(pairs_recipe("edm", folder)).masks
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255]], np.uint8)
    for path in (folder / "masks").iterdir():
        Image.fromarray(colours[np.asarray(Image.open(path))]).save(path)
    condition = {"kind": "mask", "names": NAMES, "colours": colours.tolist()}
    recipe = pairs_recipe("edm", folder, condition=condition)
    np.testing.assert_array_equal(read(recipe).masks, expected)
    plain = pairs_recipe("edm", folder)
    assert model_recipe_digest(recipe) != model_recipe_digest(plain)
    condition["colours"][1] = [254, 0, 0]
    with pytest.raises(InputError, match=r"colours without a meaning, \[255, 0, 0\] among them"):
        read(pairs_recipe("edm", folder, condition=condition))
    with pytest.raises(InputError, match=r"of kind RGB; .* say which colour each name has"):
        read(plain)


def test_edges_and_low_resolutions_are_derived(data: Path) -> None:
    edges = pairs_recipe("edm", data / "images", condition={"kind": "image", "derive": "edges"})
    real = read(edges)
    assert real.pictures is not None
    assert real.pictures.shape == (48, 8, 8, 1)
    # Bars differ from the ground by 100: edges lie at their rims, not inside the noise.
    assert real.pictures.max() > 150
    condition = {"kind": "image", "derive": "low_resolution", "factor": 2}
    low = read(pairs_recipe("edm", data / "images", condition=condition))
    assert low.pictures is not None
    rough = np.abs(np.diff(low.pictures.astype(int), axis=2)).mean()
    assert rough < np.abs(np.diff(low.images.astype(int), axis=2)).mean()


@pytest.mark.parametrize(
    ("condition", "config"),
    [
        ({"kind": "image", "derive": "edges"}, ConditionConfig("image", (), 1)),
        ({"kind": "layout", "names": NAMES}, ConditionConfig("layout", tuple(NAMES))),
    ],
)
def test_pictures_and_boxes_train_edm(
    condition: dict[str, Any], config: ConditionConfig, data: Path, tmp_path: Path
) -> None:
    recipe = pairs_recipe("edm", data, condition=condition, num_images=16)
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    assert model.config.condition == config


def test_an_inpainted_image_is_the_picture_outside_its_hole(data: Path, tmp_path: Path) -> None:
    condition = {"kind": "inpaint", "names": NAMES}
    recipe = pairs_recipe("edm", data, condition=condition, num_images=16)
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    real = read(recipe)
    assert model.config.condition == ConditionConfig("inpaint", tuple(NAMES), 1)
    conditions = held_out_conditions(real.take(np.arange(4)), model.config.condition)
    sampler: Any = model.spec.load(model.config, model.weights, model.spec.options(), batch_size=4)
    images = sampler.sample_conditioned([1, 2, 3, 4], [0] * 4, conditions)
    for image, condition in zip(images, conditions, strict=True):
        hole = condition.region
        assert hole is not None
        assert condition.image is not None
        assert np.array_equal(image[~hole], condition.image[~hole])
        assert not np.array_equal(image[hole], condition.image[hole])


def test_holes_of_a_step_come_from_the_step_alone(data: Path) -> None:
    recipe = pairs_recipe("edm", data, condition={"kind": "inpaint", "names": NAMES})
    real = read(recipe)
    config = condition_config(recipe.data.condition, read_training_images(recipe.data).images)
    assert config is not None

    def planes(seed: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        return planes_of(real, config, step_rng=rng, device="cpu")

    assert torch.equal(planes(1), planes(1))
    assert not torch.equal(planes(1), planes(2))
    rng = torch.Generator().manual_seed(1)
    before = rng.get_state()
    planes_of(real, MASK, step_rng=rng, device="cpu")
    assert torch.equal(rng.get_state(), before)


def test_boxes_surround_each_piece() -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[1:3, 2:5] = 1
    mask[4, 7] = 1
    mask[5, 0] = 2
    found = {(o.class_name, o.box_xyxy) for o in boxes_of(mask, NAMES)}
    assert found == {
        ("bar", (2.0, 1.0, 5.0, 3.0)),
        ("bar", (7.0, 4.0, 8.0, 5.0)),
        ("dot", (0.0, 5.0, 1.0, 6.0)),
    }


def test_training_and_sampling_encode_alike(data: Path) -> None:
    real = read(pairs_recipe("edm", data))
    trained = planes_of(real, MASK, step_rng=torch.Generator(), device="cpu")
    drawn = held_out_conditions(real, MASK)
    assert np.array_equal(trained.numpy(), encode(drawn, MASK, size=(8, 8)))


def test_samples_are_drawn_with_held_out_conditions_in_turn(data: Path) -> None:
    recipe = pairs_recipe("edm", data)
    real = read(recipe).take(np.arange(3))
    config = config_of(MASK)
    asked: list[Condition] = []

    class Sampler:
        batch_size = 2

        def sample_conditioned(
            self, seeds: list[int], class_ids: list[int], conditions: list[Condition]
        ) -> np.ndarray[Any, Any]:
            asked.extend(conditions)
            return np.zeros((len(seeds), 8, 8, 1), np.uint8)

    Drawn(real, config).samples(Sampler(), 0, 5)  # type: ignore[arg-type]
    assert real.masks is not None
    for condition, row in zip(asked, [0, 1, 2, 0, 1], strict=True):
        assert np.array_equal(condition.mask, real.masks[row])


def config_of(condition: ConditionConfig) -> Any:

    return ModelConfig("edm", ("slice",), (8, 8), 1, {}, condition)


def test_one_class_gives_the_judge_features_that_tell_images_apart(data: Path) -> None:
    real = read(pairs_recipe("edm", data))
    judge = HeldOutJudge(
        real.take(np.arange(36)), real.take(np.arange(36, 48)), config=config_of(MASK), seed=0
    )
    assert judge.features[0].std(axis=0).max() > 0


def test_conditions_are_shown_in_colours() -> None:
    mask = np.array([[0, 1], [2, 2]], np.uint8)
    shown = picture_of(Condition(Labels("slice"), mask=mask), MASK, (2, 2))
    assert shown.shape == (2, 2, 3)
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert len({tuple(pixel) for pixel in shown.reshape(-1, 3).tolist()}) == 3


def test_a_training_starts_from_a_model_of_the_same_condition_alone(
    data: Path, tmp_path: Path
) -> None:
    first = train_model(pairs_recipe("edm", data, num_images=8), out=tmp_path / "m", work=tmp_path)
    shuffled = {"kind": "mask", "names": [NAMES[0], NAMES[2], NAMES[1]]}
    for condition in (shuffled, {"kind": "inpaint"}):
        recipe = pairs_recipe("edm", data, condition=condition)
        work = tmp_path / str(condition["kind"])
        with pytest.raises(InputError, match="it takes a condition of kind mask"):
            train_model(recipe, out=tmp_path / "n", work=work, init=str(first.path))
    recipe = pairs_recipe("edm", data, num_images=8)
    second = train_model(recipe, out=tmp_path / "o", work=tmp_path / "x", init=str(first.path))
    assert second.facts.parent == first.digest
