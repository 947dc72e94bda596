"""Deformations and edits of drawn conditions: whatever moves, labels say what the map shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from datagen.errors import ModelError
from datagen.generators.conditioning.deformation import draw_warp
from datagen.generators.conditioning.editing import (
    EditedMap,
    _draw_form,
    _grow,
    check_edits,
    edit_map,
)
from datagen.generators.conditioning.options import Deform, Edit
from datagen.generators.conditioning.streams import condition_rng
from datagen.generators.interface import ModelConfig
from datagen.generators.procedural.options import ProceduralConditionOptions
from datagen.generators.procedural.spec import ProceduralSpec
from datagen.generators.seeded import seeded_rng

SPEC = ProceduralSpec()
BLANK = ModelConfig("procedural", (), (0, 0), 0, {})


def conditions(kind: Any = "mask", **given: Any) -> Any:
    options = ProceduralConditionOptions.model_validate(given)
    return SPEC.conditioner(BLANK, None, options, kind=kind, image_size=(48, 64), splits={})


def test_conditions_are_repeatable_and_named_as_asked() -> None:
    drawer = conditions(shapes=["circle", "star"], names={"star": "lesion"})
    assert drawer.names == ("background", "circle", "lesion")
    first, again = drawer.draw(5, "lesion", "train"), drawer.draw(5, "lesion", "val")
    assert np.array_equal(first.mask, again.mask)
    assert set(np.unique(first.mask)) == {0, 2}
    assert not np.array_equal(first.mask, drawer.draw(6, "lesion", "train").mask)


def test_boxes_alone_are_true_where_a_model_takes_boxes() -> None:
    drawer = conditions("layout")
    labels = drawer.draw(3, "x", "train").labels
    assert drawer.label_kinds == {"boxes"}
    assert labels.mask is None
    assert labels.instances is None
    assert labels.objects


def test_a_deformed_and_edited_map_is_labelled_as_it_is() -> None:
    drawer = conditions(
        shapes=["circle"],
        size=[0.5, 0.7],
        deform={"affine": {"rotate_deg": 20}, "elastic": {"alpha_px": 2, "sigma_px": 6}},
        edits=[{"add": "lesion", "size_px": [6, 6], "region": "circle"}],
    )
    assert drawer.names == ("background", "circle", "lesion")
    for seed in range(8):
        labels = drawer.draw(seed, "x", "train").labels
        lesion = np.count_nonzero(labels.mask == 2)
        assert 0.95 * 28 <= lesion <= 28  # pi * 6 ** 2 / 4
        assert [each.class_name for each in labels.objects][-1] == "lesion"
        assert np.array_equal(labels.mask > 0, labels.instances > 0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"add": "a", "size_px": [2, 4], "region": "strar"}, "region: 'strar'.*circle"),
        ({"add": "a", "size_mm": [2, 4]}, "give size_px"),
        ({"remove": "heart"}, "remove: 'heart'"),
        ({"remove": "background"}, "not the background"),
    ],
)
def test_edits_that_cannot_be_are_refused(edit: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        conditions(edits=[edit])


@pytest.mark.parametrize(
    "options",
    [
        {"edits": [{"add": "a"}]},
        {"edits": [{"add": "a", "remove": "b"}]},
        {"edits": [{"remove": "a", "size_px": [1, 2]}]},
        {"deform": {"elastic": {"alpha_px": 9, "sigma_px": 9}}},
        {"deform": {"affine": {"scale": [2, 1]}}},
    ],
)
def test_bad_editing_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ProceduralConditionOptions.model_validate(options)


def test_pictures_are_not_what_it_conditions_on() -> None:
    with pytest.raises(ModelError, match="condition_set"):
        conditions("image")


NAMES = ("background", "organ", "lesion")


def organ() -> Any:
    """(48, 64): an organ of 30 x 40 pixels, and in it a lesion of 2 x 2."""
    mask = np.zeros((48, 64), np.uint8)
    mask[8:38, 10:50] = 1
    mask[20:22, 30:32] = 2
    return mask


def edited(seed: int, *edits: dict[str, Any], spacing: Any = None, name: str = "x") -> EditedMap:
    parsed = [Edit.model_validate(edit) for edit in edits]
    return edit_map(
        organ(),
        parsed,
        rng=condition_rng(seed),
        class_name=name,
        names=NAMES,
        spacing_mm=spacing,
    )


def test_objects_lie_in_their_region_beside_each_other() -> None:
    add = {"add": "lesion", "region": "organ", "size_px": [3, 5], "num": [4, 4]}
    for seed in range(6):
        found = edited(seed, add)
        assert len(found.added) == 4
        total = np.sum([spot for spot, _ in found.added], axis=0)
        assert total.max() == 1, "none lies over another"
        assert (organ()[total > 0] == 1).all()
        assert np.array_equal(found.mask == 2, (total > 0) | (organ() == 2))


@pytest.mark.parametrize("shape", ["ellipse", "blob"])
def test_millimetres_count_where_pixels_are_not_square(shape: str) -> None:
    """10 mm at 1 x 0.5 mm: twice as many columns as rows, on the average of many."""
    add = {"add": "lesion", "size_mm": [10, 10], "region": "organ", "shape": shape}
    wide = []
    for seed in range(30):
        [(spot, _)] = edited(seed, add, spacing=(1.0, 0.5)).added
        assert 0.95 * 157 <= spot.sum() <= 157  # pi * 10 ** 2 / 4 / 0.5
        wide.append(np.any(spot, axis=0).sum() / np.any(spot, axis=1).sum())
    assert 1.7 < np.mean(wide) < 2.3


def test_an_object_without_room_is_left_out() -> None:
    add = {"add": "organ", "region": "lesion", "size_px": [8, 8]}
    found = edited(0, add)
    assert found.added == ()
    assert np.array_equal(found.mask, organ())


def test_edits_are_done_in_order_for_their_classes_and_by_chance() -> None:
    add = {"add": "lesion", "region": "organ", "size_px": [3, 3]}
    assert not (edited(0, add, {"remove": "lesion"}).mask == 2).any()
    assert (edited(0, {"remove": "lesion"}, add).mask == 2).any()
    assert not edited(0, add | {"classes": ["sick"]}).added
    assert edited(0, add | {"classes": ["sick"]}, name="sick").added
    happened = sum(len(edited(s, add | {"probability": 0.3}).added) for s in range(200))
    assert 40 <= happened <= 80


def test_an_elastic_field_has_the_length_and_smoothness_asked_for() -> None:
    deform = Deform.model_validate({"elastic": {"alpha_px": 3, "sigma_px": 8}})
    rows, columns = np.mgrid[:64, :96]
    moves, slopes = [], []
    for seed in range(20):
        warp = draw_warp(condition_rng(seed), deform, (64, 96), spacing_mm=None)
        assert warp is not None
        for moved, still in ((warp.rows, rows), (warp.columns, columns)):
            moves.append(np.square(moved - still).mean())
            slopes.append(np.abs(np.diff(moved - still, axis=1)).max())
    assert 2.5 < np.sqrt(np.mean(moves)) < 3.5
    # Of a field of this smoothness the slope is alpha / (sigma * sqrt(2)), root mean square.
    assert max(slopes) < 5 * 3 / (8 * np.sqrt(2))


def test_a_rotation_is_one_of_the_body() -> None:
    """A disc in millimetres stays one where rows are twice as far apart as columns."""
    rows, columns = np.mgrid[:40, :80]
    disc = ((2 * (rows - 19.5)) ** 2 + (columns - 39.5) ** 2 < 30**2).astype(np.uint8)
    deform = Deform.model_validate({"affine": {"rotate_deg": 180}})
    for seed in range(5):
        warp = draw_warp(condition_rng(seed), deform, (40, 80), spacing_mm=(2.0, 1.0))
        assert warp is not None
        assert (warp.labels(disc) != disc).mean() < 0.02
        assert not np.array_equal(warp.rows, rows)


def test_what_comes_from_outside_is_background_and_black() -> None:
    deform = Deform.model_validate({"affine": {"scale": [0.5, 0.5]}})
    warp = draw_warp(condition_rng(0), deform, (20, 20), spacing_mm=None)
    assert warp is not None
    labels = warp.labels(np.full((20, 20), 3, np.uint8))
    picture = warp.image(np.full((20, 20, 3), 200, np.uint8))
    assert (labels == 3).sum() == 100
    assert np.array_equal((picture == 200).all(axis=2) & (labels == 3), labels == 3)
    assert (labels[0] == 0).all()
    assert (picture[0] == 0).all()


def test_conditions_do_not_share_the_stream_of_the_images() -> None:
    assert not np.array_equal(condition_rng(7).random(4), seeded_rng(7).random(4))
    assert not np.array_equal(condition_rng(7).random(4), condition_rng(8).random(4))


def test_a_form_that_would_leave_the_frame_is_refused() -> None:
    form = _draw_form(np.random.default_rng(0), "ellipse")
    assert _grow(form, (0, 16), 60, (1.0, 1.0), (32, 32)) is None
    spot = _grow(form, (16, 16), 60, (1.0, 1.0), (32, 32))
    assert spot is not None
    assert spot.sum() == 60


FAR = {"affine": {"translate": 0.5, "scale": [1.5, 3.0]}}


def test_a_deformed_map_still_shows_what_its_class_is_called_after() -> None:
    drawer = conditions(shapes=["star"], num_objects=[1, 1], size=[0.2, 0.3], deform=FAR)
    lost, stars, others = 0, [], []
    for seed in range(40):
        stars.append(drawer.draw(seed, "star", "train"))
        others.append(drawer.draw(seed, "x", "train"))
        lost += not others[-1].mask.any()
    assert lost > 10
    assert all(each.mask.any() for each in stars)
    assert all(each.labels.objects for each in stars)
    # Where the first deformation leaves it, nothing else is drawn.
    same = [np.array_equal(a.mask, b.mask) for a, b in zip(stars, others, strict=True)]
    assert 5 < sum(same) <= 40 - lost


def test_what_cannot_stay_in_the_frame_is_not_moved() -> None:
    deform = {"affine": {"rotate_deg": 0, "scale": [4.0, 4.0]}}
    aside = conditions(shapes=["circle"], num_objects=[1, 1], size=[0.05, 0.05])
    enlarged = conditions(shapes=["circle"], num_objects=[1, 1], size=[0.05, 0.05], deform=deform)
    seeds = [s for s in range(60) if not enlarged.draw(s, "x", "train").mask.any()]
    assert seeds
    for seed in seeds:
        expected = aside.draw(seed, "circle", "train").mask
        np.testing.assert_array_equal(enlarged.draw(seed, "circle", "train").mask, expected)


def test_labels_know_what_edits_made_of_their_class() -> None:
    edit = {"add": "lesion", "size_px": [4, 4], "classes": ["sick"]}
    drawer = conditions(shapes=["circle"], size=[0.5, 0.7], edits=[edit])
    assert drawer.draw(1, "sick", "train").labels.named_objects == {"lesion"}
    assert drawer.draw(1, "well", "train").labels.named_objects == set()
    assert drawer.draw(1, "circle", "train").labels.named_objects == {"circle"}


def test_an_object_that_fits_into_no_image_is_refused_before_anything_is_drawn() -> None:
    conditions(edits=[{"add": "lesion", "size_px": [62, 70]}])  # 3,019 of 48 x 64 pixels
    with pytest.raises(
        ModelError, match=r"edits\[0\]\.size_px: an object 63 px wide .* 48 x 64 px"
    ):
        conditions(edits=[{"add": "lesion", "size_px": [63, 70]}])
    edit = Edit(add="lesion", size_mm=(20, 30))
    check_edits([edit], None, ("background",), has_spacing=True, size=(48, 64))
    sizes: dict[str, Any] = {"size": (48, 64), "spacing_mm": (0.25, 0.25)}
    with pytest.raises(ModelError, match=r"edits\[0\]\.size_mm: an object 20 mm .* 12 x 16 mm"):
        check_edits([edit], None, ("background",), has_spacing=True, **sizes)
