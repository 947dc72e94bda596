"""Conditions as the planes that networks read. Torch-free.

Called by the samplers and specs of families that take conditions, by model_directory.py, and by
training/pairs.py: a training encodes what it reads as a sampler encodes what is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datagen.conditions import Condition, ConditionConfig
from datagen.errors import ModelError
from datagen.recipe import CONDITION_KINDS, ConditionKind

Planes = NDArray[np.float32]  # (K, H, W) of one condition, (N, K, H, W) of several

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

MAX_NAMES = 256
# Which kinds the models of a family may take; a family that is not here takes none.
KINDS_TAKEN: dict[str, tuple[ConditionKind, ...]] = {"edm": CONDITION_KINDS, "spade": ("mask",)}


def num_channels(config: ConditionConfig) -> int:
    """K, the number of planes.

    mask: one for each name. image: its channels. inpaint: the picture's, one for the hole, and one
    for each name. layout: one for each name but the first, the background.
    """
    if config.kind == "image":
        return config.channels
    if config.kind == "layout":
        return len(config.names) - 1
    return len(config.names) + (config.channels + 1 if config.kind == "inpaint" else 0)


def encode(
    conditions: Sequence[Condition], config: ConditionConfig, *, size: tuple[int, int]
) -> Planes:
    """Returns (N, num_channels(config), H, W) float32.

    size: (H, W) of the images. mask: 1 where a pixel has that value, else 0. image: [-1, 1].
    inpaint: the picture in [-1, 1], 0 in the hole; 1 in the hole; of the label map, what lies in
    the hole. layout: 1 in the boxes of a class, the pixels whose centres they hold.
    Raises ModelError if a condition lacks its part, or has another size or unknown values.
    """
    planes = np.zeros((len(conditions), num_channels(config), *size), np.float32)
    for target, condition in zip(planes, conditions, strict=True):
        _ENCODERS[config.kind](target, condition, config)
    return planes


def encode_batch(
    conditions: Sequence[Condition],
    config: ConditionConfig,
    *,
    size: tuple[int, int],
    batch_size: int,
) -> Planes:
    """As encode, the first repeated up to batch_size, as weights.pad_batch does with the seeds."""
    if not 0 < len(conditions) <= batch_size:
        raise ValueError(f"{len(conditions)} conditions, batch {batch_size}")
    planes = np.zeros((batch_size, num_channels(config), *size), np.float32)
    planes[: len(conditions)] = encode(conditions, config, size=size)
    planes[len(conditions) :] = planes[0]
    return planes


def refuse_unconditioned(config: ConditionConfig | None) -> None:
    """Raises ModelError if a model of this config is to draw without a condition."""
    if config is not None:
        raise ModelError(
            f"the model takes a condition of kind {config.kind} with each image; name who draws "
            f"them, as in conditioning: {{{config.kind}: {{model: ...}}}}"
        )


def check_condition(generator: str, config: ConditionConfig | None) -> None:
    """Raises ModelError unless models of this family can take it."""
    if config is None:
        return
    kinds = KINDS_TAKEN.get(generator, ())
    if config.kind not in kinds:
        able = [name for name, taken in KINDS_TAKEN.items() if config.kind in taken]
        raise ModelError(
            f"generator {generator}: condition of kind {config.kind}: expected "
            f"{' or '.join(kinds) or 'none'}; use generator {' or '.join(able)}"
        )
    fault = _fault_of(config)
    if fault:
        raise ModelError(f"generator {generator}: condition of kind {config.kind}: {fault}")


def _fault_of(config: ConditionConfig) -> str:
    names, channels = config.names, config.channels
    needed = {"mask": 2, "layout": 2, "inpaint": 0, "image": 0}[config.kind]
    most = 0 if config.kind == "image" else MAX_NAMES
    if not needed <= len(names) <= most or len(set(names)) < len(names):
        return f"{len(names)} names; expected {needed} to {most}, none twice"
    has_picture = config.kind in ("image", "inpaint")
    if channels not in ((1, 3) if has_picture else (0,)):
        return f"{channels} channels; expected {'1 or 3' if has_picture else '0'}"
    return ""


def _encode_mask(target: Planes, condition: Condition, config: ConditionConfig) -> None:
    mask = _part(condition.mask, "a label map", target.shape[1:])
    largest = int(mask.max(initial=0))
    if largest >= len(config.names):
        raise ModelError(
            f"condition: a label map holds the value {largest}; expected 0 to "
            f"{len(config.names) - 1}, for {', '.join(config.names)}: draw it with a model of "
            "these names"
        )
    target[:] = mask == np.arange(len(config.names))[:, None, None]


def _encode_image(target: Planes, condition: Condition, config: ConditionConfig) -> None:
    image = _part(condition.image, "a picture", (*target.shape[1:], config.channels))
    target[:] = image.transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - 1


def _encode_inpaint(target: Planes, condition: Condition, config: ConditionConfig) -> None:
    hole = _part(condition.region, "a region", target.shape[1:])
    _encode_image(target[: config.channels], condition, config)
    target[: config.channels, hole] = 0
    target[config.channels] = hole
    if config.names:
        _encode_mask(target[config.channels + 1 :], condition, config)
        target[config.channels + 1 :, ~hole] = 0


def _encode_layout(target: Planes, condition: Condition, config: ConditionConfig) -> None:
    height, width = target.shape[1:]
    for each in condition.labels.objects or ():
        if each.class_name not in config.names[1:]:
            raise ModelError(
                f"condition: an object of class {each.class_name!r}; expected one of "
                f"{', '.join(config.names[1:])}: draw it with a model of these names"
            )
        x0, y0, x1, y1 = each.box_xyxy
        columns = np.arange(width) + 0.5
        rows = np.arange(height) + 0.5
        inside = ((rows >= y0) & (rows < y1))[:, None] & ((columns >= x0) & (columns < x1))
        target[config.names.index(each.class_name) - 1][inside] = 1


def _part(array: NDArray[Pixel] | None, what: str, shape: tuple[int, ...]) -> NDArray[Pixel]:
    if array is None:
        raise ModelError(f"condition: {what} is missing; draw it with a model of that kind")
    if array.shape != shape:
        raise ModelError(
            f"condition: {what} of shape {array.shape}; expected {shape}, as the model makes images"
        )
    return array


_ENCODERS = {
    "mask": _encode_mask,
    "image": _encode_image,
    "inpaint": _encode_inpaint,
    "layout": _encode_layout,
}
