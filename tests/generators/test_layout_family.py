from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datagen.conditions import Conditioner
from datagen.errors import DatagenError, InputError, ModelError
from datagen.generators.conditioning.options import EditingOptions
from datagen.generators.interface import ModelConfig
from datagen.generators.layout.fit import fit_layout
from datagen.generators.layout.model import Layout, digest_of, layout_of
from datagen.generators.layout.options import LayoutNetwork
from datagen.generators.layout.spec import LayoutSpec
from datagen.generators.model_directory import Model, save_model
from datagen.generators.model_facts import ModelFacts
from datagen.image_set import ImageSet
from datagen.label_checks import check_labels
from datagen.labels import Mask
from datagen.training.session import train_model
from tests.training.tiny_pairs import NAMES, pairs_content, parsed, write_pairs

SIZE = (40, 36)
HEAD_NAMES = ("background", "skull", "brain", "core")
SPOT_NAMES = ("background", "body", "shell", "core")
SEEDS = range(40)

Masks = NDArray[np.uint8]


def ellipse(mask: Mask, value: int, y: float, x: float, half: float, wide: float) -> None:
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    mask[((rows - y) / half) ** 2 + ((columns - x) / wide) ** 2 <= 1] = value


def heads(num: int, size: tuple[int, int] = SIZE) -> Masks:
    """Nested ellipses, from small ones without a core to large ones with it, as slices of a head at
    different heights."""
    rng = np.random.default_rng(1)
    masks = np.zeros((num, *size), np.uint8)
    for mask, level in zip(masks, np.linspace(0, 1, num), strict=True):
        y, x = size[0] / 2 + rng.normal() * 0.7, size[1] / 2 + rng.normal() * 0.7
        half, wide = size[0] * (0.2 + 0.2 * level), size[1] * (0.18 + 0.2 * level)
        ellipse(mask, 1, y, x, half, wide)
        ellipse(mask, 2, y, x, half * rng.uniform(0.75, 0.85), wide * rng.uniform(0.75, 0.85))
        if level > 0.5:
            ellipse(mask, 3, y, x, half * 0.3, wide * 0.3)
    return masks


def spotted(num: int) -> Masks:
    """A body with 1 to 3 spots anywhere in it, each a core inside its shell."""
    rng = np.random.default_rng(2)
    masks = np.zeros((num, 48, 48), np.uint8)
    for index, mask in enumerate(masks):
        ellipse(mask, 1, 24 + rng.normal(), 24 + rng.normal(), 21 + rng.normal(), 20 + rng.normal())
        for spot in range(1 + index % 3):
            angle = 2 * np.pi * (spot / 3 + rng.random() / 4) + index
            y, x = 24 + 11 * np.sin(angle), 24 + 11 * np.cos(angle)
            ellipse(mask, 2, y, x, rng.uniform(2.5, 3.5), rng.uniform(2.5, 3.5))
            ellipse(mask, 3, y, x, 1.2, 1.2)
    return masks


def fitted(masks: Masks, names: tuple[str, ...], **options: Any) -> Layout:
    network, weights = fit_layout(masks, names, None, None, **options)
    assert tuple(LayoutNetwork.model_validate(network).names) == names
    return layout_of(weights, masks.shape[1:], num_names=len(names))


def drawn(layout: Layout) -> list[Mask]:
    return [layout.draw(np.random.default_rng(seed)) for seed in SEEDS]


def areas(masks: Masks | list[Mask], value: int) -> NDArray[np.int64]:
    return np.array([np.count_nonzero(mask == value) for mask in masks])


def dice(a: Mask, b: Mask) -> float:
    """Of all classes beside the background."""
    shared = np.count_nonzero((a == b) & (a > 0))
    return float(2 * shared / (np.count_nonzero(a) + np.count_nonzero(b)))


@pytest.fixture(scope="module")
def head_layout() -> Layout:
    return fitted(heads(24), HEAD_NAMES)


@pytest.fixture(scope="module")
def spot_layout() -> Layout:
    return fitted(spotted(24), SPOT_NAMES)


