from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datagen.errors import InputError
from datagen.training.dataset import (
    RealImages,
    load_real_images,
    read_training_images,
    split_held_out,
)
from datagen.training.model_recipe import DataSource
from tests.training.tiny_data import CLASS_NAMES, tiny_images, write_idx, write_tiny_data

IMAGES_FILE, LABELS_FILE = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def source(path: Path, *, format: str = "idx", names: tuple[str, ...] = CLASS_NAMES) -> DataSource:
    return DataSource.model_validate(
        {
            "format": format,
            "path": path,
            **({"class_names": names} if names else {}),
            "licence": "MIT",
            "source": "made up",
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_data(tmp_path / "data", 30)


def refused(data: DataSource) -> str:
    with pytest.raises(InputError) as caught:
        load_real_images(data)
    return str(caught.value)


def test_idx_gives_images_and_labels_in_order(folder: Path) -> None:
    real = load_real_images(source(folder))
    images, labels = tiny_images(30)
    assert np.array_equal(real.images, images[..., None])
    assert np.array_equal(real.class_ids, labels)


def test_missing_data_say_how_to_get_them(tmp_path: Path) -> None:
    message = refused(source(tmp_path))
    assert IMAGES_FILE in message
    assert "--data DIR" in message


@pytest.mark.parametrize(
    "fault", ["no gzip", "cut gzip", "flipped", "empty", "text", "short", "long"]
)
def test_damaged_idx_files_are_named(fault: str, folder: Path) -> None:
    path = folder / IMAGES_FILE
    whole = path.read_bytes()
    raw = gzip.decompress(whole)
    damaged = {
        "no gzip": raw,
        "cut gzip": whole[:-20],
        "flipped": whole[:100] + bytes([whole[100] ^ 255]) + whole[101:],
        "empty": b"",
        "text": gzip.compress(b"hello"),
        "short": gzip.compress(raw[:-1]),
        "long": gzip.compress(raw + b"\0"),
    }
    path.write_bytes(damaged[fault])
    assert IMAGES_FILE in refused(source(folder))


def test_a_header_cannot_ask_for_all_memory(folder: Path) -> None:
    header = np.array([0x803, 2**31 - 1, 1024, 1024], dtype=">i4").tobytes()
    (folder / IMAGES_FILE).write_bytes(gzip.compress(header))
    assert "is above" in refused(source(folder))


def test_a_gzip_bomb_is_not_unpacked_beyond_its_header(folder: Path) -> None:
    header = np.array([0x801, 30], dtype=">i4").tobytes()
    (folder / LABELS_FILE).write_bytes(gzip.compress(header + bytes(200 << 20)))
    assert "31 bytes where its header says 30" in refused(source(folder))


def test_labels_must_fit_the_class_names(folder: Path) -> None:
    assert "list every label's name" in refused(source(folder, names=("left", "right")))
    assert "no image of class 'more'" in refused(source(folder, names=(*CLASS_NAMES, "more")))


def test_images_must_be_as_many_as_labels(folder: Path) -> None:
    write_idx(folder / LABELS_FILE, np.zeros(29, np.uint8))
    assert "30 images and 29 labels" in refused(source(folder))


def test_tiny_and_huge_images_are_refused(folder: Path) -> None:
    write_idx(folder / IMAGES_FILE, np.zeros((30, 4, 8), np.uint8))
    assert "images of 4 x 8 pixels" in refused(source(folder))


def write_folder(root: Path, *, mode: str = "RGB", num: int = 12) -> Path:
    images, labels = tiny_images(num)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = root / CLASS_NAMES[label] / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert(mode).save(path)
    return root


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)])
def test_imagefolder_gives_grey_or_rgb(mode: str, channels: int, tmp_path: Path) -> None:
    real = load_real_images(source(write_folder(tmp_path, mode=mode), format="imagefolder"))
    assert real.images.shape == (12, 8, 8, channels)
    assert real.images.dtype == np.uint8
    bright_left = real.images[..., 0][:, :, :4].mean((1, 2)) > 120
    assert np.array_equal(bright_left, real.class_ids == 0)


def test_imagefolder_mixes_the_classes_the_same_way_each_time(tmp_path: Path) -> None:
    """The judge trains on the leading images: they must not all be of the first classes."""
    data = source(write_folder(tmp_path, num=90), format="imagefolder")
    first, second = load_real_images(data), load_real_images(data)
    assert first.digest() == second.digest()
    assert set(first.class_ids[:15]) == {0, 1, 2}


def test_imagefolder_prefers_the_train_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "test", num=60)
    assert len(load_real_images(source(tmp_path, format="imagefolder"))) == 12


@pytest.mark.parametrize("fault", ["empty", "text", "cut", "other size", "huge", "gif"])
def test_bad_image_files_are_named(fault: str, tmp_path: Path) -> None:
    write_folder(tmp_path)
    path = tmp_path / "left" / "000.png"
    if fault == "other size":
        Image.new("RGB", (9, 8)).save(path)
    elif fault == "huge":
        Image.new("L", (1025, 8)).save(path)
    elif fault == "gif":
        Image.new("L", (8, 8)).save(path, format="GIF")
    else:
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello", "cut": whole[:60]}[fault])
    message = refused(source(tmp_path, format="imagefolder"))
    assert ("different shapes" if fault in ("other size", "huge") else "000.png") in message


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "dark").rename(tmp_path / "other")
    assert "no image of class 'dark'" in refused(source(tmp_path, format="imagefolder"))


