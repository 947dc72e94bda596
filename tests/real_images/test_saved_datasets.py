from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datagen.errors import InputError
from datagen.real_images import load_image_set
from datagen.real_images.opening import open_source

GREYS = [0, 90, 180]


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """As Hugging Face's own library makes them."""
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["dog", "cat"]),
            "group": datasets.Value("string"),
        }
    )
    pictures = [Image.fromarray(np.full((8, 8), grey, np.uint8)) for grey in GREYS]
    columns = {"image": pictures, "label": [1, 0, 1], "group": ["p1", None, "p1"]}
    train = datasets.Dataset.from_dict(columns, features=features)
    return {"train": train, "validation": train.select([2])}


@pytest.fixture
def saved(parts: dict[str, Any], tmp_path: Path) -> Path:
    parts["train"].save_to_disk(tmp_path / "saved", num_shards=2)
    return tmp_path / "saved"


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_image_set(path)
    return str(caught.value)


def test_a_saved_data_set_is_read(saved: Path) -> None:
    images = load_image_set(saved)
    assert images.class_names == ("dog", "cat")
    assert images.class_ids.tolist() == [1, 0, 1]
    assert images.images[:, 0, 0, 0].tolist() == GREYS
    assert images.groups == ("p1", images.names[1], "p1")


def test_a_saved_dict_has_parts(parts: dict[str, Any], tmp_path: Path) -> None:
    import datasets

    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert open_source(tmp_path / "saved").parts == ("train", "val")
    assert len(load_image_set(tmp_path / "saved")) == 3
    kept = load_image_set(tmp_path / "saved", part="val")
    assert kept.images[:, 0, 0, 0].tolist() == [180]


def test_no_file_outside_is_read(saved: Path) -> None:
    state = json.loads((saved / "state.json").read_text())
    state["_data_files"][0]["filename"] = "../other.arrow"
    (saved / "state.json").write_text(json.dumps(state))
    assert "it names '../other.arrow'" in refused(saved)


def test_damaged_files_are_named(saved: Path) -> None:
    file = next(saved.glob("*.arrow"))
    whole = file.read_bytes()
    for body in (b"", b"hello", whole[: len(whole) // 2]):
        file.write_bytes(body)
        assert file.name in refused(saved)
    (saved / "dataset_info.json").write_text('{"features": {"text": {"_type": "Value"}}}')
    assert "expected one of kind Image" in refused(saved)
