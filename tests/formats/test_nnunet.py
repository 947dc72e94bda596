"""nnunet.py, checked against the published rules of nnU-Net v2's raw data set folder."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from datagen.errors import InputError
from datagen.formats import nnunet
from tests.formats.scenes import NAMES, draw_scene, publish_scenes
from tests.formats.small_version import SmallVersion


def read_raw_folder(root: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """By documentation/dataset_format.md: its dataset.json, and the cases of Tr and Ts."""
    assert re.fullmatch(r"Dataset\d{3}_\S+", root.name)
    content = json.loads((root / "dataset.json").read_text())
    ending = content["file_ending"]
    labels = content["labels"]
    assert labels["background"] == 0
    assert sorted(labels.values()) == list(range(len(labels)))
    cases: dict[str, list[str]] = {}
    for part in ("Tr", "Ts"):
        if not (root / f"images{part}").exists():
            continue
        files = sorted(path.name for path in (root / f"images{part}").iterdir())
        assert all(re.fullmatch(rf".+_\d{{4}}{re.escape(ending)}", name) for name in files)
        cases[part] = sorted({name[: -len(f"_0000{ending}")] for name in files})
        for case in cases[part]:
            _check_case(root, part, case, content)
    assert content["numTraining"] == len(cases["Tr"])
    return content, cases


def _check_case(root: Path, part: str, case: str, content: dict[str, Any]) -> None:
    """One file a channel, but for RGB: its reader makes three channels of the one file."""
    (image_path,) = (root / f"images{part}").glob(f"{case}_*.png")
    assert image_path.name == f"{case}_0000.png"
    with (
        PillowImage.open(image_path) as image,
        PillowImage.open(root / f"labels{part}" / f"{case}.png") as mask,
    ):
        assert image.size == mask.size
        assert len(image.getbands()) == len(content["channel_names"])
        assert mask.mode == "L"
        assert np.asarray(mask).max() < len(content["labels"])


def _root(folder: Path) -> Path:
    (root,) = folder.iterdir()
    return root


def _keys(version: SmallVersion, split: str) -> list[str]:
    return sorted(key for key, (where, _) in version.labels.items() if where == split)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_that_follows_the_rules(channels: int, tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", channels=channels, splits=("train", "test"))
    list(nnunet.export(version.reader, tmp_path / "raw"))
    root = _root(tmp_path / "raw")
    content, cases = read_raw_folder(root)
    assert root.name.endswith("_small")
    assert content["labels"] == {name: value for value, name in enumerate(NAMES)}
    assert list(content["channel_names"].values()) == (["grey"] if channels == 1 else list("RGB"))
    assert cases == {"Tr": _keys(version, "train"), "Ts": _keys(version, "test")}
    assert not (root / "splits_final.json").exists()
    for part in ("Tr", "Ts"):
        for case in cases[part]:
            labels = draw_scene(int(case.rpartition("-")[2]), "any")
            with PillowImage.open(root / f"labels{part}" / f"{case}.png") as mask:
                np.testing.assert_array_equal(np.asarray(mask), labels.mask)
    assert {path.name for path in root.iterdir()} == {
        "dataset.json", "imagesTr", "imagesTs", "labelsTr", "labelsTs"
    }  # fmt: skip


def test_a_validation_split_becomes_a_fold(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store")
    list(nnunet.export(version.reader, tmp_path / "raw"))
    root = _root(tmp_path / "raw")
    _, cases = read_raw_folder(root)
    assert cases == {"Tr": sorted(version.images)}
    (fold,) = json.loads((root / "splits_final.json").read_text())
    assert {part: sorted(keys) for part, keys in fold.items()} == {
        "train": _keys(version, "train"),
        "val": _keys(version, "val"),
    }


def test_a_folder_with_a_name_of_that_form_is_the_data_set(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store")
    list(nnunet.export(version.reader, tmp_path / "Dataset123_Plates"))
    read_raw_folder(tmp_path / "Dataset123_Plates")


def test_the_number_follows_from_the_version(tmp_path: Path) -> None:
    manifest = publish_scenes(tmp_path / "store", num_per_class=1).manifest
    assert nnunet.default_folder_name(manifest) == "Dataset787_small"


def test_ignore_is_the_last_name_or_none(tmp_path: Path) -> None:
    names = ("background", "plate", "ignore", "bolt")
    version = publish_scenes(tmp_path / "store", names=names)
    with pytest.raises(InputError, match="'ignore' has value 2"):
        list(nnunet.export(version.reader, tmp_path / "out"))
    last = publish_scenes(tmp_path / "last", names=(*NAMES, "ignore"))
    list(nnunet.export(last.reader, tmp_path / "out"))
    read_raw_folder(_root(tmp_path / "out"))
