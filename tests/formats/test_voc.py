"""voc.py, read back with an XML parser and Pillow."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from datagen.errors import InputError
from datagen.formats import voc
from datagen.labels import LabelledObject, Labels
from tests.formats.scenes import NAMES, SIZE, boxes_alone, draw_scene, publish_scenes


def _labels(key: str) -> Labels:
    class_name, _, ordinal = key.rpartition("-")
    return draw_scene(int(ordinal), class_name)


def _boxes(path: Path) -> list[tuple[str, list[int]]]:
    found = []
    for entry in ET.parse(path).getroot().iter("object"):
        box = [
            int(entry.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
        ]
        found.append((entry.findtext("name", ""), box))
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_and_sizes_come_out(channels: int, tmp_path: Path) -> None:
    """VOC counts pixels from 1 and includes the last."""
    version = publish_scenes(tmp_path / "store", channels=channels)
    list(voc.export(version.reader, tmp_path / "out"))
    for key in version.images:
        path = tmp_path / "out" / "Annotations" / f"{key}.xml"
        expected = []
        for each in _labels(key).objects or ():
            x1, y1, x2, y2 = each.box_xyxy
            expected.append((each.class_name, [x1 + 1, y1 + 1, x2, y2]))
        assert _boxes(path) == expected
        root = ET.parse(path).getroot()
        size = [int(root.findtext(f"size/{name}", "")) for name in ("height", "width", "depth")]
        assert size == [*SIZE, channels]
        assert root.findtext("segmented") == "1"
        with PillowImage.open(tmp_path / "out" / "JPEGImages" / root.findtext("filename", "")) as i:
            np.testing.assert_array_equal(np.asarray(i), version.images[key].squeeze())


def test_palette_images_hold_the_numbers_of_classes_and_objects(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store")
    list(voc.export(version.reader, tmp_path / "out"))
    assert (tmp_path / "out" / "labels.txt").read_text().splitlines() == list(NAMES)
    for key in version.images:
        labels = _labels(key)
        for name, values in (("Class", labels.mask), ("Object", labels.instances)):
            with PillowImage.open(tmp_path / "out" / f"Segmentation{name}" / f"{key}.png") as image:
                assert image.mode == "P"
                np.testing.assert_array_equal(np.asarray(image), values)
                colours = np.array(image.getpalette()).reshape(-1, 3)
    # As the development kit lists them: aeroplane, bicycle, bird and the last.
    assert colours[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert colours[[20, 255]].tolist() == [[0, 64, 128], [224, 224, 192]]


def test_splits_are_listed(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store")
    list(voc.export(version.reader, tmp_path / "out"))
    for folder in ("Main", "Segmentation"):
        for split in ("train", "val"):
            text = (tmp_path / "out" / "ImageSets" / folder / f"{split}.txt").read_text()
            expected = {key for key, (where, _) in version.labels.items() if where == split}
            assert set(text.splitlines()) == expected


def test_of_a_box_with_fractions_the_pixels_that_it_touches(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", scene=boxes_alone)
    list(voc.export(version.reader, tmp_path / "out"))
    out = tmp_path / "out"
    for key in version.images:
        whole = [
            [x1 + 1, y1 + 1, x2, y2]
            for x1, y1, x2, y2 in (each.box_xyxy for each in _labels(key).objects or ())
        ]
        assert [box for _, box in _boxes(out / "Annotations" / f"{key}.xml")] == whole
    assert not (out / "SegmentationObject").exists()
    assert not (out / "ImageSets" / "Segmentation").exists()


def test_more_objects_than_the_palette_has_are_refused(tmp_path: Path) -> None:
    def crowd(ordinal: int, class_name: str) -> Labels:
        instances = np.arange(256, dtype=np.uint16).reshape(16, 16)
        objects = [
            LabelledObject("bolt", (k % 16, k // 16, k % 16 + 1, k // 16 + 1))
            for k in range(1, 256)
        ]
        return Labels(class_name, instances=instances, objects=tuple(objects))

    version = publish_scenes(tmp_path / "store", scene=crowd, image_size=(16, 16))
    with pytest.raises(InputError, match=r"trouser-\d+: value 255 in SegmentationObject"):
        list(voc.export(version.reader, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_more_names_than_the_palette_has_are_refused_where_there_are_maps(tmp_path: Path) -> None:
    names = (*NAMES, *(f"n{i}" for i in range(255 - len(NAMES))))
    assert voc.fault(("train",), names, {"objects", "mask"}) is None
    assert voc.fault(("train",), (*names, "more"), {"objects"}) is None
    version = publish_scenes(tmp_path / "store", num_per_class=1, names=(*names, "more"))
    with pytest.raises(InputError, match="255 names of labels: the palette of voc ends at 254"):
        list(voc.export(version.reader, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