def test_drawn_maps_are_like_those_of_the_data(head_layout: Layout) -> None:
    masks = drawn(head_layout)
    for mask in masks:
        assert mask.shape == SIZE
        assert mask.dtype == np.uint8
        assert np.unique(mask).max() < len(HEAD_NAMES)
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()
    for value in (1, 2, 3):
        real, made = areas(heads(24), value), areas(masks, value)
        assert real.min() * 0.7 <= made.min()
        assert made.max() <= real.max() * 1.3
        assert 0.6 < made.mean() / real.mean() < 1.5


def test_thin_parts_that_lie_elsewhere_in_each_map_are_kept() -> None:
    real = heads(6)
    skulls = areas(drawn(fitted(real, HEAD_NAMES)), 1)
    assert skulls.min() > 0.8 * areas(real, 1).min()


def test_slices_of_different_heights_stay_apart(head_layout: Layout) -> None:
    """The core is in large heads alone, in the data and in what is drawn."""
    masks = drawn(head_layout)
    whole, core = np.array([np.count_nonzero(mask) for mask in masks]), areas(masks, 3)
    real = heads(24)
    cored = np.count_nonzero(real, axis=(1, 2))[areas(real, 3) > 0]
    assert (core > 0).sum() in range(10, 31)
    assert whole[core > 0].min() > 0.8 * cored.min()
    assert whole[core == 0].max() < 1.3 * cored.min()


@pytest.mark.parametrize("num", [4, 24])
def test_no_drawn_map_is_a_copy(num: int) -> None:
    real = heads(num)
    for mask in drawn(fitted(real, HEAD_NAMES)):
        assert max(dice(mask, each) for each in real) < 0.995


def test_copies_and_near_copies_are_recognized(head_layout: Layout) -> None:
    real = heads(24)
    for mask in real:
        assert head_layout.is_copy(mask)
        speck = mask.copy()
        speck[0, 0] = 1
        assert head_layout.is_copy(speck), "no digest of it is known"
    assert not head_layout.is_copy(np.roll(real[12], 5, axis=0))


def test_a_copy_is_drawn_again(head_layout: Layout) -> None:
    """The map that a seed gives is put among the known ones: the seed then gives another."""
    first = head_layout.draw(np.random.default_rng(3))
    known = replace(head_layout, digests=frozenset({digest_of(first)}))
    second = known.draw(np.random.default_rng(3))
    assert not np.array_equal(first, second)
    assert np.array_equal(second, known.draw(np.random.default_rng(3)))


def test_scattered_objects_are_found_and_drawn_one_by_one(spot_layout: Layout) -> None:
    real = spotted(24)
    network, _ = fit_layout(real, SPOT_NAMES, None, None)
    assert network["objects"] == ["shell", "core"]
    masks = drawn(spot_layout)
    for mask in masks:
        cores = np.argwhere(mask == 3)
        # A core comes with its shell: what is beside it is of either.
        assert all(mask[y, x + 1] >= 2 or mask[y, x - 1] >= 2 for y, x in cores)
        assert not (mask[[0, -1]] > 1).any()
    shells = areas(masks, 2)
    assert shells.min() > 0
    assert 0.6 < shells.mean() / areas(real, 2).mean() < 1.4
    spots = [num_parts(mask > 1) for mask in masks]
    assert set(spots) == {1, 2, 3}


def num_parts(shown: NDArray[np.bool_]) -> int:
    import cv2

    return int(cv2.connectedComponents(shown.astype(np.uint8))[0]) - 1


def test_scenes_of_scattered_objects_alone() -> None:
    masks = spotted(12)
    masks[masks == 1] = 0
    layout = fitted(masks, SPOT_NAMES)
    made = drawn(layout)
    assert len({mask.tobytes() for mask in made}) == len(made)
    assert {value for mask in made for value in np.unique(mask).tolist()} == {0, 2, 3}


def test_objects_may_be_named(head_layout: Layout) -> None:
    network, weights = fit_layout(heads(24), HEAD_NAMES, None, None, objects=["core"])
    assert network["objects"] == ["core"]
    assert len(weights["pieces"]) == 12
    network, _ = fit_layout(spotted(8), SPOT_NAMES, None, None, objects=[])
    assert network["objects"] == []
    with pytest.raises(InputError, match=r"network\.objects: 'scull'.*skull"):
        fit_layout(heads(8), HEAD_NAMES, None, None, objects=["scull"])


