"""Flips, turns and crops: they undo each other, and boxes follow from what they do to masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.errors import LabelError
from datagen.label_checks import check_labels
from datagen.label_moves import crop_labels, flip_labels, turn_labels
from datagen.label_shapes import instance_boxes
from datagen.labels import Keypoint, LabelledObject, Labels
from tests.label_scenes import NAMES, same_labels, scene

SIZE = (24, 32)
SEEDS = st.integers(0, 2**32 - 1)


def check_moved(labels: Labels, size: tuple[int, int]) -> None:
    """Valid, and the boxes are those of the moved masks."""
    check_labels(labels, size, NAMES)
    assert labels.objects is not None
    assert labels.instances is not None
    boxes = instance_boxes(labels.instances)
    assert [each.box_xyxy for each in labels.objects] == list(boxes.values())


@given(SEEDS, st.sampled_from([0, 1]))
def test_flips_commute_with_boxes_and_undo_themselves(seed: int, axis: int) -> None:
    labels = scene(seed)
    once = flip_labels(labels, SIZE, axis=axis)
    check_moved(once, SIZE)
    assert same_labels(flip_labels(once, SIZE, axis=axis), labels)


@given(SEEDS, st.integers(-4, 5))
def test_turns_commute_with_boxes_and_undo_themselves(seed: int, quarters: int) -> None:
    labels = scene(seed)
    size = SIZE[::-1] if quarters % 2 else SIZE
    turned = turn_labels(labels, SIZE, quarters=quarters)
    check_moved(turned, size)
    assert turned.spacing_mm == ((0.5, 2.0) if quarters % 2 else (2.0, 0.5))
    assert same_labels(turn_labels(turned, size, quarters=-quarters), labels)


@given(SEEDS)
def test_half_a_turn_is_two_flips_but_for_no_mirror(seed: int) -> None:
    labels = scene(seed)
    flipped = flip_labels(flip_labels(labels, SIZE, axis=0), SIZE, axis=1)
    assert same_labels(flipped, turn_labels(labels, SIZE, quarters=2))


@given(SEEDS, st.data())
def test_crops_commute_with_boxes(seed: int, data: st.DataObject) -> None:
    labels = scene(seed)
    x0, y0 = data.draw(st.integers(0, SIZE[1] - 1)), data.draw(st.integers(0, SIZE[0] - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, SIZE[1])), data.draw(st.integers(y0 + 1, SIZE[0]))
    cropped = crop_labels(labels, SIZE, box_xyxy=(x0, y0, x1, y1))
    check_moved(cropped, (y1 - y0, x1 - x0))
    boxes_alone = crop_labels(replace(labels, instances=None), SIZE, box_xyxy=(x0, y0, x1, y1))
    check_labels(boxes_alone, (y1 - y0, x1 - x0), NAMES)


def test_what_is_hardly_seen_goes() -> None:
    instances = np.zeros((4, 10), np.uint16)
    instances[:, 0:4], instances[:, 6:10] = 1, 2
    boxes = instance_boxes(instances)
    objects = tuple(LabelledObject("box", box) for box in boxes.values())
    for labels in (
        Labels("a", instances=instances, objects=objects),
        Labels("a", objects=objects),
    ):
        kept = crop_labels(labels, (4, 10), box_xyxy=(3, 0, 10, 4), min_visibility=0.3)
        assert kept.objects == (LabelledObject("box", (3, 0, 7, 4)),)
        if kept.instances is not None:
            assert kept.instances.tolist() == [[0, 0, 0, 1, 1, 1, 1]] * 4
        both = crop_labels(labels, (4, 10), box_xyxy=(3, 0, 10, 4), min_visibility=0.2)
        assert len(both.objects or ()) == 2
        none = crop_labels(labels, (4, 10), box_xyxy=(4, 0, 6, 4))
        assert none.objects == ()


def test_a_mirror_swaps_left_and_right() -> None:
    points = (Keypoint("left_eye", 1, 2), Keypoint("right_eye", 3, 2), Keypoint("nose", 2, 3))
    labels = Labels("a", objects=(LabelledObject("face", (0, 0, 4, 4), points),))
    moved = flip_labels(labels, (10, 10), axis=1).objects
    assert moved is not None
    assert moved[0].keypoints == (
        Keypoint("right_eye", 9, 2),
        Keypoint("left_eye", 7, 2),
        Keypoint("nose", 8, 3),
    )
    turned = turn_labels(labels, (10, 10), quarters=1).objects
    assert turned is not None
    assert [point.name for point in turned[0].keypoints] == ["left_eye", "right_eye", "nose"]


@pytest.mark.parametrize("box", [(0, 0, 0, 4), (-1, 0, 4, 4), (0, 0, 33, 4), (5, 5, 4, 9)])
def test_a_crop_outside_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(LabelError, match="within 32 x 24 pixels"):
        crop_labels(scene(1), SIZE, box_xyxy=box)
