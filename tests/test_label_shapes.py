"""Boxes, instances and run lengths against their masks, and against COCO's own code."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from datagen.errors import LabelError
from datagen.label_shapes import (
    box_mask,
    from_run_lengths,
    instance_boxes,
    pack_run_lengths,
    paint_boxes,
    run_lengths,
    split_mask,
    unpack_run_lengths,
)
from tests.label_scenes import masks


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    height, width = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    return (float(x0), float(y0), float(x1), float(y1)), (height, width)


@given(boxes())
def test_a_box_comes_back_from_its_mask(
    case: tuple[tuple[float, float, float, float], tuple[int, int]],
) -> None:
    box, shape = case
    assert instance_boxes(box_mask(box, shape).astype(np.uint16)) == {1: box}


@given(masks())
def test_a_tight_box_holds_all_and_each_side_touches(mask: NDArray[np.bool_]) -> None:
    found = instance_boxes(mask.astype(np.uint16) * np.uint16(7))
    if not mask.any():
        assert found == {}
        return
    x0, y0, x1, y1 = (int(end) for end in found[7])
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum()
    for side in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
        assert side.any()


def test_a_box_covers_the_pixels_whose_centres_it_holds() -> None:
    mask = box_mask((0.6, 0.4, 2.5, 1.6), (3, 4))
    assert np.argwhere(mask).tolist() == [[0, 1], [1, 1]]
    assert not box_mask((-3, -3, -1, -1), (3, 4)).any()


def test_later_boxes_lie_over_earlier_ones() -> None:
    assert paint_boxes([(0, 0, 3, 1), (1, 0, 2, 1)], (1, 4)).tolist() == [[1, 2, 1, 0]]


def test_parts_are_objects_in_a_fixed_order() -> None:
    mask = np.array([[0, 2, 0, 1], [2, 0, 0, 0], [0, 0, 1, 1]], np.uint8)
    names = ("background", "a", "b")
    instances, objects = split_mask(mask, names)
    assert instances.tolist() == [[0, 3, 0, 1], [3, 0, 0, 0], [0, 0, 2, 2]]
    assert [each.class_name for each in objects] == ["a", "a", "b"]
    assert [each.box_xyxy for each in objects] == [(3, 0, 4, 1), (2, 2, 4, 3), (0, 0, 2, 2)]
    assert len(split_mask(mask, names, diagonal=False)[1]) == 4
    assert [each.class_name for each in split_mask(mask, names, min_pixels=2)[1]] == ["a", "b"]
    with pytest.raises(LabelError, match=r"value 2 has no name; expected values from 0 to 1"):
        split_mask(mask, names[:2])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(max_examples=60)
@given(masks())
def test_run_lengths_are_those_of_coco(mask: NDArray[np.bool_]) -> None:
    counts = run_lengths(mask)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert pack_run_lengths(counts) == theirs["counts"].decode()
    read = coco.frPyObjects({"counts": counts, "size": list(mask.shape)}, *mask.shape)
    assert np.array_equal(coco.decode(read), mask)


@given(masks())
def test_run_lengths_come_back(mask: NDArray[np.bool_]) -> None:
    counts = unpack_run_lengths(pack_run_lengths(run_lengths(mask)))
    assert counts == run_lengths(mask)
    assert np.array_equal(from_run_lengths(counts, mask.shape), mask)


@given(st.lists(st.integers(-(2**40), 2**40), max_size=8))
def test_any_counts_are_packed_and_unpacked(counts: list[int]) -> None:
    assert unpack_run_lengths(pack_run_lengths(counts)) == counts


@pytest.mark.parametrize("counts", [[5], [4, 4], [-1, 7], [10**18, 1]])
def test_counts_that_do_not_fill_the_image_are_refused(counts: list[int]) -> None:
    with pytest.raises(LabelError, match="add up to 6"):
        from_run_lengths(counts, (2, 3))


@given(st.text(max_size=20))
def test_no_text_breaks_the_reader_of_counts(text: str) -> None:
    with contextlib.suppress(LabelError):
        assert isinstance(unpack_run_lengths(text), list)
