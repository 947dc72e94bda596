"""The conditions that images are trained with: of the rows that a step draws, and of the held-out
images that judge the weights. Called by session.py, loop.py and judge.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.conditions import Condition, ConditionConfig
from datagen.generators.encoding import encode
from datagen.image_set import ImageSet
from datagen.labels import LabelledObject, Labels
from datagen.training.dataset import RealImages
from datagen.training.model_recipe import ConditionSource

# Of the sides of an image: what an inpainting is to fill when it trains.
_HOLE_SHARES = (0.2, 0.6)
# Holes around what a label map shows, rather than anywhere.
_AROUND_OBJECTS = 0.75
_MARGIN_SHARE = 0.1
_HUES = np.array([2.0, 0.0, 4.0])


def condition_config(source: ConditionSource | None, images: ImageSet) -> ConditionConfig | None:
    """What a model trained on these pairs takes."""
    if source is None:
        return None
    if source.kind == "image":
        assert images.conditions is not None
        return ConditionConfig("image", channels=images.conditions.shape[3])
    channels = images.image_shape[2] if source.kind == "inpaint" else 0
    return ConditionConfig(source.kind, images.mask_names, channels)


def condition_at(
    part: RealImages, row: int, config: ConditionConfig, *, rng: np.random.Generator
) -> Condition:
    """rng: of the hole of an inpainting; it draws nothing else."""
    mask = None if part.masks is None else part.masks[row]
    labels = Labels(class_name=str(part.class_ids[row]))
    if config.kind == "image":
        assert part.pictures is not None
        return Condition(labels, image=part.pictures[row])
    if config.kind == "inpaint":
        region = _hole(part.images.shape[1:3], mask, rng)
        return Condition(labels, mask=mask, image=part.images[row], region=region)
    assert mask is not None
    if config.kind == "layout":
        return Condition(Labels(labels.class_name, objects=boxes_of(mask, config.names)))
    return Condition(labels, mask=mask)


def planes_of(
    part: RealImages, config: ConditionConfig, *, step_rng: torch.Generator, device: str
) -> torch.Tensor:
    """(N, K, H, W) float32 of all images of the part. step_rng: of the step; nothing is drawn from
    it but for inpainting, where the holes come from one draw."""
    seed = int(torch.randint(2**31, (1,), generator=step_rng)) if config.kind == "inpaint" else 0
    rng = np.random.default_rng(seed)
    conditions = [condition_at(part, row, config, rng=rng) for row in range(len(part))]
    planes = encode(conditions, config, size=part.images.shape[1:3])
    return torch.from_numpy(planes).to(device)


def held_out_conditions(part: RealImages, config: ConditionConfig) -> list[Condition]:
    """One of each image; the hole of an inpainting is that of its row."""
    return [
        condition_at(part, row, config, rng=np.random.default_rng(row)) for row in range(len(part))
    ]


def boxes_of(mask: NDArray[np.uint8], names: Sequence[str]) -> tuple[LabelledObject, ...]:
    """Of each connected piece (8 neighbours) of each class, the box around its pixels."""
    from scipy import ndimage

    objects = []
    for value in np.unique(mask[mask > 0]).tolist():
        pieces, _ = ndimage.label(mask == value, structure=np.ones((3, 3), np.int8))
        for rows, columns in ndimage.find_objects(pieces):
            box = (columns.start, rows.start, columns.stop, rows.stop)
            x0, y0, x1, y1 = (float(side) for side in box)
            objects.append(LabelledObject(names[value], (x0, y0, x1, y1)))
    return tuple(objects)


def picture_of(
    condition: Condition, config: ConditionConfig, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """(H, W, 3), for people: label maps and boxes in colours, a hole in grey."""
    if condition.image is not None:
        picture = np.broadcast_to(condition.image[..., :3], (*size, 3)).copy()
        if condition.region is not None:
            picture[condition.region] = 128
        return picture
    values = np.zeros(size, np.uint8)
    if condition.mask is not None:
        values = condition.mask
    for each in condition.labels.objects or ():
        x0, y0, x1, y1 = (round(side) for side in each.box_xyxy)
        values[y0:y1, x0:x1] = config.names.index(each.class_name)
    return _colours(max(2, len(config.names)))[values]


def _colours(num: int) -> NDArray[np.uint8]:
    """(num, 3): black, then hues evenly around the circle."""
    turns = np.arange(num - 1)[:, None] / max(1, num - 1) * 6
    ramps = np.clip(np.abs((turns + 6 - _HUES) % 6 - 3) - 1, 0, 1)
    levels = np.rint(55 + 200 * ramps).astype(np.uint8)
    return np.concatenate([np.zeros((1, 3), np.uint8), levels])


def _hole(
    size: tuple[int, int], mask: NDArray[np.uint8] | None, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A rectangle: around one piece of what the label map shows, with a margin, or anywhere."""
    rows, columns = _rectangle(size, rng)
    if mask is not None and mask.any() and rng.random() < _AROUND_OBJECTS:
        boxes = boxes_of(mask, [str(value) for value in range(256)])
        x0, y0, x1, y1 = boxes[rng.integers(len(boxes))].box_xyxy
        margin = max(1, round(_MARGIN_SHARE * max(size)))
        rows = slice(max(0, int(y0) - margin), int(y1) + margin)
        columns = slice(max(0, int(x0) - margin), int(x1) + margin)
    hole = np.zeros(size, np.bool_)
    hole[rows, columns] = True
    return hole


def _rectangle(size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    sides = [max(1, round(side * rng.uniform(*_HOLE_SHARES))) for side in size]
    first = [int(rng.integers(side - part + 1)) for side, part in zip(size, sides, strict=True)]
    return slice(first[0], first[0] + sides[0]), slice(first[1], first[1] + sides[1])
