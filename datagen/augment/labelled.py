"""Labels through what transforms did to their image. Called by augmenter.py.

Labels do not go through albumentations: its masks, sampled by each transform anew, drift from the
image; its boxes of turned boxes are loose. See docs/labels.md for both, measured.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from datagen.augment.moves import NEAREST, Bent, Move, Points, Size, inside, source_areas
from datagen.errors import LabelError
from datagen.label_moves import clip_box, keep_objects, mirrored_name
from datagen.label_shapes import Box
from datagen.labels import Instances, Keypoint, LabelledObject, Labels, Mask

_THINNEST_PX = 0.01  # of a box: below, it is nothing when it is written
_MM_DECIMALS = 9  # what is left of 0.1 + 0.2 is no length


def check_fit(labels: Labels, size: Size) -> None:
    """Raises LabelError for masks of another size than the image."""
    for field, pixels in (("mask", labels.mask), ("instances", labels.instances)):
        if pixels is not None and pixels.shape != size:
            raise LabelError(
                f"{field}: its shape is {list(pixels.shape)}; expected that of the image, "
                f"{list(size)}"
            )


def move_labels(labels: Labels, moves: list[Move], size: Size, *, min_visibility: float) -> Labels:
    """What is true after the moves.

    A pixel of masks takes the one value that most of it shows in the image. An object goes if none
    of it is left, or less than min_visibility of its area: what a zoom alone takes from or adds to
    its pixels does not count.
    """
    mask, instances = _moved_pixels(labels.mask, labels.instances, moves)
    spacing = _spacing(labels.spacing_mm, moves)
    moved = replace(labels, mask=mask, instances=instances, spacing_mm=spacing)
    if labels.objects is None:
        return moved
    if labels.instances is None:
        boxes, shares = _moved_boxes(labels.objects, moves, size)
    else:
        boxes = [each.box_xyxy for each in labels.objects]  # made anew from what is kept
        shares = _seen_shares(labels, moved, moves, size)
    mirrored = _is_mirrored(moves)
    objects = tuple(
        replace(each, box_xyxy=box, keypoints=_moved_keypoints(each, moves, size, mirrored))
        for each, box in zip(labels.objects, boxes, strict=True)
    )
    kept = [share > 0 and share >= min_visibility for share in shares]
    return keep_objects(replace(moved, objects=objects), kept, size=size)


def _moved_pixels(
    mask: Mask | None, instances: Instances | None, moves: list[Move]
) -> tuple[Mask | None, Instances | None]:
    """Each value is moved as its own picture, white on black, by the interpolation of the image;
    the whitest wins, and nothing does where black is whiter still. Both masks take part together,
    so that they agree. Where nothing is blended, the masks are pictures enough."""
    maps = [pixels for pixels in (mask, instances) if pixels is not None]
    if not maps:
        return None, None
    resamplers = [move.resampler(maps[0].shape) for move in moves]
    if all(move.interpolation == NEAREST for move in moves):
        for resample in resamplers:
            mask = None if mask is None else resample(mask)
            instances = None if instances is None else resample(instances)
        return mask, instances
    codes = sum(pixels.astype(np.int64) << (16 * index) for index, pixels in enumerate(maps))
    found, places = np.unique(codes, return_inverse=True)
    places = places.reshape(maps[0].shape)
    best = np.zeros(maps[0].shape, np.int64)  # the code that covers most so far
    most = np.zeros(maps[0].shape, np.uint8)
    rest = np.full(maps[0].shape, 255, np.int64)  # what background covers
    for number in np.flatnonzero(found > 0):
        cover = (places == number) * np.uint8(255)
        for resample in resamplers:
            cover = resample(cover)
        best = np.where(cover > most, found[number], best)
        most = np.maximum(cover, most)
        rest -= cover
    best[most < rest] = 0
    moved = [(best >> (16 * index)) & 0xFFFF for index in range(len(maps))]
    return (
        None if mask is None else moved[0].astype(np.uint8),
        None if instances is None else moved[-1].astype(np.uint16),
    )


def _seen_shares(before: Labels, after: Labels, moves: list[Move], size: Size) -> list[float]:
    """Of the pixels of each object, those still shown: a pixel after the moves stands for as many
    before as its area covers there."""
    assert before.objects is not None
    assert before.instances is not None
    assert after.instances is not None
    num = len(before.objects) + 1
    totals = np.bincount(before.instances.ravel(), minlength=num)
    shown = after.instances.ravel()
    seen = np.bincount(shown, weights=source_areas(moves, size).ravel(), minlength=num)
    shares: list[float] = (seen / np.maximum(totals, 1))[1:num].tolist()
    return shares


def _moved_boxes(
    objects: tuple[LabelledObject, ...], moves: list[Move], size: Size
) -> tuple[list[Box], list[float]]:
    """Boxes clipped to the image at each move, and the share of each that is left. True where
    sides stay upright; check.py allows no other transform for boxes alone."""
    boxes, shares = [], []
    for each in objects:
        box, share = each.box_xyxy, 1.0
        for move in moves:
            corners = np.array(box, np.float64).reshape(2, 2) - 0.5
            ends = move.shape.forward(corners) + 0.5
            low, high = ends.min(axis=0), ends.max(axis=0)
            whole: Box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
            box = clip_box(whole, size)
            sides = box[2] - box[0], box[3] - box[1]
            left = sides[0] * sides[1] if min(sides) >= _THINNEST_PX else 0.0
            share *= left / ((whole[2] - whole[0]) * (whole[3] - whole[1]))
            if share <= 0:
                break
        boxes.append(box)
        shares.append(share)
    return boxes, shares


def _moved_keypoints(
    each: LabelledObject, moves: list[Move], size: Size, mirrored: bool
) -> tuple[Keypoint, ...]:
    """Those that no move took out of the image."""
    if not each.keypoints:
        return ()
    points: Points = np.array([[k.x, k.y] for k in each.keypoints], np.float64) - 0.5
    seen = np.ones(len(points), np.bool_)
    for move in moves:
        points = move.shape.forward(np.where(seen[:, None], points, 0.0))
        seen &= inside(points, size)
    return tuple(
        Keypoint(
            mirrored_name(keypoint.name) if mirrored else keypoint.name,
            float(point[0] + 0.5),
            float(point[1] + 0.5),
            keypoint.visibility,
        )
        for keypoint, point, is_seen in zip(each.keypoints, points, seen, strict=True)
        if is_seen
    )


def _is_mirrored(moves: list[Move]) -> bool:
    """Whether left and right changed places: upside down does so too, but for half a turn."""
    matrices = [move.shape.matrix for move in moves if not isinstance(move.shape, Bent)]
    return sum(float(np.linalg.det(matrix)) < 0 for matrix in matrices) % 2 == 1


def _spacing(
    spacing_mm: tuple[float, float] | None, moves: list[Move]
) -> tuple[float, float] | None:
    """What a pixel measures after the moves: as long as rows and columns are still at right angles
    on the object, at one scale all over the image; else None."""
    if spacing_mm is None:
        return None
    back: NDArray[np.float64] = np.eye(3)
    for move in moves:
        if isinstance(move.shape, Bent):
            return None
        back = back @ np.linalg.inv(move.shape.matrix)
    if not np.allclose(back[2], [0, 0, 1], atol=1e-9):
        return None
    across, down = (np.diag([spacing_mm[1], spacing_mm[0]]) @ back[:2, :2]).T
    lengths = (
        round(float(np.hypot(*down)), _MM_DECIMALS),
        round(float(np.hypot(*across)), _MM_DECIMALS),
    )
    return lengths if abs(across @ down) < 1e-6 * lengths[0] * lengths[1] else None
