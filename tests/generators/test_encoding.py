from __future__ import annotations

import numpy as np
import pytest

from datagen.conditions import Condition, ConditionConfig
from datagen.errors import ModelError
from datagen.generators.encoding import check_condition, encode, num_channels
from datagen.labels import LabelledObject, Labels

NAMES = ("background", "disc", "ring")
MASK = ConditionConfig("mask", NAMES)
IMAGE = ConditionConfig("image", channels=3)
INPAINT = ConditionConfig("inpaint", NAMES, 1)
LAYOUT = ConditionConfig("layout", NAMES)
SIZE = (4, 6)
LABELS = Labels("any")


@pytest.mark.parametrize(
    ("config", "num"),
    [(MASK, 3), (IMAGE, 3), (INPAINT, 5), (ConditionConfig("inpaint", (), 3), 4), (LAYOUT, 2)],
)
def test_as_many_planes_as_are_said(config: ConditionConfig, num: int) -> None:
    hole = np.zeros(SIZE, np.bool_)
    everything = Condition(
        Labels("any", objects=()),
        mask=np.zeros(SIZE, np.uint8),
        image=np.zeros((*SIZE, config.channels), np.uint8),
        region=hole,
    )
    planes = encode([everything, everything], config, size=SIZE)
    assert planes.shape == (2, num, *SIZE)
    assert planes.dtype == np.float32
    assert num_channels(config) == num


def test_a_label_map_is_one_plane_for_each_name() -> None:
    mask = np.arange(24, dtype=np.uint8).reshape(SIZE) % 3
    (planes,) = encode([Condition(LABELS, mask=mask)], MASK, size=SIZE)
    assert np.array_equal(planes.argmax(0), mask)
    assert np.array_equal(planes.sum(0), np.ones(SIZE))


def test_a_picture_lies_between_minus_one_and_one() -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[..., 1] = 255
    (planes,) = encode([Condition(LABELS, image=image)], IMAGE, size=SIZE)
    assert [plane.mean() for plane in planes] == [-1, 1, -1]


def test_the_hole_hides_the_picture_and_shows_the_label_map() -> None:
    hole = np.zeros(SIZE, np.bool_)
    hole[1:3, 1:3] = True
    mask = np.ones(SIZE, np.uint8)
    drawn = Condition(LABELS, mask=mask, image=np.full((*SIZE, 1), 255, np.uint8), region=hole)
    picture, region, ground, disc, ring = encode([drawn], INPAINT, size=SIZE)[0]
    assert np.array_equal(picture, ~hole)
    assert np.array_equal(region, hole)
    assert np.array_equal(disc, hole)
    assert not ground.any()
    assert not ring.any()


def test_boxes_cover_the_pixels_whose_centres_they_hold() -> None:
    objects = (
        LabelledObject("ring", (1.0, 0.0, 3.0, 2.0)),
        LabelledObject("ring", (2.6, 1.4, 3.6, 3.5)),
    )
    disc, ring = encode([Condition(Labels("any", objects=objects))], LAYOUT, size=SIZE)[0]
    assert not disc.any()
    expected = np.zeros(SIZE)
    expected[0:2, 1:3] = 1
    expected[1:3, 3] = 1
    assert np.array_equal(ring, expected)


def test_pictures_and_maps_of_another_kind_are_refused() -> None:
    with pytest.raises(ModelError, match="a label map is missing"):
        encode([Condition(LABELS)], MASK, size=SIZE)
    with pytest.raises(ModelError, match=r"shape \(3, 3\); expected \(4, 6\)"):
        encode([Condition(LABELS, mask=np.zeros((3, 3), np.uint8))], MASK, size=SIZE)
    with pytest.raises(ModelError, match="value 3; expected 0 to 2, for background, disc, ring"):
        encode([Condition(LABELS, mask=np.full(SIZE, 3, np.uint8))], MASK, size=SIZE)
    bar = Labels("any", objects=(LabelledObject("bar", (0.0, 0.0, 1.0, 1.0)),))
    with pytest.raises(ModelError, match="an object of class 'bar'"):
        encode([Condition(bar)], LAYOUT, size=SIZE)


@pytest.mark.parametrize(
    ("generator", "config", "told"),
    [
        ("cgan", MASK, "expected none; use generator edm or spade"),
        ("spade", IMAGE, "expected mask; use generator edm"),
        ("edm", ConditionConfig("mask", ("background",)), "1 names; expected 2"),
        ("edm", ConditionConfig("mask", ("disc", "disc")), "none twice"),
        ("edm", ConditionConfig("image", NAMES, 3), "expected 0 to 0"),
        ("edm", ConditionConfig("image", (), 2), "2 channels; expected 1 or 3"),
        ("edm", ConditionConfig("mask", NAMES, 1), "1 channels; expected 0"),
    ],
)
def test_what_a_family_does_not_take_is_refused(
    generator: str, config: ConditionConfig, told: str
) -> None:
    with pytest.raises(ModelError, match=told):
        check_condition(generator, config)
    check_condition("edm", INPAINT)
    check_condition(generator, None)
