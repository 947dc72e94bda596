"""Images in a folder of no classes, and the groups that a table beside them names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datagen.errors import InputError
from datagen.images import encode_png
from datagen.real_images.folders import list_flat
from datagen.real_images.listing import Listing

NUM = 4


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(NUM):
        pixels = np.full((8, 8, 1), 40 * index, np.uint8)
        (folder / f"{index:03d}.png").write_bytes(encode_png(pixels))
    return folder


def listed(images: Path, place: Path, rows: list[str]) -> Listing:
    (place / "metadata.csv").write_text("\n".join(["file_name,group", *rows]) + "\n")
    found = list_flat(images, "knee")
    assert found is not None
    return found


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_groups_beside_the_folder_are_read(images: Path, prefix: str) -> None:
    rows = [f"{prefix}{index:03d}.png,p{index // 2}" for index in range(NUM)]
    found = listed(images, images.parent, rows)
    assert [entry.group for entry in found.entries] == ["p0", "p0", "p1", "p1"]
    assert found.notes == ()


def test_groups_in_the_folder_come_first(images: Path) -> None:
    (images.parent / "metadata.csv").write_text("file_name,group\n000.png,outer\n")
    found = listed(images, images, [f"{index:03d}.png,inner" for index in range(NUM)])
    assert {entry.group for entry in found.entries} == {"inner"}


def test_images_without_a_row_and_rows_without_an_image_are_told(images: Path) -> None:
    found = listed(images, images, ["000.png,p0", "nope.png,p9"])
    assert [entry.group for entry in found.entries] == ["p0", None, None, None]
    told = " ".join(found.notes)
    assert "say nothing of 3 of 4 images" in told
    assert "nope.png" in told


def test_a_table_of_none_of_the_images_is_refused(images: Path) -> None:
    """One wrong prefix would take all patients apart."""
    rows = [f"scans/{index:03d}.jpg,p{index // 2}" for index in range(NUM)]
    with pytest.raises(InputError, match=r"say nothing of its images, such as 000\.png"):
        listed(images, images, rows)