@given(st.integers(2, 60), st.data())
def test_held_out_images_are_never_trained_on(num: int, data: st.DataObject) -> None:
    held_out = data.draw(st.integers(1, num - 1))
    seed = data.draw(st.integers(0, 2**63 - 1))
    numbered = np.arange(num, dtype=np.uint8).reshape(num, 1, 1, 1)
    real = RealImages(numbered, np.arange(num))
    train, kept = split_held_out(real, held_out=held_out, seed=seed)
    assert len(kept) == held_out
    assert sorted([*train.class_ids, *kept.class_ids]) == list(range(num))
    assert np.array_equal(train.images.ravel(), train.class_ids)
    again = split_held_out(real, held_out=held_out, seed=seed)
    assert np.array_equal(again[1].class_ids, kept.class_ids)


def test_holding_everything_out_is_refused() -> None:
    real = RealImages(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int64))
    with pytest.raises(InputError, match=r"data\.held_out: 5 of 5"):
        split_held_out(real, held_out=5, seed=0)


def test_the_digest_sees_pixels_classes_and_order() -> None:
    images, labels = tiny_images(6)
    real = RealImages(images[..., None], labels.astype(np.int64))
    other_pixel = real.images.copy()
    other_pixel[0, 0, 0, 0] ^= 1
    others = [
        RealImages(other_pixel, real.class_ids),
        RealImages(real.images, real.class_ids[::-1].copy()),
        real.take(np.array([1, 0, 2, 3, 4, 5])),
    ]
    assert len({r.digest() for r in [real, *others]}) == 4


def test_images_of_many_sizes_are_fitted(tmp_path: Path) -> None:
    write_folder(tmp_path)
    Image.new("L", (60, 30)).save(tmp_path / "left" / "000.png")
    data = source(tmp_path, format="auto").model_copy(update={"image_size": (12, 10)})
    reading = read_training_images(data)
    assert reading.images.image_shape == (12, 10, 3)
    assert reading.sizes == {(8, 8): 11, (30, 60): 1}
    assert any("their middle cut out" in note for note in reading.images.notes)


def test_class_names_are_taken_from_the_data(tmp_path: Path) -> None:
    write_folder(tmp_path)
    real = read_training_images(source(tmp_path, format="auto", names=()))
    assert real.images.class_names == ("dark", "left", "right")
    (tmp_path / "left").rename(tmp_path / "to the left")
    with pytest.raises(InputError, match="class 'to the left'; expected 1 to 63 letters"):
        read_training_images(source(tmp_path, names=(), format="auto"))


def test_classes_that_are_not_named_are_left_out_and_said(tmp_path: Path) -> None:
    write_folder(tmp_path)
    reading = read_training_images(source(tmp_path, format="auto", names=("right", "left")))
    assert reading.images.class_names == ("right", "left")
    assert len(reading.images) == 8
    assert any("left out: dark" in note for note in reading.images.notes)


@pytest.mark.parametrize(
    ("num", "names", "told"),
    [(0, (), "no folder with images"), (1, (), "one class only"), (1, CLASS_NAMES, "no image of")],
)
def test_too_few_images_are_refused(
    num: int, names: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    write_folder(tmp_path, num=num)
    assert told in refused(source(tmp_path, format="auto", names=names))


def test_a_format_that_does_not_lie_there_is_refused(folder: Path) -> None:
    for name in ("npz", "table", "webdataset", "huggingface"):
        assert "or leave out its format" in refused(source(folder, format=name))


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.data())
def test_a_group_is_trained_on_or_held_out(ids: list[int], data: st.DataObject) -> None:
    held_out = data.draw(st.integers(1, len(ids)))
    seed = data.draw(st.integers(0, 2**63 - 1))
    groups = [f"p{i}" for i in ids]
    real = RealImages(np.zeros((len(ids), 1, 1, 1), np.uint8), np.array(ids))
    try:
        train, kept = split_held_out(real, held_out=held_out, seed=seed, groups=groups)
    except InputError:
        return
    assert set(train.class_ids) & set(kept.class_ids) == set()
    assert sorted([*train.class_ids, *kept.class_ids]) == sorted(ids)
    assert len(train) > 0
    assert len(kept) >= held_out
    # What a model's facts hold, the number of images held out, gives the same split again.
    again = split_held_out(real, held_out=len(kept), seed=seed, groups=groups)
    assert np.array_equal(again[1].class_ids, kept.class_ids)


def test_one_group_leaves_none_to_train_on() -> None:
    real = RealImages(np.zeros((5, 8, 8, 1), np.uint8), np.zeros(5, np.int64))
    with pytest.raises(InputError, match="in whole groups of which there are 1"):
        split_held_out(real, held_out=2, seed=0, groups=["p1"] * 5)


def test_all_broken_and_huge_images_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    data = source(tmp_path, format="auto").model_copy(update={"image_size": 8})
    path = tmp_path / "left" / "000.png"
    head = b"IHDR" + struct.pack(">II", 30_000, 30_000) + b"\x08\x00\x00\x00\x00"
    body = path.read_bytes()
    path.write_bytes(body[:12] + head + struct.pack(">I", zlib.crc32(head)) + body[33:])
    assert "000.png: above 67108864 pixels; resize it" in refused(data)
    for path in tmp_path.glob("*/*.png"):
        path.write_bytes(b"no image")
    assert "no readable image" in refused(data)
