"""Objects of DICOM images: their class, units and place, and that they name nobody."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.config
import pytest
from pydicom.dataset import Dataset

from datagen.images import Image
from datagen.labels import Labels
from datagen.medical.dicom import read_dicom
from datagen.medical.dicom_writing import DicomOrigin, file_bytes, image_object

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ORIGIN = DicomOrigin("ab" * 32, "scans@1", "0.1.0")
GREY: Image = np.arange(0, 255, 17, dtype=np.uint8).reshape(3, 5, 1)
# Of PS3.15 table E.1-1, those that the modules of these objects ask for.
IDENTIFYING = """
    PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber
    ReferringPhysicianName
"""
DATES = ("DA", "TM", "DT")


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the standard does not allow is an error."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)


def _labels(spacing_mm: tuple[float, float] | None = (0.5, 0.25), **attributes: Any) -> Labels:
    return Labels("brain", attributes=attributes, spacing_mm=spacing_mm)


def _read(labels: Labels, pixels: Image = GREY, key: str = "brain-0") -> Dataset:
    made = file_bytes(image_object(pixels, labels, key=key, origin=ORIGIN))
    assert made == file_bytes(image_object(pixels, labels, key=key, origin=ORIGIN))
    read = pydicom.dcmread(io.BytesIO(made))
    list(read.iterall())  # values are read when they are asked for
    return read


@pytest.mark.parametrize(
    ("labels", "channels", "storage", "modality"),
    [
        (_labels(), 1, SECONDARY_CAPTURE, "OT"),
        (_labels(modality="MR"), 1, MR, "MR"),
        (_labels(modality="ct"), 1, CT, "CT"),
        (_labels(modality="US"), 1, SECONDARY_CAPTURE, "US"),
        (_labels(modality="no such"), 1, SECONDARY_CAPTURE, "OT"),
        (_labels(modality="MR"), 3, SECONDARY_CAPTURE, "MR"),
        (_labels(None, modality="MR"), 1, SECONDARY_CAPTURE, "MR"),
    ],
)
def test_the_class_follows_from_modality_colour_and_spacing(
    labels: Labels, channels: int, storage: str, modality: str
) -> None:
    pixels = np.repeat(GREY, channels, axis=2)
    read = _read(labels, pixels)
    assert (read.SOPClassUID, read.Modality) == (storage, modality)
    assert read.file_meta.MediaStorageSOPClassUID == storage
    assert read.BitsAllocated == (8 if storage == SECONDARY_CAPTURE else 16)
    np.testing.assert_array_equal(read.pixel_array, pixels.squeeze())


@pytest.mark.parametrize("modality", ["OT", "MR", "CT"])
def test_it_names_nobody_and_no_time(modality: str) -> None:
    read = _read(_labels(modality=modality))
    for keyword in IDENTIFYING.split():
        assert read[keyword].is_empty, keyword
    assert [each for each in read.iterall() if each.VR in DATES and not each.is_empty] == []
    assert (read.SyntheticData, read.PatientIdentityRemoved) == ("YES", "YES")
    assert "no patient" in read.DeidentificationMethod
    assert read.BurnedInAnnotation == "NO"


def test_uids_follow_from_version_and_key() -> None:
    uids = {
        (origin.digest, key, role): origin.uid(key, role)
        for origin in (ORIGIN, DicomOrigin("cd" * 32, "scans@2", "0.1.0"))
        for key in ("brain-0", "brain-1")
        for role in ("image", "study")
    }
    assert len(set(uids.values())) == len(uids)
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 64 for uid in uids.values())


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_reader_sees_the_same_picture_in_every_plane(plane: str, tmp_path: Path) -> None:
    labels = _labels(modality="MR", plane=plane)
    path = tmp_path / "a.dcm"
    path.write_bytes(file_bytes(image_object(GREY, labels, key="a", origin=ORIGIN)))
    read = pydicom.dcmread(path)
    normal = np.cross(read.ImageOrientationPatient[:3], read.ImageOrientationPatient[3:])
    assert np.abs(normal).argmax() == {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    assert list(read.ImagePositionPatient) == [0, 0, 0]
    [frame] = read_dicom(path).frames()
    np.testing.assert_array_equal(frame.pixels, GREY)
    assert frame.spacing_mm == (0.5, 0.25)


def test_ct_has_hounsfield_units_where_the_window_is_known(tmp_path: Path) -> None:
    labels = _labels(modality="CT", window_center=40, window_width=400)
    path = tmp_path / "a.dcm"
    path.write_bytes(file_bytes(image_object(GREY, labels, key="a", origin=ORIGIN)))
    read = pydicom.dcmread(path)
    assert read.RescaleType == "HU"
    units = read.pixel_array * float(read.RescaleSlope) + float(read.RescaleIntercept)
    assert units.min() == -160.0
    assert units[-1, -1] == pytest.approx(-160 + 399 * 238 / 255)
    [frame] = read_dicom(path).frames()
    np.testing.assert_array_equal(frame.pixels, GREY)
    unknown = _read(_labels(modality="CT"))
    assert (unknown.RescaleType, unknown.RescaleSlope, unknown.RescaleIntercept) == ("US", 1, 0)
