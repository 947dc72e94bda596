from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datagen.errors import InputError
from datagen.formats.imagefolder import export as export_imagefolder
from datagen.formats.webdataset import export as export_webdataset
from datagen.image_set import ImageSet
from datagen.real_images import load_image_set, load_reference
from datagen.real_images.resizing import resized
from datagen.resources import sample_data_dir
from tests.evaluation.picture_folders import write_folder
from tests.formats.small_version import publish_small_version
from tests.training.tiny_data import tiny_images, write_idx


def said(images: ImageSet, text: str) -> bool:
    return any(text in note for note in images.notes)


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_image_set(path)
    return str(caught.value)


def test_a_folder_of_classes_in_order(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"dog": 3, "cat": 2}, size=(8, 12))
    images = load_image_set(root)
    assert images.class_names == ("cat", "dog")
    assert images.names == ("cat/000.png", "cat/001.png", *(f"dog/00{i}.png" for i in range(3)))
    assert images.image_shape == (8, 12, 3)
    stored = np.asarray(Image.open(root / "dog" / "002.png"))
    assert np.array_equal(images.images[4], stored)
    assert images.notes == ()


def test_parts_are_found_and_one_is_used(tmp_path: Path) -> None:
    write_folder(tmp_path / "training", {"cat": 4, "dog": 4})
    write_folder(tmp_path / "val", {"cat": 2, "dog": 2}, seed=1)
    images = load_image_set(tmp_path)
    assert images.names[0] == "training/cat/000.png"
    assert said(images, "the train part is used, not val")
    assert len(load_image_set(tmp_path, part="val")) == 4
    with pytest.raises(InputError, match="no part 'test'; it has train, val"):
        load_image_set(tmp_path, part="test")
    train, held_out = load_reference(tmp_path)
    assert held_out is not None
    assert (len(train), len(held_out)) == (8, 4)
    assert said(held_out, "held-out images: the val part")
    assert train.notes == ()


def test_a_class_called_train_is_no_part(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 2, "bus": 2})
    assert load_image_set(tmp_path).class_names == ("bus", "train")
    assert load_reference(tmp_path)[1] is None


def test_kinds_of_pictures_become_grey_or_rgb_and_it_is_said(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"a": 120})
    red_half = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    red_half.save(root / "a" / "100.png")
    Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(root / "a" / "101.png")
    Image.fromarray(np.full((8, 8), 257 * 7, np.uint16)).save(root / "a" / "102.tif")
    turned = Image.new("L", (8, 8))
    turned.putpixel((7, 0), 200)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(root / "a" / "103.webp", lossless=True, exif=exif)
    palette = Image.new("RGB", (8, 8), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(root / "a" / "104.png")
    Image.new("RGB", (8, 8), (9, 8, 7)).save(root / "a" / "105.bmp")
    images = load_image_set(root)
    pixels = dict(zip(images.names, images.images, strict=True))
    assert pixels["a/100.png"][0, 0].tolist() == [255, 127, 127]
    assert pixels["a/101.png"][0, 0].tolist() == [255] * 3
    assert pixels["a/102.tif"][0, 0].tolist() == [7] * 3
    assert pixels["a/103.webp"][7, 0, 0] > 150
    assert pixels["a/104.png"][0, 0].tolist() == [1, 2, 3]
    assert pixels["a/105.bmp"][0, 0].tolist() == [9, 8, 7]
    for text in (
        "1 image transparency laid on white",
        "2 images 16-bit grey divided by 257 (largest value 65,535",
        "1 image turned upright",
        "grey images among RGB ones, made RGB",
        "one class only",
    ):
        assert said(images, text), images.notes


def test_other_sizes_are_resized_and_it_is_said(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"cat": 6})
    write_folder(root, {"dog": 2}, size=(16, 8))
    images = load_image_set(root)
    assert images.image_shape == (8, 8, 3)
    assert said(images, "2 images of 8 x 16 resized to 8 x 8")
    assert load_image_set(root, image_size=(4, 6)).image_shape == (4, 6, 3)


def test_shrinking_is_antialiased() -> None:
    """One pixel lines: a filter that skips pixels would give black or white."""
    lines = np.zeros((64, 64, 1), np.uint8)
    lines[:, ::2] = 255
    small = resized(lines, (8, 8))
    assert small.min() > 110
    assert small.max() < 145


