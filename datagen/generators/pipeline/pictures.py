"""Conditions as the pictures that a pipeline is shown. Called by sample.py."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.conditions import Condition
from datagen.errors import ModelError

Picture = NDArray[np.uint8]  # (H, W, 3)

NUM_COLOURS = 256


def palette() -> Picture:
    """(256, 3) uint8: colour of each value of a label map. 0, the background, is black; the hue of
    value k is k times the golden ratio, so that neighbours differ, and brightness falls each 16.
    """
    colours = np.zeros((NUM_COLOURS, 3), np.uint8)
    for value in range(1, NUM_COLOURS):
        brightness = 1.0 - 0.05 * (value // 16 % 8)
        rgb = colorsys.hsv_to_rgb(value * 0.6180339887 % 1, 1 - 0.3 * (value % 2), brightness)
        colours[value] = [round(255 * part) for part in rgb]
    return colours


_PALETTE = palette()


def pictures_of(
    conditions: Sequence[Condition], *, image_size: tuple[int, int], factor: int = 1
) -> list[Picture]:
    """What each image is made from. image_size: (height, width) of the images. factor: how many
    times smaller the picture is that an upscaling starts from.

    Raises ModelError for a picture that is missing, or of another size.
    """
    return [_picture(each.image, each.mask, image_size, factor) for each in conditions]


def shown(
    image: NDArray[np.uint8] | None, *, image_size: tuple[int, int], factor: int = 1
) -> Picture:
    """As pictures_of, of one picture without a label map."""
    return _picture(image, None, image_size, factor)


def _picture(
    image: NDArray[np.uint8] | None,
    mask: NDArray[np.uint8] | None,
    image_size: tuple[int, int],
    factor: int,
) -> Picture:
    if image is None and mask is not None:
        image = _PALETTE[mask]
    if image is None:
        raise ModelError("generator pipeline: an image without a picture to be made from")
    small = (image_size[0] // factor, image_size[1] // factor)
    if image.shape[:2] not in (image_size, small):
        wanted = f"{small[0]} x {small[1]} or " if factor > 1 else ""
        raise ModelError(
            f"generator pipeline: control image of {image.shape[0]} x {image.shape[1]} pixels; "
            f"expected {wanted}{image_size[0]} x {image_size[1]}, as the images are: set the "
            "recipe's image_size, or cut the pictures to it"
        )
    if image.ndim == 2:
        image = image[..., None]
    colours = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    return colours if colours.shape[:2] == small else _reduced(colours, factor)


def _reduced(image: Picture, factor: int) -> Picture:
    """Each pixel the mean of those that it stands for."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    blocks = image.reshape(height, factor, width, factor, 3).astype(np.uint32)
    sums = blocks.sum(axis=(1, 3))
    return np.asarray((sums + factor * factor // 2) // (factor * factor), np.uint8)


def as_tensor(pictures: Sequence[Picture], *, signed: bool) -> torch.Tensor:
    """(N, 3, H, W) float32 in [0, 1], or where signed in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return stacked * 2 - 1 if signed else stacked


def regions_of(conditions: Sequence[Condition], *, image_size: tuple[int, int]) -> torch.Tensor:
    """(N, 1, H, W) float32: 1 where an inpainted image is made anew. Raises ModelError."""
    regions = []
    for condition in conditions:
        if condition.region is None or condition.region.shape != image_size:
            raise ModelError(
                "generator pipeline: inpainting needs a region of the image's size; draw it with "
                "conditioning.inpaint"
            )
        regions.append(condition.region)
    return torch.from_numpy(np.stack(regions)).float()[:, None]
