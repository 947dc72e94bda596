"""Images to one size. Called on loading and when sets are matched."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.images import Image as Pixels

Fit = Literal["crop", "pad", "stretch"]
# What is said of images whose proportions are not those of the size.
PROPORTIONS: dict[Fit, str] = {
    "crop": ", their middle cut out",
    "pad": ", padded with black",
    "stretch": ", which changes their proportions",
}


def fitted(image: Pixels, size: tuple[int, int], fit: Fit) -> Pixels:
    """size: (height, width). crop: the middle of an image that covers the size; pad: the whole
    image inside it, on black; stretch: to the size, whatever the proportions."""
    if fit == "stretch" or image.shape[:2] == size:
        return resized(image, size)
    old_height, old_width = image.shape[:2]
    scales = (size[0] / old_height, size[1] / old_width)
    if fit == "crop":
        # Cut before the resizing: of a thin strip, the whole would be made huge.
        # min: a rounding of the quotient may leave the image by 1e-14 pixels, which Pillow refuses.
        height = min(size[0] / max(scales), old_height)
        width = min(size[1] / max(scales), old_width)
        left, top = (old_width - width) / 2, (old_height - height) / 2
        return resized(image, size, box=(left, top, left + width, top + height))
    height, width = (max(1, round(min(scales) * old)) for old in image.shape[:2])
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    padded = np.zeros((*size, image.shape[2]), np.uint8)
    padded[top : top + height, left : left + width] = resized(image, (height, width))
    return padded


def resized(
    image: Pixels, size: tuple[int, int], *, box: tuple[float, float, float, float] | None = None
) -> Pixels:
    """size: (height, width). box: (left, top, right, bottom), of the image; None for all of it.
    Bicubic and antialiased: filters that skip pixels on shrinking shift FID by more than models
    differ (Parmar et al. 2022, arXiv 2104.11222)."""
    if box is None and image.shape[:2] == size:
        return image
    from PIL import Image

    source = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    pixels = np.asarray(source.resize((size[1], size[0]), Image.Resampling.BICUBIC, box))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def fitted_mask(mask: NDArray[np.uint8], size: tuple[int, int], fit: Fit) -> NDArray[np.uint8]:
    """As fitted does with its image, by nearest neighbour; padded with 0, the background.

    mask: (H, W).
    """
    if mask.shape == size:
        return mask
    from PIL import Image

    old_height, old_width = mask.shape
    scale_y, scale_x = _scales_of((old_height, old_width), size, fit)
    height, width = old_height * scale_y, old_width * scale_x
    source = Image.fromarray(mask)
    if fit != "pad":
        # What the size shows of the image, in the image's pixels.
        shown = (size[0] * old_height / height, size[1] * old_width / width)
        top, left = (old_height - shown[0]) / 2, (old_width - shown[1]) / 2
        box = (left, top, left + shown[1], top + shown[0])
        return np.asarray(source.resize((size[1], size[0]), Image.Resampling.NEAREST, box))
    rows, columns = max(1, round(height)), max(1, round(width))
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    padded = np.zeros(size, np.uint8)
    inner = source.resize((columns, rows), Image.Resampling.NEAREST)
    padded[top : top + rows, left : left + columns] = np.asarray(inner)
    return padded


def fitted_spacing(
    spacing_mm: tuple[float, float], old_size: tuple[int, int], size: tuple[int, int], fit: Fit
) -> tuple[float, float]:
    """(rows, columns) between centres of pixels, after `fitted`."""
    scale_y, scale_x = _scales_of(old_size, size, fit)
    return spacing_mm[0] / scale_y, spacing_mm[1] / scale_x


def _scales_of(old_size: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[float, float]:
    """By how much `fitted` enlarges rows and columns."""
    scales = (size[0] / old_size[0], size[1] / old_size[1])
    if fit == "stretch":
        return scales
    scale = max(scales) if fit == "crop" else min(scales)
    return scale, scale


def resize_all(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """images: (N, H, W, C)."""
    if images.shape[1:3] == size:
        return images
    target = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for row, image in enumerate(images):
        target[row] = resized(image, size)
    return target


def size_text(size: tuple[int, int]) -> str:
    """As people say it: width first."""
    return f"{size[1]} x {size[0]}"
