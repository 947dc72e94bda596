"""Label maps out of picture files. Called by real_images/ and generators/.

What is read is hostile: sizes are checked before anything is decoded.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError, LabelError
from datagen.images import MAX_PIXELS

if TYPE_CHECKING:
    import PIL.Image

LabelMap = NDArray[np.uint8] | NDArray[np.uint16]
Colour = tuple[int, int, int]

_DEPTH_AT = 24  # in the file. Source: PNG specification, third edition, 5.2 and 11.2.1
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_mask(
    source: bytes | Path,
    *,
    name: str,
    max_side_px: int | None = None,
    colours: Mapping[Colour, int] | None = None,
) -> LabelMap:
    """The (H, W) values of a PNG: grey of 1, 8 or 16 bits, or a palette's indices. uint16 for 16
    bits, else uint8.

    colours: what each colour means, 0 to 255; then colours count, of palettes and grey as well.
    name: for messages. Raises LabelError for a file of another kind, broken, too large, or with a
    colour that has no meaning.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with ExitStack() as stack:
                file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
                stack.enter_context(file)
                image = stack.enter_context(Image.open(file, formats=("PNG",)))
                _check_size(image.size, name, max_side_px)
                file.seek(_DEPTH_AT)
                depth = file.read(1)[0]
                return _values(image, name, depth=depth, colours=colours)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise LabelError(f"label map {name}: above {MAX_PIXELS} pixels; resize it") from None
    except Exception as error:  # on hostile bytes, decoders raise almost anything
        raise LabelError(f"label map {name} is not a readable PNG: {error}") from None


def _check_size(size: tuple[int, int], name: str, max_side_px: int | None) -> None:
    width, height = size
    if width * height > MAX_PIXELS or (max_side_px is not None and max(size) > max_side_px):
        allowed = f"at most {MAX_PIXELS} pixels"
        if max_side_px is not None:
            allowed += f" and sides of at most {max_side_px}"
        raise LabelError(
            f"label map {name}: {width} x {height} pixels; expected {allowed}: cut it up, or scale "
            "it by nearest neighbour"
        )


def _values(
    image: PIL.Image.Image, name: str, *, depth: int, colours: Mapping[Colour, int] | None
) -> LabelMap:
    """depth: bits a channel."""
    if colours is not None and image.mode in ("RGB", "P", "L"):
        return _of_colours(np.asarray(image.convert("RGB")), name, colours)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode == "L":
        return np.asarray(image) // _scale(depth)
    if image.mode == "P":
        return np.array(image, dtype=np.uint8)
    if image.mode in _SIXTEEN_BIT:
        return np.asarray(image).astype(np.uint16)
    raise LabelError(
        f"label map {name}: its pixels are of kind {image.mode}; expected one number a pixel, as "
        "grey of 1, 8 or 16 bits or a palette has it"
        + (": say which colour each name has" if image.mode == "RGB" else ": save it so")
    )


def _scale(depth: int) -> np.uint8:
    """What Pillow multiplied grey of 2 or 4 bits by, to make white 255."""
    return np.uint8({2: 85, 4: 17}.get(depth, 1))


def _of_colours(
    pixels: NDArray[np.uint8], name: str, colours: Mapping[Colour, int]
) -> NDArray[np.uint8]:
    codes = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    known = {(r << 16) | (g << 8) | b: value for (r, g, b), value in colours.items()}
    found, places = np.unique(codes, return_inverse=True)
    unknown = [code for code in found.tolist() if code not in known]
    if unknown:
        colour = [unknown[0] >> 16, unknown[0] >> 8 & 255, unknown[0] & 255]
        raise LabelError(
            f"label map {name}: {len(unknown)} colours without a meaning, {colour} among them; "
            "give each a value, and save without smoothing"
        )
    values = np.array([known[code] for code in found.tolist()], np.uint8)
    return values[places].reshape(codes.shape)
