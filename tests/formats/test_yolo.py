"""yolo.py, read back by a parser of the published rules (readers/yolo.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as PillowImage
from PIL import ImageDraw

from datagen.errors import InputError
from datagen.formats import yolo
from datagen.labels import Labels
from tests.formats.readers.yolo import even_odd, read_rows
from tests.formats.scenes import NAMES, SIZE, boxes_alone, draw_scene, publish_scenes

PRECISION_PX = 1e-6 * max(SIZE) * 2


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


@pytest.mark.parametrize("split", ["names", "images", "labels"])
def test_a_split_that_readers_would_misread_is_refused(split: str, tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", num_per_class=4, splits=("train", split))
    for export in (yolo.export, yolo.export_segment):
        with pytest.raises(InputError, match=f"split '{split}': .*rename the split"):
            list(export(version.reader, tmp_path / "out"))
        assert not (tmp_path / "out").exists()
