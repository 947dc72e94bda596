"""images.py: PNG against Pillow, refusals, text chunks, contact sheets."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as PillowImage

from datagen.errors import InputError
from datagen.images import (
    MAX_PIXELS,
    SHEET_GAP_PX,
    contact_sheet,
    decode_png,
    encode_png,
    sha256_hex,
    to_8_bits,
    to_16_bits,
)

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24), st.sampled_from([1, 3]))
IMAGES = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape))


def _noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def _png(
    width: int, height: int, *, depth: int = 8, colour: int = 0, interlace: int = 0, rows: bytes
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", rows), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@settings(max_examples=200, deadline=None)
@given(IMAGES)
def test_any_image_comes_back_and_pillow_sees_the_same(image: np.ndarray) -> None:
    png = encode_png(image, text={"a": "b"})
    np.testing.assert_array_equal(decode_png(png), image)
    seen = np.asarray(PillowImage.open(io.BytesIO(png), formats=["PNG"]))
    np.testing.assert_array_equal(seen.reshape(image.shape), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_come_back(channels: int) -> None:
    image = np.random.default_rng(1).integers(0, 65536, (5, 7, channels), np.uint16)
    png = encode_png(image)
    found = decode_png(png)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, image)
    if channels == 1:  # Pillow knows no RGB of 16 bits
        read = PillowImage.open(io.BytesIO(png))
        assert read.mode == "I;16"
        np.testing.assert_array_equal(np.asarray(read), image[..., 0])


def test_8_bits_are_the_nearest_of_16() -> None:
    every = np.arange(65536, dtype=np.uint16)
    nearest = np.rint(every / 65535 * 255)
    np.testing.assert_array_equal(to_8_bits(every), nearest)
    np.testing.assert_array_equal(to_8_bits(to_16_bits(every[:256].astype(np.uint8))), every[:256])


def test_channel_order_is_rgb() -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    assert PillowImage.open(io.BytesIO(encode_png(red))).getpixel((0, 0)) == (200, 0, 0)


def test_a_view_encodes_as_its_copy() -> None:
    image = _noise((20, 20, 3))
    for view in (image[::-1], image[:, ::-1], image[2:9, 3:7], image[..., ::-1]):
        assert encode_png(view) == encode_png(view.copy())


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_decodes_what_pillow_wrote(mode: str) -> None:
    image = _noise((7, 5, len(mode)))
    target = io.BytesIO()
    PillowImage.fromarray(image.squeeze(), mode).save(target, "PNG", optimize=True)
    np.testing.assert_array_equal(decode_png(target.getvalue()), image)


def test_text_chunks_stand_before_the_pixels_in_the_order_given() -> None:
    png = encode_png(_noise((4, 4, 1)), text={"z": "first", "a": "caf\xe9"})
    seen = PillowImage.open(io.BytesIO(png))
    assert list(seen.info.items()) == [("z", "first"), ("a", "caf\xe9")]
    assert png.index(b"tEXt") < png.index(b"IDAT")


def test_equal_pixels_and_text_give_equal_bytes() -> None:
    image = _noise((9, 9, 3))
    assert encode_png(image, text={"a": "b"}) == encode_png(image.copy(), text={"a": "b"})
    assert encode_png(image, text={"a": "b"}) != encode_png(image, text={"a": "c"})


@pytest.mark.parametrize("text", [{"": "x"}, {"k" * 80: "x"}, {"k": "a\0b"}, {"k": "\u20ac"}])
def test_text_that_png_cannot_hold_is_refused(text: dict[str, str]) -> None:
    with pytest.raises(InputError, match="PNG text"):
        encode_png(_noise((4, 4, 1)), text=text)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
    ],
)
def test_other_arrays_are_not_encoded(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected uint8"):
        encode_png(image)


@pytest.mark.parametrize("size", [(2**16, 2**16), (2**31 - 1, 1), (MAX_PIXELS + 1, 1), (0, 5)])
def test_a_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="pixels"):
        decode_png(_png(*size, rows=zlib.compress(bytes(100))))


@pytest.mark.parametrize(
    "content",
    [
        _png(2, 2, depth=4, rows=zlib.compress(bytes(4))),
        _png(2, 2, colour=3, rows=zlib.compress(bytes(6))),
        _png(2, 2, colour=6, rows=zlib.compress(bytes(18))),
        _png(2, 2, interlace=1, rows=zlib.compress(bytes(9))),
        b"",
        b"GIF89a" + bytes(100),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
    ],
)
def test_other_kinds_are_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="PNG"):
        decode_png(content)


@pytest.mark.parametrize(
    "rows",
    [
        b"not deflate",
        zlib.compress(bytes(40))[:-6],
        zlib.compress(bytes(20)),
        zlib.compress(b"\x09" + bytes(71)),
    ],
    ids=["garbage", "cut", "half of the rows", "unknown filter"],
)
def test_pixels_that_do_not_decode_are_refused(rows: bytes) -> None:
    """The checksums are right: only the decoder can tell."""
    with pytest.raises(InputError, match="PNG"):
        decode_png(_png(8, 8, rows=rows))


def test_every_cut_and_every_flipped_byte_is_refused() -> None:
    png = encode_png(_noise((3, 4, 3)), text={"key": "value"})
    for i in range(len(png)):
        with pytest.raises(InputError):
            decode_png(png[:i])
        changed = bytearray(png)
        changed[i] ^= 0x10
        with pytest.raises(InputError):
            decode_png(bytes(changed))


def test_sha256_hex_is_the_published_test_vector() -> None:
    """FIPS 180-2, appendix B.1."""
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_contact_sheet_places_enlarged_images_row_by_row() -> None:
    images = [np.full((2, 3, 1), value, np.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(images, columns=2, scale=4)
    height, width = 2 * 4, 3 * 4
    gap = SHEET_GAP_PX
    assert sheet.shape == (2 * height + 3 * gap, 2 * width + 3 * gap, 1)
    assert (sheet[gap : gap + height, gap : gap + width] == 10).all()
    assert (sheet[gap : gap + height, 2 * gap + width : -gap] == 20).all()
    assert (sheet[2 * gap + height : -gap, gap : gap + width] == 30).all()
    assert (sheet[2 * gap + height :, 2 * gap + width :] == 255).all()


def test_contact_sheet_of_few_images_is_no_wider_than_they_are() -> None:
    sheet = contact_sheet([_noise((5, 5, 3))], columns=10, scale=1)
    assert sheet.shape == (5 + 2 * SHEET_GAP_PX, 5 + 2 * SHEET_GAP_PX, 3)


def test_contact_sheet_refuses_nothing_and_mixed_shapes() -> None:
    with pytest.raises(InputError, match="0 images"):
        contact_sheet([], columns=1, scale=1)
    with pytest.raises(InputError, match="one shape"):
        contact_sheet([_noise((2, 2, 1)), _noise((2, 2, 3))], columns=1, scale=1)
