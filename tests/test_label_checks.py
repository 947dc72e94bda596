"""Labels that contradict their image or themselves are refused, each by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from datagen.errors import LabelError
from datagen.label_checks import check_labels, label_kinds
from datagen.labels import Keypoint, LabelledObject, Labels
from tests.label_scenes import NAMES, scene

NAN = float("nan")


def with_box(*box: float) -> Callable[[Labels], Labels]:
    return lambda labels: replace(labels, objects=(LabelledObject("box", box), *labels.objects[1:]))  # type: ignore[arg-type, index]


def with_point(x: float, y: float, visibility: int = 2) -> Callable[[Labels], Labels]:
    point = Keypoint("tip", x, y, visibility)

    def changed(labels: Labels) -> Labels:
        assert labels.objects is not None
        first = replace(labels.objects[0], keypoints=(point,))
        return replace(labels, objects=(first, *labels.objects[1:]))

    return changed


def with_array(field: str, change: Callable[[Any], Any]) -> Callable[[Labels], Labels]:
    return lambda labels: replace(labels, **{field: change(getattr(labels, field).copy())})


def with_value(value: int) -> Callable[[Any], Any]:
    def changed(pixels: Any) -> Any:
        pixels[0, 0] = value
        return pixels

    return changed


REFUSED: list[tuple[Callable[[Labels], Labels], str]] = [
    (
        with_array("mask", lambda m: m[:-1]),
        r"mask: its shape is \[23, 32\]; expected .* \[24, 32\]",
    ),
    (with_array("mask", lambda m: m.astype(np.int64)), "mask: pixels of int64; expected uint8"),
    (with_array("mask", lambda m: m.tolist()), "mask: pixels of list"),
    (with_array("mask", with_value(3)), "mask: value 3 has no name; expected values from 0 to 2"),
    (with_array("instances", lambda m: m.astype(np.uint8)), "instances: pixels of uint8"),
    (with_array("instances", with_value(99)), "instances: value 99 has no object"),
    (with_array("instances", lambda m: m * 0), r"objects\[0\]: no pixel of instances"),
    (lambda labels: replace(labels, objects=None), "instances: there are no objects"),
    (
        lambda labels: replace(labels, objects=(LabelledObject("ox", (0, 0, 1, 1)),) * 4),
        r"objects\[0\].class_name: 'ox'; expected one of disc, box",
    ),
    (
        lambda labels: replace(labels, objects=(LabelledObject("background", (0, 0, 1, 1)),) * 4),
        "'background'; expected one of",
    ),
    (with_box(0, 0, 33, 4), r"objects\[0\].box_xyxy: .* leaves the image of 32 x 24"),
    (with_box(-1, 0, 3, 4), "leaves the image"),
    (with_box(4, 0, 4, 4), "is empty"),
    (with_box(4, 9, 8, 2), "is empty"),
    (with_box(NAN, 0, 4, 4), "four finite numbers"),
    (with_box(0, 0, float("inf"), 4), "four finite numbers"),
    (with_box(0, 0, 4), "four finite numbers"),
    (with_box(0, 0, 32, 24), r"objects\[0\].box_xyxy: .* the tight box around its pixels"),
    (with_point(33, 4), r"objects\[0\].keypoints\[0\] \(tip\): \[33, 4\] lies outside"),
    (with_point(NAN, 4), "expected finite numbers"),
    (with_point(3, 4, 0), "visibility 0; expected 2"),
    (lambda labels: replace(labels, spacing_mm=(0.0, 1.0)), "spacing_mm: "),
    (lambda labels: replace(labels, spacing_mm=(NAN, 1.0)), "spacing_mm: "),
]


@pytest.mark.parametrize(("change", "expected"), REFUSED)
def test_a_false_label_is_refused(change: Callable[[Labels], Labels], expected: str) -> None:
    labels = scene(3)
    assert labels.objects is not None
    assert len(labels.objects) == 4
    check_labels(labels, (24, 32, 3), NAMES)
    with pytest.raises(LabelError, match=expected):
        check_labels(change(labels), (24, 32, 3), NAMES)


def test_a_class_alone_is_a_label() -> None:
    check_labels(Labels("a"), (8, 8), ())
    assert label_kinds(Labels("a")) == frozenset()


def test_kinds_are_those_that_are_there() -> None:
    labels = scene(3)
    assert label_kinds(labels) == {"mask", "instances", "keypoints"}
    assert label_kinds(replace(labels, instances=None)) == {"mask", "boxes", "keypoints"}
    assert label_kinds(Labels("a", objects=())) == {"boxes"}
