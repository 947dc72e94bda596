"""Label maps of every kind of PNG that holds one, and refusals of what does not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from datagen.errors import LabelError
from datagen.label_files import read_mask

VALUES = np.array([[0, 1, 2], [3, 1, 0]], np.uint8)


def png(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def raw_png(depth: int, rows: list[bytes], size: tuple[int, int], kind: int = 0) -> bytes:
    """By hand: Pillow writes no grey of 2 or 4 bits. size: (W, H)."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_grey_of_8_bits(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(VALUES))
    for source in (png(VALUES), tmp_path / "a.png"):
        read = read_mask(source, name="a.png")
        assert read.dtype == np.uint8
        assert np.array_equal(read, VALUES)


def test_grey_of_16_bits_keeps_its_values() -> None:
    values = VALUES.astype(np.uint16) * 20_000
    read = read_mask(png(values), name="a.png")
    assert read.dtype == np.uint16
    assert np.array_equal(read, values)


def test_grey_of_1_bit() -> None:
    read = read_mask(png(VALUES == 1), name="a.png")
    assert read.tolist() == [[0, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(("depth", "row"), [(2, bytes([0b00_01_10_11])), (4, b"\x01\x23")])
def test_grey_of_2_and_4_bits_is_not_stretched(depth: int, row: bytes) -> None:
    read = read_mask(raw_png(depth, [row], (4, 1)), name="a.png")
    assert read.tolist() == [[0, 1, 2, 3]]


def test_a_palette_gives_its_indices_not_its_colours() -> None:
    image = Image.new("P", (3, 2))
    image.putdata(VALUES.ravel().tolist())
    image.putpalette([9, 9, 9, 250, 0, 0, 0, 250, 0, 0, 0, 250])
    file = io.BytesIO()
    image.save(file, "PNG")
    assert np.array_equal(read_mask(file.getvalue(), name="a.png"), VALUES)


def test_colours_need_a_table() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 1] = [255, 0, 7]
    with pytest.raises(LabelError, match=r"of kind RGB; .* say which colour each name has"):
        read_mask(png(pixels), name="a.png")
    table = {(0, 0, 0): 0, (255, 0, 7): 5}
    assert read_mask(png(pixels), name="a.png", colours=table).tolist() == [[0, 5], [0, 0]]
    palette = Image.new("P", (2, 2), 1)
    palette.putpixel((1, 0), 0)
    palette.putpalette([255, 0, 7, 0, 0, 0])
    file = io.BytesIO()
    palette.save(file, "PNG")
    assert read_mask(file.getvalue(), name="a.png", colours=table).tolist() == [[0, 5], [0, 0]]
    with pytest.raises(LabelError, match=r"1 colours without a meaning, \[255, 0, 7\] among them"):
        read_mask(png(pixels), name="a.png", colours={(0, 0, 0): 0})


def test_transparency_is_no_label() -> None:
    with pytest.raises(LabelError, match=r"label map a\.png: its pixels are of kind RGBA"):
        read_mask(png(np.zeros((2, 2, 4), np.uint8)), name="a.png")


def test_a_large_one_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(LabelError, match=r"65536 x 65536 pixels|above"):
        read_mask(raw_png(8, [], (65536, 65536)), name="a.png")
    with pytest.raises(LabelError, match="9000 x 9000 pixels; expected at most"):
        read_mask(raw_png(8, [], (9000, 9000)), name="a.png")
    with pytest.raises(LabelError, match="sides of at most 2"):
        read_mask(png(VALUES), name="a.png", max_side_px=2)


def test_no_png_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(VALUES).save(file, "JPEG")
    whole = png(VALUES)
    for body in (b"", b"hello", file.getvalue(), whole[:30], whole[:45]):
        with pytest.raises(LabelError, match=r"label map a\.png"):
            read_mask(body, name="a.png")
    with pytest.raises(LabelError, match=r"label map a\.png"):
        read_mask(tmp_path / "none.png", name="a.png")


@given(st.integers(0, 200), st.integers(0, 255))
def test_one_changed_byte_is_read_or_refused(place: int, value: int) -> None:
    body = bytearray(png(VALUES))
    body[place % len(body)] = value
    try:
        read = read_mask(bytes(body), name="a.png", max_side_px=100)
    except LabelError:
        return
    assert read.ndim == 2
