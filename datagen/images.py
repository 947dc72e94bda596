"""PNG in and out, digests and contact sheets. Called by the engine, the card and the exporters.

Arrays are HWC uint8 with one channel (grey) or three (RGB), or uint16 where a recipe asks for
pixels of 16 bits; BGR exists only inside this file.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError

Image = NDArray[np.uint8]  # HWC
Pixels = NDArray[np.uint8] | NDArray[np.uint16]  # of 8 or 16 bits: white is 255 or 65535

MAX_PIXELS = 64 * 2**20
SHEET_GAP_PX = 2

# Content of the tEXt chunk that encode_png(text={"datagen": "synthetic"}) writes.
SYNTHETIC_MARK = b"datagen\0synthetic"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTH_AT = 24  # of the bits of a pixel's channel
_HEADER_END = 33  # signature, then IHDR: length 4, type 4, content 13, CRC 4
_CHANNELS_BY_COLOUR_TYPE = {0: 1, 2: 3}
# 65535 / 255: a pixel of 16 bits is so many times the one of 8 bits of the same brightness.
_STEP = 257


def dtype_of(bits: int) -> np.dtype[Any]:
    """Of pixels in memory and in attempt objects: bytes in one order, on any machine."""
    return np.dtype(np.uint8) if bits == 8 else np.dtype("<u2")


def to_8_bits(pixels: Pixels) -> Image:
    """The nearest of 256 brightnesses; pixels of 8 bits as they are."""
    if pixels.dtype == np.uint8:
        return pixels  # type: ignore[return-value]
    return ((pixels.astype(np.uint32) + _STEP // 2) // _STEP).astype(np.uint8)


def to_16_bits(image: Image) -> NDArray[np.uint16]:
    """The same brightnesses, exactly: to_8_bits gives the image back."""
    return image.astype(np.uint16) * np.uint16(_STEP)


def encode_png(image: Pixels, *, text: Mapping[str, str] | None = None) -> bytes:
    """Equal pixels and text give equal bytes for one OpenCV build. text: tEXt chunks, in order.

    Run-length deflate with adaptive filters: the size of level 3 in two thirds of its time, on
    Fashion-MNIST and on 32 px photographs alike; the level is without effect then, but pinned.
    Source: Portable Network Graphics, third edition, sections 5.3 and 11.3.3.2.
    """
    import cv2

    is_pixels = image.dtype in (np.uint8, np.uint16)
    if not is_pixels or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise InputError(
            f"image of {image.dtype} {image.shape}: expected uint8 or uint16 (height, width, 1 or "
            "3)"
        )
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.shape[2] == 3 else image
    encoded = cv2.imencode(
        ".png",
        pixels,
        (
            cv2.IMWRITE_PNG_COMPRESSION,
            1,
            cv2.IMWRITE_PNG_STRATEGY,
            cv2.IMWRITE_PNG_STRATEGY_RLE,
            cv2.IMWRITE_PNG_FILTER,
            cv2.IMWRITE_PNG_FAST_FILTERS,
        ),
    )[1].tobytes()
    if not text:
        return encoded
    chunks = [_text_chunk(keyword, value) for keyword, value in text.items()]
    return b"".join((encoded[:_HEADER_END], *chunks, encoded[_HEADER_END:]))


def decode_png(data: bytes) -> Pixels:
    """Returns (H, W, C) RGB or grey, uint8 or uint16 by the PNG's own depth.

    Raises InputError, before anything is allocated, if the bytes are not a whole grey or RGB PNG of
    8 or 16 bits with sound checksums, or hold more than MAX_PIXELS.
    """
    import cv2

    shape = _checked_shape(data)
    pixels = cv2.imdecode(
        np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    )
    if pixels is None or pixels.size != shape[0] * shape[1] * shape[2]:
        raise InputError("PNG: its pixels cannot be decoded; expected a whole PNG")
    if shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return pixels.reshape(shape).astype(dtype_of(data[_DEPTH_AT]), copy=False)


def encode_label_map(values: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """values: (H, W) uint8, or uint16, which become 8 bits where they fit. A grey PNG of the values
    themselves."""
    import cv2

    fits = int(values.max(initial=0)) < 256
    pixels: NDArray[np.integer[Any]] = np.ascontiguousarray(
        values.astype(np.uint8) if fits else values
    )
    return cv2.imencode(".png", pixels, (cv2.IMWRITE_PNG_COMPRESSION, 6))[1].tobytes()


def decode_label_map(data: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Returns (H, W). Raises InputError as decode_png does, for what is no grey PNG."""
    import cv2

    shape = _checked_shape(data)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape != shape[:2]:
        raise InputError("PNG: its values cannot be decoded; expected a whole grey PNG")
    return pixels  # type: ignore[return-value]


