"""Segmentations: their codes, that they name nobody and no time, and that they are made twice."""

from __future__ import annotations

import io
from typing import Any

import highdicom
import numpy as np
import pydicom
import pydicom.config
import pytest

from datagen.labels import Labels
from datagen.medical.dicom_writing import DicomOrigin, file_bytes, image_object
from datagen.medical.segmentation_writing import SCHEME, code_of, segmentation_object

ORIGIN = DicomOrigin("ab" * 32, "scans@1", "0.1.0")
NAMES = ("background", "left-kidney", "kink", "c" * 63)
MASK = np.array([[0, 1, 1, 0, 3], [0, 1, 0, 3, 3], [0, 0, 0, 0, 0]], np.uint8)
UNIQUE = ("SOPInstanceUID", "SeriesInstanceUID", "DimensionOrganizationUID")


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the standard does not allow is an error."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)


def _made(**attributes: Any) -> bytes:
    labels = Labels("abdomen", attributes=attributes, mask=MASK, spacing_mm=(0.5, 0.25))
    image = image_object(np.zeros((3, 5, 1), np.uint8), labels, key="a", origin=ORIGIN)
    made = segmentation_object(image, MASK, NAMES, key="a", origin=ORIGIN)
    assert made is not None
    return file_bytes(made)


@pytest.mark.parametrize("modality", ["OT", "CT"])
def test_it_names_nobody_and_takes_nothing_from_clock_or_chance(modality: str) -> None:
    assert _made(modality=modality) == _made(modality=modality)
    read = pydicom.dcmread(io.BytesIO(_made(modality=modality)))
    dates = {e.keyword: e.value for e in read.iterall() if e.VR in ("DA", "TM", "DT") and e.value}
    assert dates == {"ContentDate": "19700101", "ContentTime": "000000"}
    assert read.PatientName == read.PatientID == read.PatientBirthDate == ""
    assert (read.SyntheticData, read.PatientIdentityRemoved) == ("YES", "YES")
    assert (read.StudyDate, read.ContentCreatorName) == ("", "")
    uids = [each for each in read.iterall() if each.keyword in UNIQUE]
    assert all(str(each.value).startswith("2.25.") for each in uids)


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_a_placed_one_has_the_geometry_of_its_image(plane: str) -> None:
    read = highdicom.seg.segread(io.BytesIO(_made(modality="MR", plane=plane)))
    geometry = read.get_volume_geometry()
    assert geometry is not None
    assert tuple(geometry.pixel_spacing) == (0.5, 0.25)
    assert tuple(geometry.position) == (0, 0, 0)
    down = {"axial": (0, 1, 0), "coronal": (0, 0, -1)}[plane]
    assert tuple(geometry.direction_cosines) == (1, 0, 0, *down)


def test_segments_are_coded_where_the_standard_has_their_name() -> None:
    read = highdicom.seg.segread(io.BytesIO(_made()))
    first, second = (read.get_segment_description(number) for number in (1, 2))
    assert first.segmented_property_type.value == "64033007"
    modifier = first.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
    assert modifier[0].CodeMeaning == "Left"
    assert second.SegmentLabel == "c" * 63
    assert second.segmented_property_type.scheme_designator == SCHEME
    assert (second.algorithm_type.value, second.SegmentAlgorithmName) == ("AUTOMATIC", "datagen")


@pytest.mark.parametrize(
    ("name", "category", "meaning"),
    [
        ("Caudate_Nucleus", "Anatomical Structure", "Caudate Nucleus"),
        ("lesion", "Morphologically Abnormal Structure", "Lesion"),
        ("skin", "Tissue", "Skin"),
        ("plate", "Class of a label map", "plate"),
        ("left", "Class of a label map", "left"),
    ],
)
def test_codes_of_names(name: str, category: str, meaning: str) -> None:
    found, kind, _ = code_of(name)
    assert (found.meaning, kind.meaning) == (category, meaning)


def test_background_alone_has_none() -> None:
    labels = Labels("abdomen", mask=np.zeros((3, 5), np.uint8))
    image = image_object(np.zeros((3, 5, 1), np.uint8), labels, key="a", origin=ORIGIN)
    assert labels.mask is not None
    assert segmentation_object(image, labels.mask, NAMES, key="a", origin=ORIGIN) is None
