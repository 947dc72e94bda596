"""Images to one size. Called on loading and when sets are matched."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from datagen.images import Image as Pixels


def resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """size: (height, width). Bicubic and antialiased: filters that skip pixels on shrinking shift
    FID by more than models differ (Parmar et al. 2022, arXiv 2104.11222)."""
    if image.shape[:2] == size:
        return image
    from PIL import Image

    source = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    pixels = np.asarray(source.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return pixels if pixels.ndim == 3 else pixels[..., None]


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
