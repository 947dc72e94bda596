"""A version that the engine made, with masks, boxes and keypoints that augmentations have moved, in
every layout that holds them: what is stored comes out of each, by another parser."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from pycocotools.coco import COCO

from datagen.catalog.catalog import Catalog
from datagen.formats import FORMATS, NEEDS
from datagen.labels import Labels
from datagen.settings import load_settings
from datagen.store import open_store
from datagen.versions import open_version
from tests.formats.readers.yolo import even_odd, read_rows
from tests.published import publish

SIZE = (40, 56)
RECIPE = {
    "image_size": list(SIZE),
    "classes": [{"name": "ring", "count": 5}, {"name": "star", "count": 5}],
    "generator": {"model": "procedural", "num_objects": [0, 4], "max_occlusion": 0.5},
    "augmentations": [
        {"transform": "HorizontalFlip", "p": 0.5},
        {"transform": "Affine", "params": {"rotate": [-20, 20], "scale": [0.8, 1.2]}, "p": 0.7},
    ],
    "splits": {"ratios": {"train": 0.6, "test": 0.4}},
}


@dataclass(frozen=True)
class Exported:
    """folder: with one of each format that needs labels. labels: key => (split, what is stored)."""

    folder: Path
    labels: dict[str, tuple[str, Labels]]

    def of(self, split: str) -> dict[str, Labels]:
        return {key: labels for key, (where, labels) in self.labels.items() if where == split}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    folder = tmp_path_factory.mktemp("published")
    settings = load_settings({}, home=folder / "home")
    publish(settings, RECIPE)
    with closing(Catalog(settings.database_url)) as catalog:
        store = open_store(settings.store_url)
        reader = open_version(catalog, store, settings.tenant, "small").reader
        stored = {s.key: (s.record["split"], s.labels) for s in reader.iter_samples()}
        for name in NEEDS:
            list(FORMATS[name](reader, folder / name))
        yield Exported(folder, stored)


def test_there_are_objects_moved_hidden_and_none(exported: Exported) -> None:
    """What the other tests rest on."""
    counts = [len(labels.objects or ()) for _, labels in exported.labels.values()]
    assert len(counts) == 10
    assert sum(counts) > 5
    assert any(
        each.keypoints for _, labels in exported.labels.values() for each in labels.objects or ()
    )


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # pycocotools' own
def test_coco(exported: Exported) -> None:
    for split in ("train", "test"):
        read = COCO(exported.folder / "coco" / "annotations" / f"instances_{split}.json")
        assert len(read.imgs) == len(exported.of(split))
        for image in read.imgs.values():
            labels = exported.of(split)[Path(image["file_name"]).stem]
            seen = np.zeros(SIZE, np.uint16)
            entries = read.imgToAnns[image["id"]]
            for k, (each, entry) in enumerate(zip(labels.objects or (), entries, strict=True), 1):
                seen[read.annToMask(entry) > 0] = k
                assert read.cats[entry["category_id"]]["name"] == each.class_name
                x, y, width, height = entry["bbox"]
                assert (x, y, x + width, y + height) == each.box_xyxy
                assert entry.get("num_keypoints", 0) == len(each.keypoints)
            np.testing.assert_array_equal(seen, labels.instances)


def test_yolo_outlines(exported: Exported) -> None:
    height, width = SIZE
    for split in ("train", "test"):
        rows = read_rows(exported.folder / "yolo-segment", split)
        assert rows.keys() == exported.of(split).keys()
        for key, labels in exported.of(split).items():
            seen = np.zeros(SIZE, np.uint16)
            for k, (_, values) in enumerate(rows[key], start=1):
                seen[even_odd(np.array(values).reshape(-1, 2) * (width, height), SIZE)] = k
            np.testing.assert_array_equal(seen, labels.instances)


def test_yolo_and_voc_have_the_same_boxes(exported: Exported) -> None:
    height, width = SIZE
    for split in ("train", "test"):
        rows = read_rows(exported.folder / "yolo", split)
        for key, labels in exported.of(split).items():
            root = ET.parse(exported.folder / "voc" / "Annotations" / f"{key}.xml").getroot()
            entries = list(root.iter("object"))
            for each, (name, box), entry in zip(
                labels.objects or (), rows[key], entries, strict=True
            ):
                x, y, w, h = box
                edges = [(x - w / 2) * width, (y - h / 2) * height]
                edges += [(x + w / 2) * width, (y + h / 2) * height]
                assert edges == pytest.approx(each.box_xyxy, abs=1e-4)
                sides = [
                    int(side.text or "") for side in entry.iter() if side.tag[1:] in ("min", "max")
                ]
                assert [sides[0] - 1, sides[1] - 1, *sides[2:]] == list(each.box_xyxy)
                assert name == entry.findtext("name") == each.class_name


@pytest.mark.parametrize(
    "pattern",
    [
        "masks/masks/{split}/{key}.png",
        "nnunet/*/labels{part}/{key}.png",
        "voc/SegmentationClass/{key}.png",
    ],
)
def test_label_maps(pattern: str, exported: Exported) -> None:
    for key, (split, labels) in exported.labels.items():
        part = "Ts" if split == "test" else "Tr"
        (path,) = exported.folder.glob(pattern.format(split=split, key=key, part=part))
        with PillowImage.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), labels.mask)
