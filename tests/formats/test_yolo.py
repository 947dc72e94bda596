"""yolo.py, read back by a parser written from the published rules of the layout: data.yaml gives
the folders of images, `images` in a path becomes `labels`, and each row is a class and its numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from datagen.errors import InputError
from datagen.formats import yolo
from datagen.labels import Labels
from tests.formats.scenes import NAMES, SIZE, boxes_alone, draw_scene, publish_scenes

# key -> (class name, numbers) of each object
Rows = dict[str, list[tuple[str, list[float]]]]

PRECISION_PX = 1e-6 * max(SIZE) * 2


def read_rows(folder: Path, split: str) -> Rows:
    content = yaml.safe_load((folder / "data.yaml").read_text())
    assert sorted(content["names"]) == list(range(len(content["names"])))
    rows: Rows = {}
    for image in sorted((folder / content[split]).glob("*.png")):
        parts = image.relative_to(folder).parts
        text = (folder / "labels" / Path(*parts[1:])).with_suffix(".txt").read_text()
        rows[image.stem] = []
        for line in text.splitlines():
            number, *values = line.split(" ")
            numbers = [float(value) for value in values]
            assert all(0 <= value <= 1 for value in numbers)
            rows[image.stem].append((content["names"][int(number)], numbers))
    return rows


def _labels(key: str, scene: Any = draw_scene) -> Labels:
    class_name, _, ordinal = key.rpartition("-")
    drawn: Labels = scene(int(ordinal), class_name)
    return drawn


@pytest.mark.parametrize("scene", [draw_scene, boxes_alone])
def test_boxes_come_out(scene: Any, tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", scene=scene)
    list(yolo.export(version.reader, tmp_path / "out"))
    height, width = SIZE
    seen = {split: read_rows(tmp_path / "out", split) for split in ("train", "val")}
    assert {key: split for split, rows in seen.items() for key in rows} == {
        key: split for key, (split, _) in version.labels.items()
    }
    for key, rows in (seen["train"] | seen["val"]).items():
        objects = _labels(key, scene).objects or ()
        assert [name for name, _ in rows] == [each.class_name for each in objects]
        for each, (_, (x, y, w, h)) in zip(objects, rows, strict=True):
            box = [(x - w / 2) * width, (y - h / 2) * height]
            box += [(x + w / 2) * width, (y + h / 2) * height]
            assert box == pytest.approx(each.box_xyxy, abs=PRECISION_PX)


def test_an_image_without_objects_has_an_empty_file(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store")
    list(yolo.export(version.reader, tmp_path / "out"))
    assert read_rows(tmp_path / "out", "train")["bag-00000003"] == []
    assert (tmp_path / "out" / "labels" / "train" / "bag-00000003.txt").read_bytes() == b""


def test_outlines_cover_the_pixels_of_their_objects_and_no_others(tmp_path: Path) -> None:
    """With holes, and in two parts."""
    version = publish_scenes(tmp_path / "store")
    list(yolo.export_segment(version.reader, tmp_path / "out"))
    height, width = SIZE
    for split in ("train", "val"):
        for key, rows in read_rows(tmp_path / "out", split).items():
            labels = _labels(key)
            assert labels.instances is not None
            assert len(rows) == len(labels.objects or ())
            for k, (_, values) in enumerate(rows, start=1):
                corners = np.array(values).reshape(-1, 2) * (width, height)
                assert len(corners) >= 3
                np.testing.assert_array_equal(even_odd(corners, SIZE), labels.instances == k)


def even_odd(corners: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether a ray to the right, from the centre of each pixel, meets the outline oddly often."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        meets = (y1 <= rows) != (y2 <= rows)
        inside ^= meets & (columns < x1 + (rows - y1) / (y2 - y1) * (x2 - x1))
    return inside


@pytest.mark.parametrize("seed", range(8))
def test_any_mask_has_an_outline(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((9, 11)) < (0.2, 0.5, 0.8, 0.95)[seed % 4]
    corners = yolo.outline(mask)
    np.testing.assert_array_equal(even_odd(corners, mask.shape), mask)
    # Pillow paints the outline too: nothing is missing, and what is more touches it.
    canvas = PillowImage.new("1", (11, 9))
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners], fill=1, outline=1)
    assert np.asarray(canvas)[mask].all()


def test_the_outline_of_nothing_is_nothing() -> None:
    assert yolo.outline(np.zeros((4, 4), bool)).shape == (0, 2)


def test_outlines_need_instance_masks(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", scene=boxes_alone)
    with pytest.raises(InputError, match="small@3 has no instance masks, and yolo-segment needs"):
        list(yolo.export_segment(version.reader, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_classes_count_from_0_without_background(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store")
    list(yolo.export(version.reader, tmp_path / "out"))
    content = yaml.safe_load((tmp_path / "out" / "data.yaml").read_text())
    assert content == {
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(NAMES[1:])),
    }


def test_a_split_that_data_yaml_would_misread_is_refused(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", splits=("train", "names"))
    with pytest.raises(InputError, match="rename the split"):
        list(yolo.export(version.reader, tmp_path / "out"))
