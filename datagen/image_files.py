"""Files of real images in: IDX arrays, and pictures of any common kind as grey or RGB.

Called by real_images/. What is read is hostile: sizes are checked before anything is allocated.
"""

from __future__ import annotations

import gzip
import math
import re
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.images import MAX_PIXELS

if TYPE_CHECKING:
    import PIL.Image

# IDX magic numbers: unsigned byte, 1 or 3 dimensions. Source: LeCun, "THE IDX FILE FORMAT".
_IDX_MAGIC = {1: 0x801, 3: 0x803}

ORIENTED = "turned upright as their EXIF tag says"
SCALED = "16-bit grey divided by 257"
FLATTENED = "transparency laid on white"
CONVERTED = "converted to 8-bit RGB"
FIRST_FRAME = "of several frames, the first"

# IPTC's words for images that a trained model made, wholly or in part.
_SOURCE_TYPES = re.compile(rb"(?:t|compositeWithT)rainedAlgorithmicMedia")
_ATTEMPT_KEY = re.compile(r"[0-9a-f]{64}")
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_GREY, _WITH_ALPHA = ("1", "L"), ("LA", "La", "RGBA", "RGBa", "PA")


@dataclass(frozen=True)
class Picture:
    """pixels: (H, W, C) uint8, C 1 for grey and 3 for RGB. changes: what was done to get there, of
    the constants above. largest: the largest value of a 16-bit file, else 0. mark: None unless
    the file says that it is synthetic; then its attempt key if it is datagen's, else empty."""

    pixels: NDArray[np.uint8]
    changes: tuple[str, ...] = ()
    largest: int = 0
    mark: str | None = None


def read_idx(path: Path, *, ndim: Literal[1, 3], max_bytes: int) -> NDArray[np.uint8]:
    """Returns an array of the shape that the header says: a few bytes of gzip cannot fill the
    memory. Raises InputError."""
    try:
        with gzip.open(path, "rb") as file:
            head = file.read(4 * (1 + ndim))
            header = np.frombuffer(head.ljust(4 * (1 + ndim), b"\0"), dtype=">u4")
            if header[0] != _IDX_MAGIC[ndim]:
                raise InputError(
                    f"data file {path} is not an IDX file of {ndim} dimensions of bytes"
                )
            shape = tuple(int(n) for n in header[1:])
            num_bytes = math.prod(shape)
            if num_bytes > max_bytes:
                raise InputError(f"data file {path}: shape {shape} is above {max_bytes} bytes")
            body = np.frombuffer(file.read(num_bytes + 1), dtype=np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"data file {path} cannot be read: {error}; fetch it again") from None
    if body.size != num_bytes:
        raise InputError(
            f"data file {path}: {body.size} bytes where its header says {num_bytes}; fetch it again"
        )
    return body.reshape(shape)


def read_picture(
    file: Path | BinaryIO, *, formats: tuple[str, ...], name: str, max_side_px: int | None = None
) -> Picture:
    """formats: of Pillow, such as PNG. name: for messages.

    Raises InputError if it is none of these, broken, or too large.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Damaged metadata are no reason to refuse; a decompression bomb is.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as image:
                _check_size(image.size, name, max_side_px)
                mark = _synthetic_mark(image)
                return replace(_picture(image), mark=mark)
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"data file {name}: above {MAX_PIXELS} pixels; resize it") from None
    except Exception as error:  # on hostile bytes, decoders raise almost anything
        raise InputError(f"data file {name} is not a readable image: {error}") from None


def _check_size(size: tuple[int, int], name: str, max_side_px: int | None) -> None:
    width, height = size
    if max_side_px is not None and max(size) > max_side_px:
        raise InputError(
            f"data file {name}: {width} x {height} pixels; expected sides of at most "
            f"{max_side_px}: resize it"
        )
    if width * height > MAX_PIXELS:
        raise InputError(
            f"data file {name}: {width} x {height} pixels; expected at most {MAX_PIXELS} in all: "
            "resize it"
        )


def _synthetic_mark(image: PIL.Image.Image) -> str | None:
    """What the metadata say, of those that Pillow has in hand when a file is open: datagen's PNG
    text, IPTC's digital source type in XMP, and the same inside a C2PA manifest.

    Source: IPTC digital source types; XMP specification part 3; C2PA technical specification 2.2,
    section A.3 (JPEG: APP11, PNG: caBX). The manifest is searched, not parsed, nor its signature
    checked: whoever marks an image as synthetic is believed.
    """
    if image.info.get("datagen") == "synthetic":
        key = str(image.info.get("datagen-attempt", ""))
        return key if _ATTEMPT_KEY.fullmatch(key) else ""
    places = [image.info.get("xmp"), image.info.get("XML:com.adobe.xmp")]
    places += [body for kind, body in getattr(image, "applist", ()) if kind in ("APP1", "APP11")]
    places += [chunk[1] for chunk in getattr(image, "private_chunks", ()) if chunk[0] == b"caBX"]
    for place in places:
        content = place.encode("utf-8", "replace") if isinstance(place, str) else place
        if isinstance(content, bytes) and _SOURCE_TYPES.search(content):
            return ""
    return None


def _picture(image: PIL.Image.Image) -> Picture:
    from PIL import Image, ImageOps

    changes = [FIRST_FRAME] if getattr(image, "n_frames", 1) > 1 else []
    if image.getexif().get(0x0112, 1) in range(2, 9):  # 0x0112: Orientation; 0: not known
        ImageOps.exif_transpose(image, in_place=True)
        changes.append(ORIENTED)
    if image.mode in _SIXTEEN_BIT or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.int64)
        scaled = np.clip((values + 128) // 257, 0, 255).astype(np.uint8)
        return Picture(scaled[..., None], (*changes, SCALED), int(values.max(initial=0)))
    if image.mode in ("I", "F"):
        raise InputError(f"pixels of kind {image.mode}: expected 8 or 16 bits a channel")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, "white")
        is_grey = image.mode in ("L", "LA", "La")
        flat = Image.alpha_composite(white, coloured).convert("L" if is_grey else "RGB")
        changes.append(FLATTENED)
    else:
        flat = image.convert("L" if image.mode in _GREY else "RGB")
        if image.mode not in ("L", "RGB", "1"):
            changes.append(CONVERTED)
    pixels = np.asarray(flat)
    return Picture(pixels if pixels.ndim == 3 else pixels[..., None], tuple(changes))
