"""masks.py, read back with Pillow."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from datagen.errors import InputError, VerifyError
from datagen.formats import masks
from datagen.labels import LabelledObject, Labels
from tests.formats.scenes import boxes_alone, draw_scene, publish_scenes


def _values(path: Path) -> np.ndarray:
    with PillowImage.open(path) as image:
        assert image.mode in ("L", "I;16")
        return np.asarray(image)


def _without_instances(ordinal: int, class_name: str) -> Labels:
    return dataclasses.replace(draw_scene(ordinal, class_name), instances=None, objects=None)


def test_values_are_the_numbers_of_classes_and_objects(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store")
    list(masks.export(version.reader, tmp_path / "out"))
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert classes == {"background": 0, "plate": 1, "wheel": 2, "bolt": 3}
    for split in ("train", "val"):
        lines = (tmp_path / "out" / "labels" / f"{split}.jsonl").read_text().splitlines()
        rows = {row["key"]: row for row in map(json.loads, lines)}
        assert rows.keys() == {key for key, (where, _) in version.labels.items() if where == split}
        for key, row in rows.items():
            labels = draw_scene(int(key.rpartition("-")[2]), row["class_name"])
            place = Path(split) / f"{key}.png"
            np.testing.assert_array_equal(_values(tmp_path / "out/masks" / place), labels.mask)
            instances = _values(tmp_path / "out/instances" / place)
            np.testing.assert_array_equal(instances, labels.instances)
            for k, each in enumerate(row["objects"], start=1):
                seen = _values(tmp_path / "out/masks" / place)[instances == k]
                assert (seen == classes[each["class_name"]]).all()
            assert (tmp_path / "out/images" / place).is_file()


def test_masks_alone_have_no_folder_of_instances(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", scene=_without_instances)
    list(masks.export(version.reader, tmp_path / "out"))
    assert not (tmp_path / "out" / "instances").exists()


def test_more_than_255_objects_have_16_bits(tmp_path: Path) -> None:
    def crowd(ordinal: int, class_name: str) -> Labels:
        instances = np.arange(600, dtype=np.uint16).reshape(20, 30)
        objects = [
            LabelledObject("bolt", (k % 30, k // 30, k % 30 + 1, k // 30 + 1))
            for k in range(1, 600)
        ]
        mask = (instances > 0).astype(np.uint8) * 3
        return Labels(class_name, mask=mask, instances=instances, objects=tuple(objects))

    version = publish_scenes(tmp_path / "store", scene=crowd, image_size=(20, 30), num_per_class=2)
    list(masks.export(version.reader, tmp_path / "out"))
    values = _values(tmp_path / "out/instances/train/bag-00000001.png")
    np.testing.assert_array_equal(values.ravel(), np.arange(600))


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"scene": boxes_alone}, "objects with boxes"), ({"scene": None, "names": ()}, "the class")],
)
def test_a_version_without_masks_is_refused_before_anything_is_written(
    changes: dict[str, object], found: str, tmp_path: Path
) -> None:
    version = publish_scenes(tmp_path / "store", **changes)
    (tmp_path / "pulled").mkdir()
    with pytest.raises(InputError, match=rf"small@3 has no label maps.*masks needs.*{found}"):
        next(iter(masks.export(version.reader, tmp_path / "pulled" / "out")))
    assert not any((tmp_path / "pulled").iterdir())


def test_a_sample_that_lacks_what_the_first_has_is_found(tmp_path: Path) -> None:
    def some(ordinal: int, class_name: str) -> Labels:
        return draw_scene(ordinal, class_name) if ordinal < 6 else Labels(class_name)

    version = publish_scenes(tmp_path / "store", scene=some)
    with pytest.raises(VerifyError, match=r"trouser-00000006 has no .*label maps"):
        list(masks.export(version.reader, tmp_path / "out"))