def is_marked_synthetic(data: bytes) -> bool:
    """Whether a PNG says that datagen made it: a text chunk `datagen` of value `synthetic`.

    A missing mark proves nothing: any program that writes the image anew may drop it. Reads what
    lies before the pixels, and no more than the file holds. See docs/provenance.md.
    """
    if data[:8] != _SIGNATURE:
        return False
    position = 8
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind == b"IDAT" or end > len(data):
            return False
        if kind == b"tEXt" and data[position + 8 : end - 4] == SYNTHETIC_MARK:
            return True
        position = end
    return False


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def contact_sheet(images: Sequence[Image], *, columns: int, scale: int) -> Image:
    """Lays equal-sized images out row by row on white, each pixel scale x scale wide.

    Raises InputError if there is no image, or shapes differ.
    """
    if not images or columns < 1 or scale < 1:
        raise InputError(
            f"contact sheet of {len(images)} images, {columns} columns, scale {scale}: "
            "expected at least 1 of each"
        )
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise InputError(f"contact sheet of shapes {sorted(shapes)}: expected one shape")
    height, width, channels = images[0].shape
    step_y, step_x = height * scale + SHEET_GAP_PX, width * scale + SHEET_GAP_PX
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.full(
        (rows * step_y + SHEET_GAP_PX, columns * step_x + SHEET_GAP_PX, channels), 255, np.uint8
    )
    for i, image in enumerate(images):
        y = i // columns * step_y + SHEET_GAP_PX
        x = i % columns * step_x + SHEET_GAP_PX
        enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)
        sheet[y : y + height * scale, x : x + width * scale] = enlarged
    return sheet


def block_means(images: NDArray[np.uint8], *, max_side: int) -> NDArray[np.uint8]:
    """(N, H, W, C) => (N, H', W', C), no side above max_side: whole means of blocks of pixels."""
    _, height, width, _ = images.shape
    if height <= max_side and width <= max_side:
        return images
    rows, columns = _block_starts(height, max_side), _block_starts(width, max_side)
    sums = np.add.reduceat(images, rows, axis=1, dtype=np.uint32)
    sums = np.add.reduceat(sums, columns, axis=2, dtype=np.uint32)
    areas = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    means: NDArray[np.uint8] = (sums // areas[:, :, None]).astype(np.uint8)
    return means


def _block_starts(side: int, max_side: int) -> NDArray[np.int64]:
    num_blocks = min(side, max_side)
    return np.arange(num_blocks, dtype=np.int64) * side // num_blocks


def _text_chunk(keyword: str, value: str) -> bytes:
    try:
        name, content = keyword.encode("latin-1"), value.encode("latin-1")
    except UnicodeEncodeError:
        raise InputError(f"PNG text {keyword!r}: {value!r}: expected Latin-1 characters") from None
    if not 1 <= len(name) <= 79 or b"\0" in name or b"\0" in content:
        raise InputError(f"PNG text {keyword!r}: expected a name of 1 to 79 bytes, no NUL anywhere")
    body = b"tEXt" + name + b"\0" + content
    return struct.pack(">I", len(content) + len(name) + 1) + body + _crc(body)


def _crc(body: bytes | memoryview) -> bytes:
    return struct.pack(">I", zlib.crc32(body))


def _checked_shape(data: bytes) -> tuple[int, int, int]:
    """Reads IHDR and walks the chunks: libpng itself would take a cut file for a whole one."""
    if len(data) < _HEADER_END or data[:8] != _SIGNATURE or data[12:16] != b"IHDR":
        raise InputError("PNG: no PNG header; expected the bytes of a PNG file")
    width, height, depth, colour_type, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if depth not in (8, 16) or colour_type not in _CHANNELS_BY_COLOUR_TYPE or interlace:
        raise InputError(
            f"PNG: bit depth {depth}, colour type {colour_type}, interlace {interlace}: "
            "expected grey (0) or RGB (2) of 8 or 16 bits, not interlaced; convert it"
        )
    if not 0 < width * height <= MAX_PIXELS:
        raise InputError(f"PNG: {width} x {height} pixels: expected 1 to {MAX_PIXELS} in all")
    view = memoryview(data)
    position, kind = 8, b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise InputError("PNG: it ends before its last chunk; expected a whole file")
        length = int.from_bytes(view[position : position + 4], "big")
        end = position + 12 + length
        kind = bytes(view[position + 4 : position + 8])
        if end > len(data) or _crc(view[position + 4 : end - 4]) != view[end - 4 : end]:
            raise InputError(f"PNG: chunk {kind!r} is cut or changed; expected a whole file")
        position = end
    return height, width, _CHANNELS_BY_COLOUR_TYPE[colour_type]
