"""Masks, boxes, instances and run lengths, each made of another. Called by generators/, formats/,
augment/ and real_images/; numpy alone, but for connected parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datagen.errors import LabelError
from datagen.labels import Instances, LabelledObject, Mask

Box = tuple[float, float, float, float]
MAX_INSTANCES = 65_535


def instance_boxes(instances: Instances) -> dict[int, Box]:
    """The tight box of every value above 0, in xyxy pixels, by ascending value."""
    boxes: dict[int, Box] = {}
    rows, columns = np.nonzero(instances)
    values = instances[rows, columns]
    order = np.argsort(values, kind="stable")
    rows, columns, values = rows[order], columns[order], values[order]
    found, starts = np.unique(values, return_index=True)
    if found.size == 0:
        return boxes
    ends = [np.minimum.reduceat(columns, starts), np.minimum.reduceat(rows, starts)]
    ends += [np.maximum.reduceat(columns, starts) + 1, np.maximum.reduceat(rows, starts) + 1]
    for value, x0, y0, x1, y1 in zip(found, *ends, strict=True):
        boxes[int(value)] = (float(x0), float(y0), float(x1), float(y1))
    return boxes


def box_mask(box_xyxy: Sequence[float], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W): the pixels whose centres lie inside the box."""
    x0, y0, x1, y1 = (int(np.ceil(end - 0.5)) for end in box_xyxy)
    mask = np.zeros(shape, np.bool_)
    mask[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = True
    return mask


def paint_boxes(boxes_xyxy: Sequence[Sequence[float]], shape: tuple[int, int]) -> Instances:
    """Box k - 1 as the value k, later ones over earlier ones."""
    instances = np.zeros(shape, np.uint16)
    for value, box in enumerate(boxes_xyxy, start=1):
        instances[box_mask(box, shape)] = value
    return instances


def split_mask(
    mask: Mask, names: Sequence[str], *, min_pixels: int = 1, diagonal: bool = True
) -> tuple[Instances, tuple[LabelledObject, ...]]:
    """The connected parts of each value above 0 as objects: by value, then from the top left.

    names: of the values, the first "background". diagonal: whether pixels that touch at a corner
    are of one part. Raises LabelError for a value without a name or above 65,535 parts.
    """
    import cv2

    instances = np.zeros(mask.shape, np.uint16)
    objects: list[LabelledObject] = []
    for value in np.unique(mask[mask > 0]).tolist():
        if value >= len(names):
            raise LabelError(_no_name(value, names))
        region = (mask == value).astype(np.uint8)
        _, parts = cv2.connectedComponents(region, connectivity=8 if diagonal else 4)
        numbers, firsts, counts = np.unique(parts, return_index=True, return_counts=True)
        kept = (numbers > 0) & (counts >= min_pixels)
        for number in numbers[kept][np.argsort(firsts[kept])]:
            if len(objects) == MAX_INSTANCES:
                raise LabelError(
                    f"mask: above {MAX_INSTANCES} connected parts; remove specks from it, or give "
                    "a larger min_pixels"
                )
            instances[parts == number] = len(objects) + 1
            objects.append(LabelledObject(names[value], (0.0, 0.0, 1.0, 1.0)))
    boxes = instance_boxes(instances)
    return instances, tuple(
        LabelledObject(each.class_name, boxes[index]) for index, each in enumerate(objects, start=1)
    )


def _no_name(value: int, names: Sequence[str]) -> str:
    return (
        f"mask: value {value} has no name; expected values from 0 to {len(names) - 1} "
        f"({', '.join(names)}): name it, or map it to one of these"
    )


def run_lengths(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> list[int]:
    """COCO's uncompressed counts of a binary (H, W) mask: down the columns, zeros first.

    Source: COCO API, mask.h (the RLE format).
    """
    flat = (np.asarray(mask) != 0).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate([[0], changes, [flat.size]])
    counts: list[int] = np.diff(ends).tolist()
    return [0, *counts] if flat.size and flat[0] else counts


def from_run_lengths(counts: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The inverse of run_lengths. Raises LabelError if counts do not fill the shape."""
    height, width = shape
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        raise LabelError(
            f"run lengths: they add up to {sum(counts)}, some may be below 0; expected counts from "
            f"0 that add up to {height * width}, the pixels of {width} x {height}"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, np.asarray(counts, np.int64)).reshape(shape, order="F")


def pack_run_lengths(counts: Sequence[int]) -> str:
    """COCO's compressed string: each count less the one two before it, in groups of five bits, the
    lowest first, a sixth says that more follow. Source: COCO API, maskApi.c, rleToString."""
    letters: list[str] = []
    for index, count in enumerate(counts):
        rest = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = rest & 0x1F
            rest >>= 5
            more = rest != (-1 if bits & 0x10 else 0)
            letters.append(chr((bits | (0x20 if more else 0)) + 48))
    return "".join(letters)


def unpack_run_lengths(text: str) -> list[int]:
    """The inverse of pack_run_lengths. Raises LabelError if it is not such a string."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise LabelError(f"run lengths: {letter!r} is no part of COCO's compressed counts")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise LabelError("run lengths: the compressed counts end in the middle of a number")
    return counts
