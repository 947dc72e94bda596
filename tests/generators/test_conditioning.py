"""Deformations and edits of drawn conditions: whatever moves, labels say what the map shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from datagen.errors import ModelError
from datagen.generators.interface import ModelConfig
from datagen.generators.procedural.options import ProceduralConditionOptions
from datagen.generators.procedural.spec import ProceduralSpec

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
