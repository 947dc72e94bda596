"""coco.py, read back by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from datagen.errors import InputError, VerifyError
from datagen.formats import coco
from datagen.labels import Labels
from tests.formats.scenes import NAMES, SIZE, boxes_alone, draw_scene, publish_scenes
from tests.formats.small_version import SmallVersion


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> SmallVersion:
    return publish_scenes(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def folder(version: SmallVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("coco") / "out"
    list(coco.export(version.reader, target))
    return target


def _labels(file_name: str) -> Labels:
    class_name, _, ordinal = Path(file_name).stem.rpartition("-")
    return draw_scene(int(ordinal), class_name)


def _images_and_annotations(read: COCO) -> list[tuple[Labels, list[dict[str, Any]]]]:
    found = []
    for image in read.loadImgs(read.getImgIds()):
        annotations = read.loadAnns(read.getAnnIds(imgIds=[image["id"]]))
        found.append((_labels(image["file_name"]), annotations))
    return found


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools' own
def test_pycocotools_reads_every_mask_box_and_area(version: SmallVersion, folder: Path) -> None:
    seen = 0
    for split in ("train", "val"):
        read = COCO(folder / "annotations" / f"instances_{split}.json")
        names = {each["id"]: each["name"] for each in read.loadCats(read.getCatIds())}
        assert names == dict(list(enumerate(NAMES))[1:])
        for labels, entries in _images_and_annotations(read):
            assert labels.instances is not None
            for k, (each, annotation) in enumerate(
                zip(labels.objects or (), entries, strict=True), start=1
            ):
                mask = read.annToMask(annotation)
                np.testing.assert_array_equal(mask, labels.instances == k)
                x1, y1, x2, y2 = each.box_xyxy
                assert annotation["bbox"] == [x1, y1, x2 - x1, y2 - y1]
                assert annotation["area"] == mask.sum()
                assert annotation["iscrowd"] == 0
                assert names[annotation["category_id"]] == each.class_name
            seen += 1
    assert seen == len(version.images)


def test_images_lie_where_they_are_said_to(version: SmallVersion, folder: Path) -> None:
    for split in ("train", "val"):
        read = COCO(folder / "annotations" / f"instances_{split}.json")
        for image in read.loadImgs(read.getImgIds()):
            assert (image["height"], image["width"]) == SIZE
            assert (folder / split / image["file_name"]).is_file()
            assert version.labels[Path(image["file_name"]).stem][0] == split


def test_keypoints_have_the_places_of_their_category_in_every_split(folder: Path) -> None:
    """The first plate shows one of two points: the second's name is known only later."""
    for split in ("train", "val"):
        read = COCO(folder / "annotations" / f"instances_{split}.json")
        (plate, wheel, _) = read.loadCats([1, 2, 3])
        assert sorted(plate["keypoints"]) == ["corner", "middle"]
        assert plate["skeleton"] == []
        assert "keypoints" not in wheel
        for labels, entries in _images_and_annotations(read):
            for each, annotation in zip(labels.objects or (), entries, strict=True):
                if each.class_name != "plate":
                    assert "keypoints" not in annotation
                    continue
                points = {p.name: [p.x, p.y, p.visibility] for p in each.keypoints}
                expected = [points.get(name, [0, 0, 0]) for name in plate["keypoints"]]
                assert annotation["keypoints"] == [value for point in expected for value in point]
                assert annotation["num_keypoints"] == len(points)


def test_captions_and_classes_of_images_are_kept(folder: Path) -> None:
    for split in ("train", "val"):
        read = COCO(folder / "annotations" / f"captions_{split}.json")
        for labels, entries in _images_and_annotations(read):
            expected = [] if labels.caption is None else [labels.caption]
            assert [each["caption"] for each in entries] == expected
        for image in read.loadImgs(read.getImgIds()):
            labels = _labels(image["file_name"])
            assert image["labels"] == [labels.class_name, *labels.also]
            assert image["spacing_mm"] == [0.5, 0.25]


def test_ids_are_of_their_order_and_unique_over_splits(folder: Path) -> None:
    for field in ("images", "annotations"):
        ids = []
        for split in ("train", "val"):
            text = (folder / "annotations" / f"instances_{split}.json").read_text()
            ids += [each["id"] for each in json.loads(text)[field]]
        assert ids == list(range(1, len(ids) + 1))


def test_no_file_of_the_pass_is_left(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "annotations").iterdir())
    assert names == [f"{part}_{split}.json" for part in ("captions", "instances") for split in
                     ("train", "val")]  # fmt: skip


def test_boxes_without_masks_have_no_segmentation(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", scene=boxes_alone)
    list(coco.export(version.reader, tmp_path / "out"))
    read = COCO(tmp_path / "out" / "annotations" / "instances_train.json")
    annotations = read.loadAnns(read.getAnnIds())
    assert annotations
    for annotation in annotations:
        assert "segmentation" not in annotation
        _, _, width, height = annotation["bbox"]
        assert annotation["area"] == pytest.approx(width * height, abs=1e-4)
        assert width % 1 == 0.5
    assert not (tmp_path / "out" / "annotations" / "captions_train.json").exists()


def test_an_object_of_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", names=NAMES[:-1])
    with pytest.raises(VerifyError, match=r"trouser-\d+: an object of class 'bolt'"):
        list(coco.export(version.reader, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_split_with_the_name_of_its_folder_is_refused(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", splits=("train", "annotations"))
    with pytest.raises(InputError, match="rename the split"):
        list(coco.export(version.reader, tmp_path / "out"))
