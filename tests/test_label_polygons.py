"""Polygons that give their mask back, here and in COCO's own code, and those that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from pycocotools import mask as coco

from datagen.errors import LabelError
from datagen.label_polygons import check_polygon, mask_polygons, polygon_mask
from tests.label_scenes import masks


@given(masks())
def test_polygons_give_their_mask_back(mask: NDArray[np.bool_]) -> None:
    polygons = mask_polygons(mask)
    rings = [ring for polygon in polygons for ring in (polygon.outer, *polygon.holes)]
    assert np.array_equal(polygon_mask(rings, mask.shape), mask)
    for ring in rings:
        check_polygon(ring.tolist(), mask.shape, field="ring")


@given(masks())
def test_each_polygon_is_one_part_with_its_own_holes(mask: NDArray[np.bool_]) -> None:
    parts = [
        polygon_mask([polygon.outer, *polygon.holes], mask.shape) for polygon in mask_polygons(mask)
    ]
    assert sum(part.sum() for part in parts) == mask.sum()
    for part in parts:
        assert len(mask_polygons(part)) == 1
    firsts = [int(np.flatnonzero(part)[0]) for part in parts]
    assert firsts == sorted(firsts)


@given(masks())
def test_polygons_are_flipped_and_turned_with_their_mask(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    rings = [r for polygon in mask_polygons(mask) for r in (polygon.outer, *polygon.holes)]
    flipped = [np.stack([width - ring[:, 0], ring[:, 1]], axis=1) for ring in rings]
    turned = [np.stack([ring[:, 1], width - ring[:, 0]], axis=1) for ring in rings]
    assert np.array_equal(polygon_mask(flipped, mask.shape), np.flip(mask, 1))
    assert np.array_equal(polygon_mask(turned, (width, height)), np.rot90(mask))


def test_a_ring_has_an_outside_and_a_hole() -> None:
    mask = np.ones((3, 3), np.bool_)
    mask[1, 1] = False
    (polygon,) = mask_polygons(mask)
    assert polygon.outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert [sorted(hole.tolist()) for hole in polygon.holes] == [[[1, 1], [1, 2], [2, 1], [2, 2]]]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_paints_the_same_pixels() -> None:
    rows, columns = np.mgrid[:40, :50]
    mask = (columns - 22) ** 2 + (rows - 18) ** 2 < 200
    flat = [polygon.outer.ravel().tolist() for polygon in mask_polygons(mask)]
    painted = coco.decode(coco.merge(coco.frPyObjects(flat, 40, 50)))
    assert np.array_equal(painted, mask)


def test_a_slanted_polygon_covers_the_centres_inside() -> None:
    triangle = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    assert polygon_mask([triangle], (4, 4)).sum(axis=1).tolist() == [3, 2, 1, 0]
    beyond = np.array([[-5.0, -5.0], [9.0, -5.0], [9.0, 9.0], [-5.0, 9.0]])
    assert polygon_mask([beyond], (4, 4)).all()


REFUSED: list[tuple[object, str]] = [
    ([[0, 0], [4, 4]], "2 points; expected 3 to 4096"),
    ([[0, 0], [4, 4], [float("nan"), 1]], r"\[2\]: \[nan, 1.0\]; expected finite"),
    ([[0, 0], [4, 0], [4, float("inf")]], r"\[2\]"),
    ([[0, 0], [11, 0], [4, 4]], r"\[1\]: \[11.0, 0.0\] lies outside the image of 10 x 8"),
    ([[0, 0], [4, 0], [4, -1]], r"\[2\]"),
    ([[0, 0], [4, 4], [4, 0], [0, 4]], "crosses itself, sides 0 and 2"),
    ([[0, 0], [4, 0], [8, 0]], "covers no area"),
    ([[0, 0], [4, 0, 1], [8, 0]], "two numbers"),
    ([0, 0, 4, 0, 4, 4], "two numbers"),
    ("abc", "two numbers"),
    ([[0, 0]] * 5000, "5000 points"),
]


@pytest.mark.parametrize(("ring", "expected"), REFUSED)
def test_a_polygon_that_is_none_is_refused(ring: list[list[float]], expected: str) -> None:
    with pytest.raises(LabelError, match=expected) as caught:
        check_polygon(ring, (8, 10), field="objects[3].segmentation[0]")
    assert str(caught.value).startswith("objects[3].segmentation[0]")