def test_large_maps_are_fitted_in_squares_and_drawn_at_full_size() -> None:
    real = heads(6, (150, 131))
    layout = fitted(real, HEAD_NAMES)
    assert layout.mean.shape[1:] == (75, 66)
    mask = layout.draw(np.random.default_rng(0))
    assert mask.shape == (150, 131)
    assert max(dice(mask, each) for each in real) > 0.7


def test_the_class_of_the_image_decides_which_maps_it_is_like() -> None:
    real = heads(24)
    class_ids = (np.arange(24) >= 12).astype(np.int64)
    layout = fitted(real, HEAD_NAMES, class_ids=class_ids)
    for seed in range(12):
        small, large = (layout.draw(np.random.default_rng(seed), each) for each in (0, 1))
        assert np.count_nonzero(small == 3) < np.count_nonzero(large == 3)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (heads(3), "3 different label maps.*expected 4 or more"),
        (np.zeros((5, *SIZE), np.uint8), "only the background"),
        (np.repeat(heads(5)[4:], 5, axis=0), "1 different label maps"),
        (heads(5) * 3, "value 9; expected values from 0 to 3"),
    ],
)
def test_data_that_make_no_layout_are_refused(masks: Masks, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_layout(masks, HEAD_NAMES, None, None)


def test_a_spacing_is_told_where_it_is_the_same() -> None:
    even = np.tile([1.5, 0.9], (5, 1))
    assert fit_layout(heads(5), HEAD_NAMES, None, even)[0]["spacing_mm"] == [1.5, 0.9]
    even[2] = [3.0, 0.9]
    assert fit_layout(heads(5), HEAD_NAMES, None, even)[0]["spacing_mm"] is None


@pytest.fixture(scope="module")
def images() -> ImageSet:
    masks = heads(24)
    return ImageSet(
        masks[..., None] * np.uint8(60),
        (np.arange(24) >= 12).astype(np.int64),
        ("low", "high"),
        tuple(f"{row}.png" for row in range(24)),
        masks=masks,
        mask_names=HEAD_NAMES,
        spacing_mm=np.tile([2.0, 1.0], (24, 1)),
    )


@pytest.fixture(scope="module")
def model(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Model:
    made = LayoutSpec().fitted(images, LayoutNetwork(), kind="mask", seed=1)
    config = ModelConfig("layout", images.class_names, SIZE, 1, made.network)
    facts = ModelFacts(licence="Apache-2.0", source="drawn by a test")
    return save_model(
        tmp_path_factory.mktemp("models") / "m", config, made.weights, facts, card="\n"
    )


@pytest.fixture
def conditioner_of(model: Model) -> Callable[..., Conditioner]:
    def make(
        kind: Any = "mask",
        size: tuple[int, int] = SIZE,
        weights: Path | None = None,
        **options: Any,
    ) -> Conditioner:
        return LayoutSpec().conditioner(
            model.config,
            weights or model.weights,
            EditingOptions.model_validate(options),
            kind=kind,
            image_size=size,
            splits={"train": 1.0},
        )

    return make


def test_a_condition_is_a_function_of_its_seed(conditioner_of: Callable[..., Conditioner]) -> None:
    conditioner = conditioner_of()
    first = [conditioner.draw(seed, "low", "train") for seed in (5, 6, 2**63 - 1)]
    again = [conditioner_of().draw(seed, "low", "test") for seed in (5, 6, 2**63 - 1)]
    for one, other in zip(first, again, strict=True):
        assert one.mask is not None
        assert other.mask is not None
        assert np.array_equal(one.mask, other.mask)
        assert one.labels.objects == other.labels.objects
        check_labels(one.labels, SIZE, names=conditioner.names)
        assert one.labels.spacing_mm == (2.0, 1.0)
    assert len({each.mask.tobytes() for each in first if each.mask is not None}) == 3
    assert conditioner.draw(5, "a new class", "train").labels.class_name == "a new class"


def test_edits_in_millimetres_and_boxes(conditioner_of: Callable[..., Conditioner]) -> None:
    edits = [{"add": "lesion", "size_mm": [4, 5], "region": "brain"}]
    edited = conditioner_of(edits=edits)
    assert edited.names == (*HEAD_NAMES, "lesion")
    assert edited.label_kinds == {"mask", "instances"}
    mask = edited.draw(1, "high", "train").mask
    assert mask is not None
    assert np.count_nonzero(mask == 4) * 2 == pytest.approx(np.pi * 4.5**2 / 4, abs=5)
    boxes = conditioner_of("layout")
    condition = boxes.draw(1, "high", "train")
    assert boxes.label_kinds == {"boxes"}
    assert condition.mask is None
    assert condition.labels.mask is None
    assert {each.class_name for each in condition.labels.objects or ()} == set(HEAD_NAMES[1:])


def test_what_it_cannot_draw_is_refused(
    conditioner_of: Callable[..., Conditioner], model: Model
) -> None:
    for kind in ("image", "inpaint"):
        with pytest.raises(ModelError, match=f"not {kind}; use a model of generator condition_set"):
            conditioner_of(kind)
    with pytest.raises(ModelError, match="40 x 36 pixels, and the images 64 x 64"):
        conditioner_of(size=(64, 64))
    spec = LayoutSpec()
    with pytest.raises(ModelError, match="makes no images"):
        spec.load(model.config, model.weights, spec.options(), batch_size=1)
    with pytest.raises(ModelError, match="without steps"):
        spec.objective(model.config, spec.objective_options(), seed=0)


def test_the_weights_are_read_by_the_first_draw(
    conditioner_of: Callable[..., Conditioner], tmp_path: Path
) -> None:
    late = conditioner_of(weights=tmp_path / "none.safetensors")
    assert late.names == HEAD_NAMES
    with pytest.raises((DatagenError, OSError)):
        late.draw(1, "low", "train")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("values", torch.full((4,), 9.0)),
        ("mean", torch.zeros(4, 10, 9)),
        ("points", torch.zeros(24, 1)),
        ("areas", torch.zeros(24, 3)),
        ("map_classes", torch.zeros(3)),
        ("pieces", torch.full((1, 10), 30.0)),
    ],
)
def test_weights_of_another_model_are_refused(
    name: str, tensor: torch.Tensor, model: Model, images: ImageSet
) -> None:
    made = LayoutSpec().fitted(images, LayoutNetwork(), kind="mask", seed=1)
    weights = {key: value.numpy() for key, value in (made.weights | {name: tensor}).items()}
    with pytest.raises(ModelError, match=r"do not fit its config\.json"):
        layout_of(weights, SIZE, num_names=len(HEAD_NAMES))


