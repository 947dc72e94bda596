"""Flips, quarter turns and crops of all the labels of an image. Called by generators/ and
real_images/; augment/ moves labels by itself, and is tested against these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from datagen.errors import LabelError
from datagen.label_shapes import Box, instance_boxes
from datagen.labels import Instances, Keypoint, LabelledObject, Labels, Mask

_Move = Callable[[float, float], tuple[float, float]]
_SIDES = {"left_": "right_", "right_": "left_"}


def flip_labels(labels: Labels, shape: tuple[int, int], *, axis: int) -> Labels:
    """Mirrored: upside down for axis 0, left to right for axis 1, as numpy.flip does. shape: of
    the image, (H, W). Keypoints named left_* and right_* swap names."""
    height, width = shape

    def move(x: float, y: float) -> tuple[float, float]:
        return (x, height - y) if axis == 0 else (width - x, y)

    return _moved(
        labels,
        move,
        mask=None if labels.mask is None else np.flip(labels.mask, axis).copy(),
        instances=None if labels.instances is None else np.flip(labels.instances, axis).copy(),
        mirrored=True,
    )


def turn_labels(labels: Labels, shape: tuple[int, int], *, quarters: int) -> Labels:
    """Turned by quarters x 90 degrees against the clock, as numpy.rot90 does."""
    height, width = shape
    moves: list[_Move] = [
        lambda x, y: (x, y),
        lambda x, y: (y, width - x),
        lambda x, y: (width - x, height - y),
        lambda x, y: (height - y, x),
    ]
    spacing = labels.spacing_mm
    if spacing is not None and quarters % 2:
        spacing = spacing[::-1]
    return _moved(
        replace(labels, spacing_mm=spacing),
        moves[quarters % 4],
        mask=None if labels.mask is None else np.rot90(labels.mask, quarters).copy(),
        instances=None if labels.instances is None else np.rot90(labels.instances, quarters).copy(),
    )


def crop_labels(
    labels: Labels,
    shape: tuple[int, int],
    *,
    box_xyxy: tuple[int, int, int, int],
    min_visibility: float = 0.0,
) -> Labels:
    """What is true inside the box. Boxes are clipped, those of instances made anew; keypoints
    outside are left out, and so are objects of which less than min_visibility of the area, or
    nothing, is inside. Raises LabelError if the box is empty or leaves the image."""
    x0, y0, x1, y1 = box_xyxy
    height, width = shape
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise LabelError(
            f"crop: {list(box_xyxy)}; expected [x0, y0, x1, y1] within {width} x {height} pixels"
        )
    inside = np.s_[y0:y1, x0:x1]
    moved = _moved(
        labels,
        lambda x, y: (x - x0, y - y0),
        mask=None if labels.mask is None else labels.mask[inside].copy(),
        instances=None if labels.instances is None else labels.instances[inside].copy(),
    )
    if labels.objects is None or moved.objects is None:
        return moved
    visible = (
        _visible_pixels(labels, moved)
        if labels.instances is not None
        else [_visible_share(each.box_xyxy, (x1 - x0, y1 - y0)) for each in moved.objects]
    )
    return keep_objects(
        moved,
        [share > 0 and share >= min_visibility for share in visible],
        size=(y1 - y0, x1 - x0),
    )


def keep_objects(labels: Labels, kept: list[bool], *, size: tuple[int, int]) -> Labels:
    """Without the other objects, in `instances` neither; what is kept is clipped to the image of
    this size, (H, W), and instances are numbered from 1 again."""
    assert labels.objects is not None
    instances = labels.instances
    if instances is not None:
        numbers = np.zeros(len(kept) + 1, np.uint16)
        numbers[1:] = np.cumsum(kept) * np.asarray(kept, np.int64)
        instances = numbers[instances]
    boxes = instance_boxes(instances) if instances is not None else None
    objects: list[LabelledObject] = []
    for each, is_kept in zip(labels.objects, kept, strict=True):
        if is_kept:
            box = boxes[len(objects) + 1] if boxes is not None else clip_box(each.box_xyxy, size)
            keypoints = tuple(k for k in each.keypoints if inside_image(k.x, k.y, size))
            objects.append(replace(each, box_xyxy=box, keypoints=keypoints))
    return replace(labels, instances=instances, objects=tuple(objects))


def clip_box(box_xyxy: Box, size: tuple[int, int]) -> Box:
    height, width = size
    x0, y0, x1, y1 = box_xyxy
    return max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)


def inside_image(x: float, y: float, size: tuple[int, int]) -> bool:
    height, width = size
    return 0 <= x <= width and 0 <= y <= height


def mirrored_name(name: str) -> str:
    """left_eye for right_eye, and the other way."""
    for side, other in _SIDES.items():
        if name.startswith(side):
            return other + name.removeprefix(side)
    return name


def _visible_pixels(before: Labels, after: Labels) -> list[float]:
    assert before.objects is not None
    assert before.instances is not None
    assert after.instances is not None
    num = len(before.objects) + 1
    counts = np.bincount(before.instances.ravel(), minlength=num)
    left = np.bincount(after.instances.ravel(), minlength=num)
    shares: list[float] = (left / np.maximum(counts, 1))[1:num].tolist()
    return shares


def _visible_share(box_xyxy: Box, size: tuple[int, int]) -> float:
    """Of a box, the share inside an image that is `size` = (W, H) large."""
    x0, y0, x1, y1 = box_xyxy
    left = max(0.0, min(x1, size[0]) - max(x0, 0.0)) * max(0.0, min(y1, size[1]) - max(y0, 0.0))
    return left / ((x1 - x0) * (y1 - y0))


def _moved(
    labels: Labels,
    move: _Move,
    *,
    mask: Mask | None,
    instances: Instances | None,
    mirrored: bool = False,
) -> Labels:
    objects = labels.objects
    if objects is not None:
        objects = tuple(_moved_object(each, move, mirrored=mirrored) for each in objects)
    return replace(labels, mask=mask, instances=instances, objects=objects)


def _moved_object(each: LabelledObject, move: _Move, *, mirrored: bool) -> LabelledObject:
    x0, y0, x1, y1 = each.box_xyxy
    (ax, ay), (bx, by) = move(x0, y0), move(x1, y1)
    keypoints = []
    for point in each.keypoints:
        x, y = move(point.x, point.y)
        name = mirrored_name(point.name) if mirrored else point.name
        keypoints.append(Keypoint(name, x, y, point.visibility))
    box = (min(ax, bx), min(ay, by), max(ax, bx), max(ay, by))
    return replace(each, box_xyxy=box, keypoints=tuple(keypoints))
