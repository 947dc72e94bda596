"""Are labels what they claim to be? Called where labels come in: real_images/, generators/ and
where they are packed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from datagen.errors import LabelError
from datagen.label_shapes import instance_boxes
from datagen.labels import HIDDEN, VISIBLE, Instances, LabelledObject, Labels

KINDS = ("mask", "instances", "boxes", "keypoints")


def label_kinds(labels: Labels) -> frozenset[str]:
    """Which of KINDS there are. boxes: those without instance masks, for the others follow from
    their masks."""
    objects = labels.objects or ()
    there = {
        "mask": labels.mask is not None,
        "instances": labels.instances is not None,
        "boxes": labels.objects is not None and labels.instances is None,
        "keypoints": any(each.keypoints for each in objects),
    }
    return frozenset(kind for kind in KINDS if there[kind])


def check_labels(labels: Labels, image_shape: tuple[int, ...], names: Sequence[str]) -> None:
    """image_shape: (H, W) or (H, W, C). names: of the values of masks and the classes of objects,
    the first "background". Raises LabelError naming the part, its value and what to do."""
    height, width = image_shape[:2]
    size = (height, width)
    if labels.mask is not None:
        _check_pixels(labels.mask, "mask", np.uint8, size)
        highest = int(labels.mask.max())
        if highest >= len(names):
            raise LabelError(
                f"mask: value {highest} has no name; expected values from 0 to {len(names) - 1} "
                f"({', '.join(names)}): name it, or map it to one of these"
            )
    if labels.instances is not None:
        _check_pixels(labels.instances, "instances", np.uint16, size)
        if labels.objects is None:
            raise LabelError("instances: there are no objects; expected one for each value above 0")
        _check_instances(labels, len(labels.objects))
    for index, each in enumerate(labels.objects or ()):
        _check_object(each, f"objects[{index}]", size, names)
    if labels.instances is not None:
        _check_tight(labels.objects or (), labels.instances)
    if labels.spacing_mm is not None:
        good = len(labels.spacing_mm) == 2 and all(
            math.isfinite(value) and value > 0 for value in labels.spacing_mm
        )
        if not good:
            raise LabelError(
                f"spacing_mm: {list(labels.spacing_mm)}; expected millimetres between rows and "
                "between columns, both above 0"
            )


def _check_pixels(
    pixels: object, field: str, dtype: type[np.generic], size: tuple[int, int]
) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.dtype != dtype:
        found = getattr(pixels, "dtype", type(pixels).__name__)
        raise LabelError(f"{field}: pixels of {found}; expected {dtype.__name__}")
    if pixels.shape != size:
        raise LabelError(
            f"{field}: its shape is {list(pixels.shape)}; expected that of the image, "
            f"{list(size)}: cut or scale it (nearest neighbour) with its image"
        )


def _check_instances(labels: Labels, num_objects: int) -> None:
    assert labels.instances is not None
    counts = np.bincount(labels.instances.ravel(), minlength=num_objects + 1)
    if len(counts) > num_objects + 1:
        raise LabelError(
            f"instances: value {len(counts) - 1} has no object; expected values from 0 to "
            f"{num_objects}, k for objects[k - 1]"
        )
    if (empty := np.flatnonzero(counts[1:] == 0)).size:
        raise LabelError(
            f"objects[{empty[0]}]: no pixel of instances has the value {empty[0] + 1}; leave the "
            "object out and number the others anew"
        )


def _check_tight(objects: Sequence[LabelledObject], instances: Instances) -> None:
    for value, box in instance_boxes(instances).items():
        given = objects[value - 1].box_xyxy
        if not np.allclose(given, box, atol=1e-3):
            raise LabelError(
                f"objects[{value - 1}].box_xyxy: {list(given)}; expected {list(box)}, the tight "
                "box around its pixels in instances"
            )


def _check_object(
    each: LabelledObject, field: str, size: tuple[int, int], names: Sequence[str]
) -> None:
    height, width = size
    if each.class_name not in names[1:]:
        raise LabelError(
            f"{field}.class_name: {each.class_name!r}; expected one of {', '.join(names[1:])}"
        )
    if len(each.box_xyxy) != 4 or not all(math.isfinite(end) for end in each.box_xyxy):
        raise LabelError(f"{field}.box_xyxy: {list(each.box_xyxy)}; expected four finite numbers")
    x0, y0, x1, y1 = each.box_xyxy
    if not (x0 < x1 and y0 < y1):
        raise LabelError(
            f"{field}.box_xyxy: {list(each.box_xyxy)} is empty; expected [x0, y0, x1, y1] with "
            "x0 < x1 and y0 < y1"
        )
    if not (x0 >= 0 and y0 >= 0 and x1 <= width and y1 <= height):
        raise LabelError(
            f"{field}.box_xyxy: {list(each.box_xyxy)} leaves the image of {width} x {height} "
            "pixels; clip it"
        )
    for number, point in enumerate(each.keypoints):
        where = f"{field}.keypoints[{number}] ({point.name})"
        if not (math.isfinite(point.x) and math.isfinite(point.y)):
            raise LabelError(f"{where}: [{point.x}, {point.y}]; expected finite numbers")
        if not (0 <= point.x <= width and 0 <= point.y <= height):
            raise LabelError(
                f"{where}: [{point.x}, {point.y}] lies outside the image of {width} x {height} "
                "pixels; leave it out"
            )
        if point.visibility not in (HIDDEN, VISIBLE):
            raise LabelError(
                f"{where}: visibility {point.visibility}; expected {VISIBLE} (seen) or {HIDDEN} "
                "(hidden behind something)"
            )