def test_pictures_make_no_layout(images: ImageSet) -> None:
    with pytest.raises(InputError, match="fitted to label maps"):
        LayoutSpec().fitted(replace(images, masks=None), LayoutNetwork(), kind="image", seed=1)
    with pytest.raises(InputError, match=r"network\.names: expected it left out"):
        LayoutSpec().fitted(images, LayoutNetwork(names=HEAD_NAMES), kind="mask", seed=1)


def test_a_model_recipe_makes_a_layout_and_makes_it_again(tmp_path: Path) -> None:
    content = pairs_content("edm", write_pairs(tmp_path / "pairs")) | {"generator": "layout"}
    for field in ("network", "objective", "schedule"):
        del content[field]
    recipe = parsed(content)
    model = train_model(recipe, out=tmp_path / "m", work=tmp_path / "work")
    again = train_model(recipe, out=tmp_path / "n", work=tmp_path / "other")
    assert again.digest == model.digest
    assert model.config.network["names"] == NAMES
    assert "36 of 36 label maps" in (model.path / "README.md").read_text()
    conditioner = LayoutSpec().conditioner(
        model.config,
        model.weights,
        EditingOptions(),
        kind="mask",
        image_size=model.config.image_size,
        splits={"train": 1.0},
    )
    check_labels(
        conditioner.draw(1, "any", "train").labels, model.config.image_size, names=tuple(NAMES)
    )
