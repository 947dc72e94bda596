"""Sets of label maps and pictures: what they draw, and how they are shared out among splits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from datagen.conditions import Condition, Conditioner, ConditionKind, condition_digest
from datagen.errors import InputError, ModelError
from datagen.generators.condition_set import fit
from datagen.generators.condition_set.items import (
    Items,
    checked_name,
    joined_groups,
    load_items,
    split_of_groups,
)
from datagen.generators.condition_set.options import ConditionSetOptions
from datagen.generators.condition_set.spec import ConditionSetSpec
from datagen.generators.interface import ModelConfig
from datagen.generators.model_directory import Model, load_model, save_model
from datagen.image_set import ImageSet
from datagen.label_checks import check_labels
from datagen.real_images.derived import derived
from tests.generators.tiny_models import FACTS

SIZE = (40, 48)
NAMES = ("background", "organ", "lesion")
SPLITS = {"train": 0.75, "val": 0.25}
NUM = 24


def images_of(**changes: Any) -> ImageSet:
    """Two slices of each of twelve patients. An organ from row 8 and column 8 on, so much larger
    with each; every third has a lesion of two pixels. The picture shows the label map."""
    masks = np.zeros((NUM, *SIZE), np.uint8)
    for index, mask in enumerate(masks):
        mask[8 : 32 + index // 4, 8 : 30 + index // 2] = 1
        if index % 3 == 0:
            mask[20, 12:14] = 2
    content: dict[str, Any] = {
        "images": (masks * 100 + 20)[..., None],
        "class_ids": np.arange(NUM) % 2,
        "class_names": ("sick", "well"),
        "names": tuple(f"p{i // 2}/{i:03d}" for i in range(NUM)),
        "groups": tuple(f"p{i // 2}" for i in range(NUM)),
        "masks": masks,
        "conditions": (masks * 60)[..., None],
        "mask_names": NAMES,
        "spacing_mm": np.full((NUM, 2), 1.0) * (1.0, 0.5),
    }
    return ImageSet(**(content | changes))


def fitted(folder: Path, kind: ConditionKind = "mask", **changes: Any) -> Model:
    images, spec = images_of(**changes), ConditionSetSpec()
    found = spec.fitted(images, spec.network_options(), kind=kind, seed=0)
    config = ModelConfig("condition_set", images.class_names, SIZE, 1, found.network)
    return save_model(folder, config, found.weights, FACTS, card="# a test\n")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Model]:
    folder = tmp_path_factory.mktemp("sets")
    kinds: tuple[ConditionKind, ...] = ("mask", "image", "inpaint")
    found = {kind: fitted(folder / kind, kind) for kind in kinds}
    bare = {"masks": None, "mask_names": (), "spacing_mm": None, "groups": None}
    return found | {"bare": fitted(folder / "bare", "inpaint", **bare)}


def drawer(
    model: Model,
    kind: ConditionKind = "mask",
    *,
    splits: Mapping[str, float] = SPLITS,
    size: tuple[int, int] = SIZE,
    **options: Any,
) -> Conditioner:
    return ConditionSetSpec().conditioner(
        model.config,
        model.weights,
        ConditionSetOptions.model_validate(options),
        kind=kind,
        image_size=size,
        splits=splits,
    )


def index_of(condition: Condition) -> int:
    assert condition.labels.source is not None
    return int(condition.labels.source.partition("/")[2])


def test_items_come_as_they_are_with_their_labels(models: Mapping[str, Model]) -> None:
    conditioner = drawer(models["mask"])
    assert (conditioner.names, conditioner.has_pools) == (NAMES, True)
    assert conditioner.label_kinds == {"mask", "instances"}
    for seed in range(12):
        condition = conditioner.draw(seed, "other", "train")
        labels = condition.labels
        assert np.array_equal(condition.mask, images_of().masks[index_of(condition)])
        assert condition.image is None
        check_labels(labels, SIZE, NAMES)
        assert labels.objects
        shown = {each.class_name for each in labels.objects}
        assert shown == ({"organ", "lesion"} if index_of(condition) % 3 == 0 else {"organ"})
        assert labels.spacing_mm == (1.0, 0.5)


def test_items_are_read_by_the_first_draw(models: Mapping[str, Model], tmp_path: Path) -> None:
    conditioner = drawer(replace(models["mask"], weights=tmp_path / "nowhere"))
    assert conditioner.names == NAMES
    with pytest.raises(ModelError, match="nowhere: cannot be read"):
        conditioner.draw(0, "other", "train")


def test_a_set_of_label_maps_keeps_no_images(models: Mapping[str, Model]) -> None:
    model = models["mask"]
    assert model.weights is not None
    assert load_items(model.weights, model.config).images is None


def test_no_patient_is_in_two_splits_and_every_one_in_one(models: Mapping[str, Model]) -> None:
    conditioner, seen = drawer(models["mask"]), {}
    for split in SPLITS:
        drawn = (conditioner.draw(seed, "other", split) for seed in range(300))
        seen[split] = {str(each.labels.source).partition("/")[0] for each in drawn}
    assert (len(seen["train"]), len(seen["val"])) == (9, 3)
    assert not seen["train"] & seen["val"]


@pytest.mark.parametrize("num", [3, 4, 7, 100])
def test_splits_take_their_shares_of_groups(num: int) -> None:
    groups = [f"g{i}" for i in range(num)]
    ratios = {"train": 0.8, "val": 0.1, "test": 0.1}
    dealt = split_of_groups(groups, ratios)
    assert dealt == split_of_groups(groups[::-1] * 2, dict(reversed(ratios.items())))
    assert dealt.keys() == set(groups)
    counts = {split: list(dealt.values()).count(split) for split in ratios}
    for split, ratio in ratios.items():
        assert max(1, int(ratio * num) - 1) <= counts[split] <= max(1, ratio * num + 1)


def test_a_class_that_the_set_has_draws_its_own_items(models: Mapping[str, Model]) -> None:
    found = [drawer(models["mask"]).draw(seed, "well", "train") for seed in range(30)]
    assert {index_of(each) % 2 for each in found} == {1}
    others = drawer(models["mask"], same_class=False)
    assert {index_of(others.draw(s, "well", "train")) % 2 for s in range(30)} == {0, 1}


_DEFORM = {
    "affine": {"rotate_deg": 10, "scale": [0.9, 1.1], "translate": 0.1},
    "elastic": {"alpha_px": 2, "sigma_px": 6},
}


def test_labels_are_exact_after_deformations_and_edits(models: Mapping[str, Model]) -> None:
    """A lesion of 6 to 10 mm lies in the moved organ and has that diameter, within a pixel."""
    edit = {"add": "nodule", "size_mm": [6, 10], "region": "organ", "classes": ["sick"]}
    edited = drawer(models["mask"], deform=_DEFORM, edits=[edit])
    moved = drawer(models["mask"], deform=_DEFORM)
    assert edited.names == (*NAMES, "nodule")
    for seed in range(15):
        condition, before = (each.draw(seed, "sick", "train") for each in (edited, moved))
        assert condition.mask is not None
        assert before.mask is not None
        check_labels(condition.labels, SIZE, edited.names)
        added = condition.mask == 3
        assert (before.mask[added] == 1).all(), "inside the organ as it lies after the move"
        assert np.array_equal(condition.mask[~added], before.mask[~added])
        diameter = 2 * np.sqrt(np.count_nonzero(added) * 0.5 / np.pi)
        assert 5.5 <= diameter <= 10.5
        assert not (edited.draw(seed, "well", "train").mask == 3).any()


def test_a_name_that_no_set_could_be_read_with_is_refused_when_it_is_fitted() -> None:
    names = ("x" * 256, *(f"p/{i:03d}" for i in range(1, NUM)))
    spec = ConditionSetSpec()
    with pytest.raises(InputError, match="at most 255 characters"):
        spec.fitted(images_of(names=names), spec.network_options(), kind="mask", seed=0)


def test_items_without_room_for_an_edit_are_passed_over(models: Mapping[str, Model]) -> None:
    """Only every third shows a lesion, in which the dot is to lie."""
    edit = {"add": "dot", "size_px": [1, 1], "region": "lesion"}
    conditioner = drawer(models["mask"], edits=[edit])
    for seed in range(15):
        drawn = conditioner.draw(seed, "other", "train")
        assert index_of(drawn) % 3 == 0
        assert (drawn.mask == 3).sum() == 1
    few = drawer(models["mask"], edits=[edit | {"num": [0, 1]}])
    assert {index_of(few.draw(seed, "other", "train")) % 3 for seed in range(15)} == {0, 1, 2}
    large = drawer(models["mask"], edits=[edit | {"size_px": [9, 9]}])
    with pytest.raises(ModelError, match=r"^edits: 32 conditions.*'other'"):
        large.draw(0, "other", "train")


def test_boxes_are_those_of_the_parts(models: Mapping[str, Model]) -> None:
    layout, mask = (drawer(models["mask"], kind) for kind in ("layout", "mask"))
    assert layout.label_kinds == {"boxes"}
    for seed in range(5):
        drawn = layout.draw(seed, "sick", "train")
        assert (drawn.mask, drawn.labels.mask, drawn.labels.instances) == (None, None, None)
        assert drawn.labels.objects == mask.draw(seed, "sick", "train").labels.objects


def test_objects_are_the_classes_that_count(models: Mapping[str, Model]) -> None:
    conditioner = drawer(models["mask"], objects=["lesion"])
    found = [conditioner.draw(seed, "other", "train").labels for seed in range(20)]
    assert {each.class_name for labels in found for each in labels.objects or ()} == {"lesion"}


def test_pictures_move_with_their_label_maps(models: Mapping[str, Model]) -> None:
    conditioner = drawer(models["inpaint"], "image", deform={"affine": {"translate": 0.2}})
    for seed in range(6):
        drawn = conditioner.draw(seed, "other", "train")
        assert drawn.image is not None
        assert drawn.labels.mask is not None
        assert drawn.image[drawn.labels.mask == 1].mean() > 100


@pytest.mark.parametrize("derive", ["edges", "low_resolution"])
def test_pictures_are_derived_as_in_a_training(derive: Any, models: Mapping[str, Model]) -> None:
    options = {"derive": derive} | ({"factor": 3} if derive == "low_resolution" else {})
    drawn = drawer(models["inpaint"], "image", **options).draw(3, "other", "train")
    image = images_of().images[[index_of(drawn)]]
    assert np.array_equal(drawn.image, derived(image, derive, factor=3)[0])


def test_a_set_of_pictures_draws_the_pictures(models: Mapping[str, Model]) -> None:
    drawn = drawer(models["image"], "image").draw(3, "other", "train")
    assert np.array_equal(drawn.image, images_of().conditions[index_of(drawn)])


@pytest.mark.parametrize("shape", ["ellipse", "blob", "box"])
def test_an_object_is_painted_where_the_image_is_made_anew(
    shape: str, models: Mapping[str, Model]
) -> None:
    region = {"shape": shape, "size_px": [5, 8], "inside": "organ"}
    conditioner = drawer(models["inpaint"], "inpaint", region=region, object="lesion")
    for seed in range(10):
        drawn = conditioner.draw(seed, "other", "train")
        known = images_of().masks[index_of(drawn)]
        assert drawn.region is not None
        assert drawn.mask is not None
        assert (drawn.mask[drawn.region] == 2).all()
        assert np.array_equal(drawn.mask[~drawn.region], known[~drawn.region])
        if shape != "box":
            assert (known[drawn.region] == 1).all()
        assert 4.5 <= 2 * np.sqrt(drawn.region.sum() / np.pi) <= 8.5
        check_labels(drawn.labels, SIZE, NAMES)
        assert drawn.labels.objects
        painted = drawn.labels.objects[-1]
        assert painted.class_name == "lesion"
        assert drawn.labels.instances is not None
        own = drawn.labels.instances == len(drawn.labels.objects)
        assert np.array_equal(own, drawn.region)


def test_the_hole_may_be_wider_than_the_object(models: Mapping[str, Model]) -> None:
    region = {"shape": "ellipse", "size_px": [5, 5], "margin_px": 3, "inside": "organ"}
    drawn = drawer(models["inpaint"], "inpaint", region=region, object="new").draw(1, "x", "val")
    assert drawn.region is not None
    rows, columns = np.nonzero(drawn.mask == 3)
    hole = drawn.region[rows.min() - 3 : rows.max() + 4, columns.min() - 3 : columns.max() + 4]
    assert hole.all()
    assert hole.sum() == drawn.region.sum()


def test_what_a_label_map_shows_may_be_made_anew(models: Mapping[str, Model]) -> None:
    """Of the items that show it alone."""
    conditioner = drawer(models["inpaint"], "inpaint", region={"from": "lesion"})
    for seed in range(10):
        drawn = conditioner.draw(seed, "other", "train")
        assert np.array_equal(drawn.region, images_of().masks[index_of(drawn)] == 2)
        assert drawn.region is not None
        assert drawn.region.any()


def test_defects_are_painted_into_pictures_without_label_maps(models: Mapping[str, Model]) -> None:
    region = {"shape": "blob", "size_px": [4, 6]}
    conditioner = drawer(models["bare"], "inpaint", region=region, object="scratch")
    assert conditioner.names == ("background", "scratch")
    drawn = conditioner.draw(4, "other", "train")
    assert np.array_equal(drawn.mask == 1, drawn.region)
    nothing = drawer(models["bare"], "inpaint", region=region)
    assert (nothing.names, nothing.label_kinds) == ((), frozenset())
    assert nothing.draw(4, "other", "train").labels.objects is None


_ELLIPSE = {"shape": "ellipse", "size_px": [5, 5]}


@pytest.mark.parametrize(
    ("name", "kind", "options", "message"),
    [
        ("bare", "mask", {}, "no label maps"),
        ("mask", "image", {}, "no pictures"),
        ("mask", "inpaint", {"region": _ELLIPSE}, "no pictures"),
        ("mask", "mask", {"region": _ELLIPSE}, "^region: "),
        ("mask", "layout", {"object": "lesion"}, "^object: "),
        ("mask", "mask", {"derive": "edges"}, "^derive: "),
        ("inpaint", "image", {"factor": 3}, "^factor: "),
        ("inpaint", "image", {"edits": [{"remove": "lesion"}]}, "^edits: "),
        ("inpaint", "inpaint", {}, "^region: "),
        ("inpaint", "inpaint", {"region": {"from": "lesoin"}}, r"^region\.from: .*'lesion'"),
        ("inpaint", "inpaint", {"region": _ELLIPSE | {"inside": "x"}}, r"^region\.inside: 'x'"),
        ("inpaint", "inpaint", {"region": _ELLIPSE, "object": "background"}, "^object: "),
        ("bare", "inpaint", {"region": {"from": "lesion"}}, r"^region\.from: .*no label maps"),
        (
            "bare",
            "inpaint",
            {"region": {"shape": "box", "size_mm": [5, 5]}},
            r"^region\.size_mm: .*size_px",
        ),
        ("bare", "image", {"objects": ["x"]}, "^objects: "),
        ("mask", "mask", {"objects": ["lesoin"]}, "^objects: .*lesion"),
        ("mask", "mask", {"edits": [{"remove": "lesoin"}]}, r"^edits\[0\]\.remove: "),
    ],
)
def test_options_that_do_not_fit_are_refused(
    name: str,
    kind: ConditionKind,
    options: dict[str, Any],
    message: str,
    models: Mapping[str, Model],
) -> None:
    with pytest.raises(ModelError, match=message):
        drawer(models[name], kind, **options)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({}, "one of from and shape"),
        ({"from": "a", "shape": "box", "size_px": [1, 2]}, "one of from and shape"),
        ({"shape": "box"}, "one of size_mm and size_px"),
        ({"shape": "box", "size_px": [1, 2], "size_mm": [1, 2]}, "one of size_mm and size_px"),
        ({"from": "a", "inside": "b"}, "no size and no inside"),
        ({"shape": "box", "size_px": [2, 1]}, "least, most"),
        ({"shape": "star", "size_px": [1, 2]}, "shape"),
        ({"from_class": "a"}, "from_class"),
    ],
)
def test_a_region_is_of_one_kind(region: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ConditionSetOptions.model_validate({"region": region})


def test_options_are_stored_as_they_are_read() -> None:
    """A job pins them as JSON, and reads them again."""
    given = {"region": {"from": "lesion"}, "derive": "edges"}
    options = ConditionSetOptions.model_validate(given)
    assert options.model_dump(mode="json", exclude_defaults=True) == given


def test_groups_that_are_too_few_are_refused(models: Mapping[str, Model]) -> None:
    many = {f"split{i}": 1 / 13 for i in range(13)}
    with pytest.raises(ModelError, match=r"12 groups.* 13 splits"):
        drawer(models["mask"], splits=many)


def test_another_size_is_refused(models: Mapping[str, Model]) -> None:
    with pytest.raises(ModelError, match="40 x 48 pixels, and the images have 8 x 8"):
        drawer(models["mask"], size=(8, 8))


def test_a_region_without_room_says_so(models: Mapping[str, Model]) -> None:
    region = {"shape": "ellipse", "size_px": [60, 60], "inside": "organ"}
    with pytest.raises(ModelError, match=r"^region\.size_px: an object 60 px wide has more pixels"):
        drawer(models["inpaint"], "inpaint", region=region)
    region["size_px"] = [45, 45]
    with pytest.raises(ModelError, match=r"^region: 32 items"):
        drawer(models["inpaint"], "inpaint", region=region).draw(1, "other", "train")


def test_a_pool_without_the_class_says_so(models: Mapping[str, Model], tmp_path: Path) -> None:
    model = fitted(tmp_path / "one", class_ids=np.zeros(NUM, np.int64))
    with pytest.raises(ModelError, match=r"'well'.*'train'.*same_class"):
        drawer(model).draw(1, "well", "train")


def test_what_pools_lack_is_told_before_anything_is_drawn(
    models: Mapping[str, Model], tmp_path: Path
) -> None:
    one = fitted(tmp_path / "one", class_ids=np.zeros(NUM, np.int64))
    conditioner = drawer(one)
    conditioner.check_pools({"sick": ["train", "val"], "other": ["train"]})  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"'well'.*'val'.*same_class"):
        conditioner.check_pools({"sick": ["val"], "well": ["val"]})  # type: ignore[attr-defined]
    drawer(one, same_class=False).check_pools({"well": ["val"]})  # type: ignore[attr-defined]
    equal = fitted(tmp_path / "equal", masks=np.ones((NUM, *SIZE), np.uint8))
    alike = drawer(equal)  # of twelve groups by name
    with pytest.raises(ModelError, match="a set of 1 group"):
        alike.check_pools({"sick": ["train"]})  # type: ignore[attr-defined]


def test_a_set_of_before_its_table_told_is_checked_when_it_draws(tmp_path: Path) -> None:
    model = fitted(tmp_path / "old")
    assert model.weights is not None
    table = json.loads(load_file(model.weights)["table"].tobytes())
    tensors = load_file(model.weights)
    del table["joined"]
    tensors["table"] = np.frombuffer(json.dumps(table).encode(), np.uint8)
    save_file(tensors, tmp_path / "old.safetensors")
    old = drawer(replace(model, weights=tmp_path / "old.safetensors"))
    old.check_pools({"sick": ["nowhere"]})  # type: ignore[attr-defined]
    found, expected = (each.draw(3, "sick", "val") for each in (old, drawer(model)))
    assert condition_digest(found) == condition_digest(expected)


def test_jobs_share_the_items_that_they_draw_from(
    models: Mapping[str, Model], tmp_path: Path
) -> None:
    first, second = drawer(models["mask"]), drawer(models["mask"], same_class=False)
    assert first.items is second.items  # type: ignore[attr-defined]
    copied = tmp_path / "copied.safetensors"
    assert models["mask"].weights is not None
    copied.write_bytes(models["mask"].weights.read_bytes())
    assert drawer(replace(models["mask"], weights=copied)).items is not first.items  # type: ignore[attr-defined]


def test_a_set_that_is_too_large_for_a_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "MAX_BYTES", (1 << 20) + 1000)
    with pytest.raises(InputError, match=r"data: 24 items.*data\.image_size"):
        fit.fit_condition_set(images_of(), kind="mask")


def test_tensors_of_another_set_are_refused(models: Mapping[str, Model], tmp_path: Path) -> None:
    model = models["mask"]
    lies = {"num_items": 5, "num_groups": 3}
    config = replace(model.config, network=model.config.network | lies)
    with pytest.raises(ModelError, match=r"model\.safetensors: .*\[24, 40, 48\].*\[5, 40, 48\]"):
        drawer(replace(model, config=config)).draw(0, "x", "train")
    few = replace(model.config, network=model.config.network | {"names": ["background", "organ"]})
    with pytest.raises(ModelError, match="a label map holds 2"):
        drawer(replace(model, config=few)).draw(0, "x", "train")


def test_it_makes_no_images_and_has_no_settings(models: Mapping[str, Model]) -> None:
    spec, model = ConditionSetSpec(), models["mask"]
    with pytest.raises(ModelError, match="`conditioning`"):
        spec.load(model.config, model.weights, spec.options(), batch_size=1)
    options = spec.network_options.model_validate({"num_items": 4})
    with pytest.raises(InputError, match=r"network: num_items"):
        spec.fitted(images_of(), options, kind="mask", seed=0)
    assert load_model(model.path).digest == model.digest


@pytest.mark.parametrize("name", ["a" * 256, "a\nb", "a\ud800"])
def test_a_foreign_name_that_no_log_can_hold_is_refused(name: str) -> None:
    assert checked_name("patient 1, é") == "patient 1, é"
    with pytest.raises(ValueError, match="at most 255 characters"):
        checked_name(name)


def test_groups_that_share_an_equal_item_are_one() -> None:
    masks = np.stack([np.full((2, 2), value, np.uint8) for value in (1, 2, 2, 3, 3, 4)])
    groups = ("c", "c", "b", "b", "a", "d")
    items = Items(masks, None, tuple("uvwxyz"), groups, np.zeros(6, np.int64), None)
    assert joined_groups(items) == ("a", "a", "a", "a", "a", "d")
