from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datagen.errors import InputError
from datagen.real_images import load_image_set


def picture(grey: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), grey, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_shard(path: Path, bodies: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, body in bodies.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))


def test_shards_of_others_are_labelled_by_cls_or_json(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "some-shard-0.tar",
        {
            "x.v1/000.png": picture(0),
            "x.v1/000.cls": b"2\n",
            "x.v1/001.png": picture(1),
            "x.v1/001.json": json.dumps({"label": 0, "group": "p1"}).encode(),
        },
    )
    images = load_image_set(tmp_path)
    assert images.names == ("x.v1/000.png", "x.v1/001.png")
    assert [images.class_names[i] for i in images.class_ids] == ["2", "0"]
    assert images.groups == ("x.v1/000.png", "p1")


def test_names_of_numbered_labels_keep_their_places(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {"0.png": picture(0), "0.cls": b"2"})
    images = load_image_set(tmp_path, class_names=["cat", "dog", "eel"])
    assert images.class_names == ("eel",)


@pytest.mark.parametrize("label", [None, b"", b'{"label": true}', b'{"label": [1]}'])
def test_images_without_a_label_are_named(label: bytes | None, tmp_path: Path) -> None:
    bodies = {"0.png": picture(0), "0.cls": b"1", "1.png": picture(1)}
    if label is not None:
        bodies["1.json" if label.startswith(b"{") else "1.cls"] = label
    write_shard(tmp_path / "a.tar", bodies)
    with pytest.raises(InputError, match=r"images without a label: 1\.png"):
        load_image_set(tmp_path)
