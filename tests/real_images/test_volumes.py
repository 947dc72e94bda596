from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.real_images.opening import open_source
from datagen.real_images.volumes import Slicing, list_volumes
from datagen.training.dataset import read_training_images
from datagen.training.model_recipe import ModelRecipe
from tests.training.tiny_pairs import pairs_content, parsed

nibabel = pytest.importorskip("nibabel")

SHAPE = (12, 10, 6)
AFFINE = np.diag([1.0, 1.5, 3.0, 1.0])


def save(path: Path, values: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
    return path


def labels() -> NDArray[np.uint8]:
    """A block; nothing in the lowest slice."""
    values = np.zeros(SHAPE, np.uint8)
    values[3:9, 2:6, 1:] = 1
    values[4, 4, 2:] = 2
    return values


def intensities() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    return (labels() * 400.0 + rng.uniform(0, 40, SHAPE)).astype(np.float32)


def recipe(data: Path, **source: object) -> ModelRecipe:
    content = pairs_content("edm", data)
    content["data"] |= {"image_size": [16, 16], "fit": "pad", "held_out": 2, **source}
    return parsed(content)


def test_slices_of_a_volume_lie_on_those_of_its_labels(tmp_path: Path) -> None:
    volume = save(tmp_path / "head.nii.gz", intensities())
    save(tmp_path / "labels.nii", labels())
    condition = {
        "kind": "mask", "path": str(tmp_path / "labels.nii"), "names": ["background", "a", "b"],
    }  # fmt: skip
    images = read_training_images(recipe(volume, condition=condition).data).images
    assert images.masks is not None
    # The lowest slice shows nothing, and is left out.
    assert images.images.shape == (5, 16, 16, 1)
    inside = images.images[..., 0][images.masks > 0].mean()
    assert inside > images.images[..., 0][images.masks == 0].mean() + 80
    # 10 rows of 1.5 mm and 12 columns of 1 mm, of which the longer side fills 16 pixels.
    assert images.spacing_mm is not None
    assert images.spacing_mm[0].tolist() == pytest.approx([1.5 * 12 / 16, 12 / 16])
    assert images.groups == ("head",) * 5


def test_other_planes_and_blocks(tmp_path: Path) -> None:
    volume = save(tmp_path / "head.nii.gz", intensities())
    coronal = list_volumes(volume, slicing=Slicing(plane="coronal", every=2, min_shown=0)).entries
    assert len(coronal) == 5
    assert coronal[0].read().pixels.shape == (6, 12, 1)
    assert coronal[0].spacing_mm == (3.0, 1.0)
    blocks = list_volumes(volume, slicing=Slicing(block_mm=6, min_shown=0)).entries
    assert [entry.group for entry in blocks] == [f"head#{k // 2}" for k in range(6)]


def test_folders_of_volumes_are_classes_and_groups(tmp_path: Path) -> None:
    for name in ("ill/p1", "ill/p2", "well/p1"):
        save(tmp_path / "images" / f"{name}.nii.gz", intensities())
        save(tmp_path / "masks" / f"{name}.nii.gz", labels())
    assert open_source(tmp_path / "images").kind == "nifti"
    source = {
        "class_names": ["ill", "well"],
        "condition": {"kind": "mask", "names": ["n", "a", "b"]},
    }
    images = read_training_images(recipe(tmp_path, **source).data).images
    assert images.class_names == ("ill", "well")
    assert images.groups is not None
    assert set(images.groups) == {"ill/p1", "ill/p2", "well/p1"}
    assert images.masks is not None
    assert len(images.masks) == 15


def write_nnunet(folder: Path, names: dict[str, object]) -> Path:
    for case in ("c1", "c2"):
        save(folder / "imagesTr" / f"{case}_0000.nii.gz", intensities())
        save(folder / "imagesTr" / f"{case}_0001.nii.gz", intensities() * 0)
        save(folder / "labelsTr" / f"{case}.nii.gz", labels())
    (folder / "dataset.json").write_text(json.dumps({"labels": names}))
    return folder


def test_nnunet_folders_say_the_names(tmp_path: Path) -> None:
    named = {"left kidney": 2, "background": 0, "liver": 1}
    folder = write_nnunet(tmp_path / "Dataset001", named)
    images = read_training_images(recipe(folder, condition={"kind": "mask"}).data).images
    assert images.mask_names == ("background", "liver", "left-kidney")
    assert images.groups is not None
    assert set(images.groups) == {"c1", "c2"}
    assert images.images.max() > 200


def test_regions_of_nnunet_are_no_names(tmp_path: Path) -> None:
    folder = write_nnunet(tmp_path / "d", {"background": 0, "whole": [1, 2]})
    with pytest.raises(InputError, match=r"data\.condition\.names"):
        read_training_images(recipe(folder, condition={"kind": "mask"}).data)


def test_label_volumes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    volume = save(tmp_path / "head.nii.gz", intensities())
    small = save(tmp_path / "small.nii.gz", labels()[:-1])
    with pytest.raises(InputError, match="a grid of"):
        list_volumes(volume, labels=small)
    with pytest.raises(InputError, match="expected a file, the label volume"):
        list_volumes(volume, labels=tmp_path)
    large = save(tmp_path / "large.nii.gz", labels().astype(np.int16) * 300)
    entry = list_volumes(volume, labels=large).entries[0]
    assert entry.read_mask is not None
    with pytest.raises(InputError, match=r"values up to \d+; expected 0 to 255"):
        entry.read_mask()