def test_broken_files_are_named_and_left_out(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"cat": 99, "dog": 21})
    (root / "dog" / "003.png").write_bytes(b"no picture")
    images = load_image_set(root)
    assert len(images) == 119
    assert said(images, "1 broken image, left out: dog/003.png")
    (root / "cat" / "007.png").write_bytes((root / "cat" / "008.png").read_bytes()[:60])
    message = refused(root)
    assert "broken images: cat/007.png, dog/003.png; that is more than 1% of 120" in message
    for number in range(40):
        (root / "cat" / f"{number:03d}.png").write_bytes(b"no picture")
    message = refused(root)  # reading stops before the last: nobody knows how many there are
    assert "cat/018.png, cat/019.png and more; that is more than 1% of 120" in message


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"cat": 20})

    def chunk(kind: bytes, body: bytes) -> bytes:
        content = kind + body
        return struct.pack(">I", len(body)) + content + struct.pack(">I", zlib.crc32(content))

    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    (root / "cat" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert "9000 x 9000 pixels; expected at most" in refused(root)
    huge = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    (root / "cat" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", huge) + body[25:])
    assert "resize it" in refused(root)


def test_what_is_no_image_is_ignored_and_said(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"cat": 2, "dog": 2})
    (root / "cat" / "notes.txt").write_text("mine")
    (root / "cat" / ".hidden.png").write_bytes(b"")
    (root / "empty").mkdir()
    (root / ".git").mkdir()
    images = load_image_set(root)
    assert images.class_names == ("cat", "dog")
    assert said(images, "class folders without images, left out: empty")
    assert said(images, "2 files that are no images: cat/.hidden.png, cat/notes.txt")


@pytest.mark.parametrize("fault", ["missing", "empty", "flat"])
def test_what_is_no_folder_of_classes_is_refused(fault: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    if fault != "missing":
        path.mkdir()
    if fault == "flat":
        write_folder(tmp_path, {"data": 3})
    assert "folder with one folder" in refused(path) or "one folder for each class" in refused(path)


def test_a_draw_is_balanced_and_the_same_each_time(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"cat": 20, "dog": 5, "eel": 9})
    first = load_image_set(root, max_images=20)
    assert first.counts().tolist() == [8, 5, 7]
    assert first.names == load_image_set(root, max_images=20).names
    assert first.names != load_image_set(root, max_images=20, seed=1).names
    assert said(first, "20 of 34 images, drawn as equally as possible over the classes (seed 0)")
    by_memory = load_image_set(root, max_bytes=12 * 8 * 8 * 3)
    assert by_memory.counts().tolist() == [4, 4, 4]


def test_metadata_give_patients_and_attributes(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "train", {"cat": 2, "dog": 2}).parent
    (root / "metadata.csv").write_text(
        "file,group,sex\ntrain/cat/000.png,p1,f\ntrain/dog/000.png,p1,\ncat/001.png,p2,m\n"
    )
    images = load_image_set(root)
    assert images.groups == ("p1", "train/cat/001.png", "p1", "train/dog/001.png")
    assert images.attributes == {"sex": ("f", "not given", "not given", "not given")}
    assert said(images, "the metadata say nothing of 2 of 4 images")
    assert said(images, "in the metadata 1 row names a file that is not there: cat/001.png")
    (root / "train" / "metadata.csv").write_text("file,group\ncat/001.png,p2\n")
    assert load_image_set(root).groups is not None
    assert load_image_set(root).groups[1] == "p2"  # type: ignore[index]


@pytest.mark.parametrize("text", ["name,sex\na.png,f\n", "file\na\na\n", "\x00"])
def test_bad_metadata_are_refused(text: str, tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat": 2})
    (tmp_path / "metadata.csv").write_text(text)
    if text == "\x00":
        (tmp_path / "metadata.csv").write_bytes(b"file\n\xff\xfe\n")
    assert "metadata.csv" in refused(tmp_path)


def test_idx_files_have_a_held_out_part_and_may_name_their_classes(tmp_path: Path) -> None:
    images, labels = tiny_images(30)
    for prefix, num in (("train", 30), ("t10k", 12)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images[:num])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", labels[:num])
    train, held_out = load_reference(tmp_path)
    assert held_out is not None
    assert (len(train), len(held_out)) == (30, 12)
    assert train.class_names == ("0", "1", "2")
    assert np.array_equal(train.images[..., 0], images)
    assert held_out.names[3] == "t10k-00003"
    named = load_image_set(tmp_path, class_names=("left", "right", "dark"))
    assert named.class_names == ("left", "right", "dark")
    (tmp_path / "classes.txt").write_text("left\nright\ndark\n")
    assert load_image_set(tmp_path).class_names == ("left", "right", "dark")
    (tmp_path / "classes.txt").write_text("left\nright\n")
    assert "expected 3 or more" in refused(tmp_path)


def test_the_held_out_part_of_a_folder_given_twice(tmp_path: Path) -> None:
    folder = sample_data_dir() / "fashion-mnist-sample"
    train, held_out = load_reference(folder, folder)
    assert held_out is not None
    assert (len(train), len(held_out)) == (5000, 2000)
    assert train.class_names[-1] == "ankle-boot"
    assert train.counts().tolist() == [500] * 10
    assert held_out.counts().tolist() == [200] * 10


def test_an_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    images, labels = tiny_images(9)
    np.savez(path, images=images, labels=labels, class_names=["left", "right", "dark"])
    loaded = load_image_set(path)
    assert np.array_equal(loaded.images[..., 0], images)
    assert loaded.class_names == ("left", "right", "dark")
    np.savez(path, images=images, labels=np.array(["b", "a", "b"] * 3), groups=np.arange(9) // 3)
    loaded = load_image_set(path)
    assert loaded.class_names == ("a", "b")
    assert loaded.groups == tuple("000111222")


def test_bad_npz_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((4, 8, 8)), labels=np.zeros(4, int))
    assert "expected uint8" in refused(path)
    np.savez(path, images=np.zeros((4, 8, 8), np.uint8))
    assert "no array 'labels'" in refused(path)
    np.savez(path, images=np.array([{}], dtype=object), labels=np.zeros(1, int))
    assert "cannot be read as .npz" in refused(path)
    for shape in ((4, 0, 8), (4, 8, 0, 3)):
        np.savez(path, images=np.zeros(shape, np.uint8), labels=np.zeros(4, int))
        assert "at least one pixel" in refused(path)
    path.write_bytes(b"PK no zip")
    assert "cannot be read as .npz" in refused(path)


def test_a_pulled_data_set_in_both_layouts(tmp_path: Path) -> None:
    version = publish_small_version(tmp_path / "store")
    list(export_webdataset(version.reader, tmp_path / "tars"))
    list(export_imagefolder(version.reader, tmp_path / "folder"))
    tars, folder = (load_image_set(tmp_path / name) for name in ("tars", "folder"))
    assert tars.class_names == folder.class_names == ("ankle-boot", "bag", "trouser")
    assert sorted(tars.pixel_digests()) == sorted(folder.pixel_digests())
    stored = [version.images[name.removesuffix(".png")] for name in tars.names]
    assert np.array_equal(tars.images, np.stack(stored))
    for images in (tars, folder):
        assert {images.attributes["season"][row] for row in images.rows_of(0)} == {"winter"}
        assert {images.attributes["season"][row] for row in images.rows_of(2)} == {"not given"}
        assert said(images, "the train part is used, not val")


def write_tar(path: Path, bodies: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, body in bodies.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))


DEEP = b"[" * 500_000


@pytest.mark.parametrize(
    ("name", "record", "told"),
    [
        ("a", DEEP, "cannot be read"),
        ("a", b'{"class_name": "\\ud800"}', r"class '\ud800' of image 'a.png'"),
        ("a", b'{"class_name": "x\\ny"}', r"class 'x\ny'"),
        ("a\tb", b'{"class_name": "x"}', r"name 'a\tb.png'"),
        ("a", b'{"class_name": "x", "attributes": {"sex": "\\udc00"}}', r"metadata '\udc00'"),
    ],
)
def test_a_hostile_tar_is_refused(name: str, record: bytes, told: str, tmp_path: Path) -> None:
    bodies = {f"{name}.png": b"x" * 20, f"{name}.json": record}
    write_tar(tmp_path / "train-00000.tar", bodies)
    assert told in refused(tmp_path)


def test_deep_metadata_and_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"cat": 2})
    (root / "metadata.jsonl").write_bytes(DEEP + b"\n")
    assert "metadata.jsonl cannot be read" in refused(root)
    (root / "metadata.jsonl").unlink()
    (root / os.fsdecode(b"no\xfftes")).mkdir()
    assert any("no\\udcfftes" in note for note in load_image_set(root).notes)
    (root / "cat" / "000.png").rename(root / "cat" / os.fsdecode(b"\xff.png"))
    assert r"cat/\udcff.png" in refused(root)


def test_a_cut_tar_is_refused(tmp_path: Path) -> None:
    bodies = {"a.png": b"x" * 2000, "a.json": json.dumps({"n": 1}).encode()}
    write_tar(tmp_path / "train-00000.tar", bodies)
    assert "images without a label: a.png" in refused(tmp_path)
    path = tmp_path / "train-00000.tar"
    path.write_bytes(path.read_bytes()[:1500])
    assert "train-00000.tar" in refused(tmp_path)
