"""dicom.py, read back with pydicom at its strictest, highdicom, and the reader of medical/."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pydicom.config
import pytest

from datagen.errors import InputError
from datagen.formats import dicom
from datagen.labels import Labels
from datagen.medical.dicom import read_dicom
from tests.formats.scenes import NAMES, draw_scene, publish_scenes
from tests.formats.small_version import ATTRIBUTES

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MR = "1.2.840.10008.5.1.4.1.1.4"


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the standard does not allow is an error."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)


def _without_spacing(ordinal: int, class_name: str) -> Labels:
    return dataclasses.replace(draw_scene(ordinal, class_name), spacing_mm=None)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_and_spacing_come_back(channels: int, tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", channels=channels, num_per_class=2)
    list(dicom.export(version.reader, tmp_path / "out"))
    for key, (split, class_name) in version.labels.items():
        path = tmp_path / "out" / "images" / split / f"{key}.dcm"
        read = pydicom.dcmread(path)
        assert read.SOPClassUID == SECONDARY_CAPTURE
        assert read.SeriesDescription == class_name
        np.testing.assert_array_equal(read.pixel_array, version.images[key].squeeze())
        assert list(read.PixelSpacing) == [0.5, 0.25]
        found = read_dicom(path)
        assert found.is_synthetic
        [frame] = found.frames()
        np.testing.assert_array_equal(frame.pixels, version.images[key])
        assert frame.spacing_mm == (0.5, 0.25)


def test_attributes_of_a_class_make_it_mr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTRIBUTES, "bag", {"modality": "MR"})
    version = publish_scenes(tmp_path / "store", channels=1, num_per_class=1)
    list(dicom.export(version.reader, tmp_path / "out"))
    folder = tmp_path / "out" / "images" / "val"
    assert pydicom.dcmread(folder / "bag-00000000.dcm").SOPClassUID == MR
    assert pydicom.dcmread(folder / "trouser-00000000.dcm").SOPClassUID == SECONDARY_CAPTURE


@pytest.mark.parametrize("modality", ["MR", "OT"])
def test_masks_come_back_as_segments_of_their_names(
    modality: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of images without a place, on which they lie pixel for pixel."""
    monkeypatch.setitem(ATTRIBUTES, "bag", {"modality": modality})
    version = publish_scenes(tmp_path / "store", channels=1, num_per_class=4)
    list(dicom.export(version.reader, tmp_path / "out"))
    for ordinal, split in enumerate(["val", "train", "train"]):
        place = Path(split) / f"bag-{ordinal:08d}.dcm"
        image = pydicom.dcmread(tmp_path / "out" / "images" / place)
        read = highdicom.seg.segread(tmp_path / "out" / "segmentations" / place)
        assert read.StudyInstanceUID == image.StudyInstanceUID
        assert read.get("FrameOfReferenceUID") == image.get("FrameOfReferenceUID")
        assert ("FrameOfReferenceUID" in read) == (modality == "MR")
        names = [read.get_segment_description(n).SegmentLabel for n in read.segment_numbers]
        assert names == ["plate", "bolt"]
        segments = read.get_pixels_by_source_instance([image.SOPInstanceUID])[0]
        mask = draw_scene(ordinal, "bag").mask
        for number, name in enumerate(names):
            np.testing.assert_array_equal(segments[..., number], mask == NAMES.index(name))
    assert not (tmp_path / "out" / "segmentations" / "train" / "bag-00000003.dcm").exists()
    assert "3 of 12 images" in (tmp_path / "out" / "README.md").read_text()


def test_no_two_objects_share_a_uid(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", num_per_class=2)
    list(dicom.export(version.reader, tmp_path / "out"))
    read = [pydicom.dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    for keyword, num in (
        ("SOPInstanceUID", 12),
        ("SeriesInstanceUID", 12),
        ("StudyInstanceUID", 6),
    ):
        assert len({each[keyword].value for each in read}) == num


def test_an_unknown_spacing_is_not_invented(tmp_path: Path) -> None:
    version = publish_scenes(tmp_path / "store", scene=_without_spacing, num_per_class=2)
    list(dicom.export(version.reader, tmp_path / "out"))
    assert "6 of 6 images" in (tmp_path / "out" / "README.md").read_text()
    for path in (tmp_path / "out").rglob("*.dcm"):
        read = pydicom.dcmread(path)
        assert not [each for each in read.iterall() if each.keyword == "PixelSpacing"]
        assert "FrameOfReferenceUID" not in read


@pytest.mark.parametrize("missing", ["pydicom.dataset", "highdicom.seg"])
def test_without_the_extra_it_says_what_to_install(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish_scenes(tmp_path / "store", num_per_class=1)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"pip install datagen\[medical\]"):
        list(dicom.export(version.reader, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
