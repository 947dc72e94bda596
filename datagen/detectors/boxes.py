"""Boxes as networks give them become objects: clipped, without doubles, the surest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datagen.detectors.findings import Detection
from datagen.label_shapes import Box, instance_boxes, paint_boxes

_MIN_SIDE_PX = 1.0


def chosen(
    found: Sequence[Detection], shape: tuple[int, int], *, max_overlap: float, max_objects: int
) -> list[Detection]:
    """The surest first, of equals the one nearer to the top left. Boxes are clipped to the image;
    those with a side below a pixel are none, nor are those that overlap a surer one of their class
    by more than max_overlap (greedy non-maximum suppression)."""
    clipped = [replace(each, box_xyxy=_clipped(each.box_xyxy, shape)) for each in found]
    clipped.sort(key=lambda each: (-each.confidence, each.box_xyxy[1::-1], each.class_name))
    kept: list[Detection] = []
    for each in clipped:
        x0, y0, x1, y1 = each.box_xyxy
        if min(x1 - x0, y1 - y0) < _MIN_SIDE_PX:
            continue
        rivals = (other for other in kept if other.class_name == each.class_name)
        if all(_overlap(each.box_xyxy, other.box_xyxy) <= max_overlap for other in rivals):
            kept.append(each)
    return kept[:max_objects]


def filled(found: Sequence[Detection], shape: tuple[int, int]) -> list[Detection]:
    """Each box with the pixels that it covers and no surer one does; those without any are gone.
    found: the surest first."""
    painted = paint_boxes([each.box_xyxy for each in reversed(found)], shape)
    boxes = instance_boxes(painted)
    regions = []
    for index, each in enumerate(found):
        number = len(found) - index
        if number in boxes:
            regions.append(replace(each, box_xyxy=boxes[number], region=painted == number))
    return regions


def _clipped(box_xyxy: Box, shape: tuple[int, int]) -> Box:
    """To 2 decimals: what is compared is what is stored."""
    if not np.isfinite(box_xyxy).all():
        return 0.0, 0.0, 0.0, 0.0
    height, width = shape
    x0, y0, x1, y1 = (round(end, 2) for end in box_xyxy)
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)
