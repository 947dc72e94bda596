from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datagen.errors import InputError
from datagen.real_images import load_image_set
from datagen.real_images.opening import open_source
from tests.evaluation.picture_folders import write_folder

HEADER = "path,label,group,split"
ROWS = [
    "a/000.png,cat,p1,train",
    "a/001.png,dog,p1,train",
    "a/002.png,cat,,training",
    "a/003.png,dog,p2,valid",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures whose folder is no class."""
    return write_folder(tmp_path / "data", {"a": 4})


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_image_set(path)
    return str(caught.value)


def test_a_table_gives_labels_groups_and_parts(folder: Path) -> None:
    path = write(folder, *ROWS)
    for given in (path, folder):
        images = load_image_set(given)
        assert images.names == ("a/000.png", "a/001.png", "a/002.png")
        assert images.class_names == ("cat", "dog")
        assert images.groups == ("p1", "p1", "a/002.png")
        assert open_source(given).parts == ("train", "val")
    assert load_image_set(path, part="val").names == ("a/003.png",)


def test_parquet_says_the_same_as_csv(folder: Path) -> None:
    from_csv = load_image_set(write(folder, *ROWS))
    columns = [row.split(",") for row in ROWS]
    table = {
        name: [values[i] or None for values in columns] for i, name in enumerate(HEADER.split(","))
    }
    pq.write_table(pa.table(table), folder / "any.parquet")
    from_parquet = load_image_set(folder / "any.parquet")
    assert from_parquet.groups == from_csv.groups
    assert np.array_equal(from_parquet.images, from_csv.images)
    assert np.array_equal(from_parquet.class_ids, from_csv.class_ids)


def test_labels_that_are_numbers_are_in_the_order_of_their_values(folder: Path) -> None:
    path = write(folder, "a/000.png,10", "a/001.png,9", header="file,class")
    assert load_image_set(path).class_names == ("9", "10")


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "a/../../out.png", "link/out.png"])
def test_a_path_that_leaves_the_folder_is_refused(name: str, folder: Path) -> None:
    write_folder(folder.parent, {"outside": 1})
    (folder.parent / "outside" / "000.png").rename(folder.parent / "outside" / "out.png")
    (folder / "link").symlink_to(folder.parent / "outside")
    message = refused(write(folder, ROWS[0], f"{name},cat,,train"))
    assert "row 2" in message
    assert "leaves the folder of the table" in message


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([ROWS[0], "a/001.png,,,train"], "images without a label: a/001.png"),
        ([ROWS[0], ROWS[0]], "row 2: a/000.png is named twice"),
        ([",cat,,"], "row 1: no path"),
        ([], "no row in it"),
        ([ROWS[0], "a/none.png,cat,,train"], "broken images: a/none.png"),
    ],
)
def test_a_faulty_table_is_refused_by_row_or_name(rows: list[str], told: str, folder: Path) -> None:
    assert told in refused(write(folder, *rows))


def test_a_few_rows_without_a_label_are_left_out_and_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"a": 101}, size=(1, 1))
    labels = ["cat", "dog"] * 50 + [""]
    rows = [f"a/{row:03d}.png,{label}" for row, label in enumerate(labels)]
    images = load_image_set(write(folder, *rows, header="path,label"))
    assert len(images) == 100
    assert any("1 image without a label, left out: a/100.png" in note for note in images.notes)


def test_a_table_without_its_columns_is_refused_where_it_is_named(folder: Path) -> None:
    path = write(folder, "a,1", header="name,size")
    assert "no column 'path' among name, size" in refused(path)
    assert load_image_set(folder).class_names == ("a",)
    (folder / "bad.parquet").write_bytes(b"PAR1 no")
    assert "bad.parquet cannot be read" in refused(folder / "bad.parquet")
