"""labelled.py, and the labels that parquet and imagefolder hold, loaded by Hugging Face."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from datagen.errors import VerifyError
from datagen.formats import imagefolder, parquet, webdataset
from datagen.formats.labelled import class_words_in, kinds_in, png_shape
from datagen.images import encode_png
from datagen.labels import Labels
from tests.formats.readers import read_by
from tests.formats.scenes import boxes_alone, draw_scene, publish_scenes
from tests.formats.small_version import SmallVersion, publish_small_version


def _publish_with_words(root: Path) -> SmallVersion:
    version = publish_scenes(root, num_per_class=5)
    version.manifest.recipe["classes"][1].update(caption="a boot", also=["metal"])
    return version


@pytest.mark.parametrize("name", ["parquet", "imagefolder"])
def test_hugging_face_reads_objects_masks_and_words(name: str, tmp_path: Path) -> None:
    version = _publish_with_words(tmp_path / "store")
    export = parquet.export if name == "parquet" else imagefolder.export
    list(export(version.reader, tmp_path / "out"))
    seen = read_by("hugging_face_labels", str(tmp_path / "out"), cache=tmp_path / "cache")
    assert seen.keys() == version.images.keys()
    for key, found in seen.items():
        class_name, _, ordinal = key.rpartition("-")
        expected = _expected(draw_scene(int(ordinal), class_name))
        if name == "imagefolder":
            del expected["mask"], expected["instances"]
            found["also"] = json.loads(found["also"])
            found["caption"] = found["caption"] or None
        assert found == {"split": version.labels[key][0], **expected}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its files open
def test_webdataset_reads_masks_beside_the_images(tmp_path: Path) -> None:
    import webdataset as reader

    version = publish_scenes(tmp_path / "store", num_per_class=3)
    list(webdataset.export(version.reader, tmp_path / "out"))
    seen = set()
    for path in sorted((tmp_path / "out").glob("*.tar")):
        for sample in reader.WebDataset(str(path), shardshuffle=False).decode("l8"):
            labels = draw_scene(sample["json"]["ordinal"], sample["json"]["class_name"])
            np.testing.assert_array_equal(sample["mask.png"], labels.mask)
            np.testing.assert_array_equal(sample["instances.png"], labels.instances)
            assert sample["json"]["labels"] == json.loads(json.dumps(labels.spatial_json()))
            seen.add(sample["__key__"])
    assert seen == version.images.keys()


def _expected(labels: Labels) -> dict[str, object]:
    assert labels.objects is not None
    assert labels.mask is not None
    assert labels.instances is not None
    boxes = [each.box_xyxy for each in labels.objects]
    return {
        "bbox": [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes],
        "categories": [each.class_name for each in labels.objects],
        "mask": labels.mask.tolist(),
        "instances": labels.instances.tolist(),
        "also": list(labels.also),
        "caption": labels.caption,
    }


def test_only_what_a_version_has_is_written(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    columns = ["image", "label", "class_name", "ordinal", "key", "attributes"]
    boxes = publish_scenes(tmp_path / "boxes", scene=boxes_alone)
    plain = publish_small_version(tmp_path / "plain")
    for version, more in ((boxes, ["objects"]), (plain, [])):
        folder = tmp_path / f"out-{len(more)}"
        list(parquet.export(version.reader, folder / "parquet"))
        for path in (folder / "parquet" / "data").iterdir():
            assert pq.read_schema(path).names == columns + more
        list(imagefolder.export(version.reader, folder / "imagefolder"))
        text = (folder / "imagefolder" / "train" / "metadata.jsonl").read_text()
        fields = ["attributes", "file_name", "key", "label", *more, "ordinal"]
        assert all(list(json.loads(line)) == fields for line in text.splitlines())


def test_kinds_are_those_of_the_first_sample(tmp_path: Path) -> None:
    assert kinds_in(publish_scenes(tmp_path / "a").reader) == {"objects", "instances", "mask"}
    assert kinds_in(publish_scenes(tmp_path / "b", scene=boxes_alone).reader) == {"objects"}
    assert class_words_in(_publish_with_words(tmp_path / "c").reader) == {"also", "caption"}


def test_of_a_version_without_names_nothing_is_read(tmp_path: Path) -> None:
    version = publish_small_version(tmp_path)
    for entry in version.manifest.shards:
        (version.folder / entry.path).unlink()
    assert kinds_in(version.reader) == frozenset()
    assert class_words_in(version.reader) == frozenset()


def test_the_shape_is_read_from_the_header(tmp_path: Path) -> None:
    for channels in (1, 3):
        assert png_shape(encode_png(np.zeros((5, 7, channels), np.uint8))) == (5, 7, channels)
    with pytest.raises(VerifyError, match="no grey or RGB PNG"):
        png_shape(b"GIF89a" + bytes(40))


def test_a_scene_without_objects_is_not_one_without_labels() -> None:
    """What the tests above rest on."""
    empty = draw_scene(3, "bag")
    assert empty.objects == ()
    assert dataclasses.replace(empty, objects=None) != empty
