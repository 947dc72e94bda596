"""The images that a report shows, and their way into a page: PNG or WebP in data URIs.

Pictures is made by evaluate.py and the commands; render.py shows it. Images are HWC uint8.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

# Up to this side an image is shown pixel by pixel; above, reduced to it and lightly compressed.
EXACT_SIDE_PX = 64
SHOWN_SIDE_PX = 160
_WEBP_QUALITY = 85


@dataclass(frozen=True)
class GalleryItem:
    """One image of the data set. key: of the sample: what marks.json names. suspicion: why a
    reviewer should look twice, in words; empty where nothing is suspected."""

    key: str
    image: Pixels
    split: str = ""
    suspicion: str = ""


@dataclass(frozen=True)
class PairPicture:
    """A synthetic image beside the training image and the held-out real image nearest to it.

    caption: says whether it is flagged, such as "Flagged: score 0.93, mirrored". The names are of
    files or samples. nearest_held_out is None where no held-out images were given.
    """

    synthetic: Pixels
    nearest_training: Pixels
    nearest_held_out: Pixels | None
    caption: str
    synthetic_name: str = ""
    training_name: str = ""
    held_out_name: str = ""
    is_flagged: bool = True


@dataclass(frozen=True)
class Pictures:
    """gallery: class name -> its images, what should be seen first first: a page takes as many as
    fit. pairs: worst first."""

    gallery: Mapping[str, Sequence[GalleryItem]] = field(default_factory=dict)
    pairs: Sequence[PairPicture] = ()


@dataclass(frozen=True)
class Shown:
    """An image as the page holds it. is_exact: pixel by pixel, to be magnified without blur."""

    uri: str
    width: int
    height: int
    is_exact: bool


def encode(image: Pixels) -> Shown:
    """image: (H, W, C) uint8, C is 1 or 3."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    is_exact = max(picture.size) <= EXACT_SIDE_PX
    if not is_exact:
        picture.thumbnail((SHOWN_SIDE_PX, SHOWN_SIDE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if is_exact:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "WEBP", quality=_WEBP_QUALITY, method=4)
    kind = "png" if is_exact else "webp"
    data = base64.b64encode(buffer.getvalue()).decode()
    return Shown(f"data:image/{kind};base64,{data}", *picture.size, is_exact)
