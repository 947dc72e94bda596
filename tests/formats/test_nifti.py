"""nifti.py, read back with nibabel and with the reader of medical/."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from datagen.errors import InputError
from datagen.formats import nifti
from datagen.labels import Labels
from datagen.medical.nifti import Plane, read_label_volume, read_volume, slices_of
from datagen.medical.nifti_writing import slice_bytes
from datagen.real_images.opening import open_source
from tests.formats.scenes import draw_scene, publish_scenes
from tests.formats.small_version import publish_small_version


def _without_spacing(ordinal: int, class_name: str) -> Labels:
    labels = draw_scene(ordinal, class_name)
    return dataclasses.replace(labels, spacing_mm=None if ordinal else (0.5, 0.25))


def test_a_training_is_told_that_the_files_are_synthetic(tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    data = slice_bytes(ramp, plane="axial", spacing_mm=(1.0, 1.0))
    (tmp_path / "made.nii.gz").write_bytes(data)
    entries = open_source(tmp_path, kind="nifti").list("").entries
    assert [entry.read().mark for entry in entries] == [""]
    copied = nibabel.load(tmp_path / "made.nii.gz")
    copied.header["descrip"] = b"scanner 7"
    nibabel.save(copied, tmp_path / "made.nii.gz")
    entries = open_source(tmp_path, kind="nifti").list("").entries
    assert [entry.read().mark for entry in entries] == [None]


def test_images_and_masks_come_back_with_their_spacing(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", channels=1)
    list(nifti.export(version.reader, tmp_path / "out"))
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert classes == {"background": 0, "plate": 1, "wheel": 2, "bolt": 3}
    for key, (split, class_name) in version.labels.items():
        labels = draw_scene(int(key.rpartition("-")[2]), class_name)
        place = Path(split) / f"{key}.nii.gz"
        volume = read_volume(tmp_path / "out" / "images" / place)
        (shown,) = slices_of(volume, plane="axial")
        np.testing.assert_array_equal(shown.values, version.images[key][..., 0])
        assert shown.spacing_mm == labels.spacing_mm
        for name, expected in (("labels", labels.mask), ("instances", labels.instances)):
            found = read_label_volume(tmp_path / "out" / name / place, like=volume)
            (drawn,) = slices_of(found, plane="axial")
            np.testing.assert_array_equal(drawn.values, expected)


def test_nibabel_reads_types_units_and_both_forms_of_the_affine(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", channels=1, num_per_class=1)
    list(nifti.export(version.reader, tmp_path / "out"))
    kinds = {"images": "uint8", "labels": "uint8", "instances": "uint16"}
    for name, kind in kinds.items():
        image = nibabel.load(tmp_path / "out" / name / "val" / "bag-00000000.nii.gz")
        assert isinstance(image, nibabel.Nifti1Image)
        assert image.get_data_dtype() == np.dtype(kind)  # type: ignore[no-untyped-call]
        assert image.shape == (32, 24, 1)
        assert image.header["descrip"].item() == b"datagen: synthetic"
        assert image.header.get_xyzt_units()[0] == "mm"  # type: ignore[no-untyped-call]
        assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")  # type: ignore[no-untyped-call]
        for form in (image.get_sform(), image.get_qform()):  # type: ignore[no-untyped-call]
            np.testing.assert_allclose(form, np.diag([-0.25, -0.5, 1, 1]))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_plane_of_a_class_is_that_of_its_volumes(plane: Plane, tmp_path: Path) -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    (tmp_path / "a.nii.gz").write_bytes(slice_bytes(picture, plane=plane, spacing_mm=(2.0, 3.0)))
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.values.shape[{"axial": 2, "coronal": 1, "sagittal": 0}[plane]] == 1
    (shown,) = slices_of(volume, plane=plane)
    np.testing.assert_array_equal(shown.values, picture)
    assert shown.spacing_mm == (2.0, 3.0)


def test_an_unknown_spacing_is_told(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", channels=1, scene=_without_spacing)
    list(nifti.export(version.reader, tmp_path / "out"))
    assert "27 of 30 images" in (tmp_path / "out" / "README.md").read_text()
    lines = (tmp_path / "out" / "labels" / "train.jsonl").read_text().splitlines()
    assert not any("spacing_mm" in json.loads(line) for line in lines)
    volume = read_volume(tmp_path / "out" / "images" / "train" / "bag-00000001.nii.gz")
    assert volume.spacing_mm == (1.0, 1.0, 1.0)


def test_a_version_without_masks_has_images_alone(tmp_path: Path) -> None:
    version = publish_small_version(tmp_path / "store", channels=1, num_per_class=2)
    list(nifti.export(version.reader, tmp_path / "out"))
    assert not any(path.suffix == ".gz" for path in (tmp_path / "out" / "labels").rglob("*"))
    assert not (tmp_path / "out" / "classes.json").exists()
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == len(version.images)


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish_small_version(tmp_path / "store", num_per_class=1)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"pip install datagen\[medical\]"):
        list(nifti.export(version.reader, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
