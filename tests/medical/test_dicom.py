"""All files of pydicom and pydicom-data: read or refused, and nothing of the patient comes out."""

from __future__ import annotations

import warnings
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from datagen.errors import InputError
from datagen.medical.confidentiality import ALLOWED
from datagen.medical.dicom import MODALITIES, DicomFrame, DicomImage, read_dicom
from datagen.medical.options import BurnedIn, DicomOptions, Window

data_store = pytest.importorskip("data_store")
FOLDERS = [Path(str(m.__file__)).parent / "data" for m in (pydicom, data_store)]
FILES = sorted(p for f in FOLDERS for p in f.rglob("*") if p.is_file() and p.suffix != ".pyc")
ATTESTED = DicomOptions(burned_in=BurnedIn(attested_by="A Person"))
# The UID of a class or a transfer syntax tells nothing of a patient.
STANDARD_UIDS = "1.2.840.10008."
# What may be left as text in a cleaned data set.
TERMS: dict[str, set[str]] = {
    "PhotometricInterpretation": {
        *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB"),
        *("YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"),
    },
    "VOILUTFunction": {"LINEAR", "LINEAR_EXACT", "SIGMOID"},
}
NUM_FRAMES = 2  # of each file: what is told of one is told of all


def _identifiers(dataset: Dataset) -> set[str]:
    """Every text of 4 characters or more outside the allowlist."""
    found = set[str]()
    for element in dataset.iterall():
        if element.keyword in ALLOWED or element.VR in ("SQ", "OB", "OW", "OF", "OD", "UN"):
            continue
        values = element.value if element.VM > 1 else [element.value]
        found |= {str(v) for v in values if len(str(v)) >= 4 and element.VR not in ("US", "FL")}
    return {text for text in found if not text.startswith(STANDARD_UIDS)}


def _told(image: DicomImage, frames: list[DicomFrame]) -> str:
    """All text that the reading gives; of the data set that stays inside it, too."""
    assert image.modality in MODALITIES
    apart = ("path", "dataset", "modality", "number")  # a number that orders, and goes no further
    told = [str(getattr(image, f.name)) for f in fields(image) if f.name not in apart]
    for element in image.dataset.iterall():
        if element.keyword in TERMS:
            assert element.value in TERMS[element.keyword], element
        elif element.VR not in ("SQ", "OB", "OW", "DS", "IS", "US", "SS", "FD", "FL"):
            told.append(str(element.value))
    return "\n".join([*told, *(change for frame in frames for change in frame.changes)])


def test_no_identifier_of_any_file_of_pydicom_data_comes_out() -> None:
    read, refused = 0, 0
    for path in FILES:
        try:
            image = read_dicom(path, ATTESTED)
            frames = list(islice(image.frames(ATTESTED), NUM_FRAMES))
        except InputError as error:
            refused += 1
            message = str(error).replace(str(path), "")
            identifiers = set[str]()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    identifiers = _identifiers(pydicom.dcmread(path))
                except Exception:  # none that can be read can be told
                    continue
            assert not [text for text in identifiers if text in message], path.name
            continue
        read += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            identifiers = _identifiers(pydicom.dcmread(path))
        told = _told(image, frames)
        assert not [text for text in identifiers if text in told], path.name
        for frame in frames:
            assert frame.pixels.dtype == np.uint8
            assert frame.pixels.shape[2] in (1, 3)
    assert read >= 100
    assert refused >= 50


def _dataset(**values: Any) -> Dataset:
    """A CT slice of 3 x 2 pixels of values 0 to 5."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Doe^Jane", "4711-22", "CT"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 2, 3, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.PhotometricInterpretation = 0, "MONOCHROME2"
    dataset.PixelData = np.arange(6, dtype="<u2").tobytes()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def _read(tmp_path: Path, options: DicomOptions | None = None, **values: Any) -> DicomFrame:
    path = tmp_path / "a.dcm"
    _dataset(**values).save_as(path, enforce_file_format=True)
    return next(read_dicom(path, options).frames(options))


def test_rescale_and_window_give_the_standards_grey(tmp_path: Path) -> None:
    """PS3.3 C.11.2.1.2: centre 40.5 and width 81 take 0 to black and 80 to white."""
    values: dict[str, Any] = {"RescaleSlope": 20, "RescaleIntercept": -10}
    options = DicomOptions(window=Window(center=40.5, width=81))
    frame = _read(tmp_path, options, **values)
    expected = np.clip((np.arange(6) * 20 - 10) / 80 * 255, 0, 255).round()
    assert np.abs(frame.pixels.ravel() - expected).max() <= 1
    assert frame.changes == ("windowed as asked for",)
    frame = _read(tmp_path, WindowCenter=[3, 9], WindowWidth=[2, 9])
    assert frame.pixels.ravel().tolist() == [0, 0, 0, 255, 255, 255]


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    plain = _read(tmp_path)
    inverted = _read(tmp_path, PhotometricInterpretation="MONOCHROME1")
    assert (inverted.pixels == 255 - plain.pixels).all()
    assert plain.pixels.ravel()[[0, -1]].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("cosines", "expected", "spacing"),
    [
        ([1, 0, 0, 0, 1, 0], [[0, 1, 2], [3, 4, 5]], (0.5, 2)),
        ([-1, 0, 0, 0, 1, 0], [[2, 1, 0], [5, 4, 3]], (0.5, 2)),
        ([1, 0, 0, 0, -1, 0], [[3, 4, 5], [0, 1, 2]], (0.5, 2)),
        ([0, 1, 0, 1, 0, 0], [[0, 3], [1, 4], [2, 5]], (2, 0.5)),
        ([1, 0, 0, 0, 0, -1], [[0, 1, 2], [3, 4, 5]], (0.5, 2)),  # coronal: the head above
        ([0, 1, 0, 0, 0, 1], [[3, 4, 5], [0, 1, 2]], (0.5, 2)),  # sagittal, upside down
    ],
)
def test_frames_are_turned_as_radiology_shows_them(
    cosines: list[float], expected: list[list[int]], spacing: tuple[float, float], tmp_path: Path
) -> None:
    frame = _read(
        tmp_path,
        ImageOrientationPatient=cosines,
        ImagePositionPatient=[1, 2, 3],
        PixelSpacing=[0.5, 2],
        WindowCenter=128,
        WindowWidth=256,
    )
    assert frame.pixels[..., 0].tolist() == expected
    assert frame.spacing_mm == spacing


def test_text_is_refused_unless_masked_or_attested(tmp_path: Path) -> None:
    for values in ({"BurnedInAnnotation": "YES"}, {"Modality": "US"}, {"ConversionType": "WSD"}):
        with pytest.raises(InputError, match=r"burned_in\.mask"):
            _read(tmp_path, **values)
        masked = DicomOptions(burned_in=BurnedIn(mask=((1, 0, 3, 2),)))
        frame = _read(tmp_path, masked, **values)
        assert frame.pixels[:, 1:].max() == 0
        image = read_dicom(tmp_path / "a.dcm", ATTESTED)
        assert image.deidentification == (
            "113100 Basic Application Confidentiality Profile",
            "113101 Clean Pixel Data Option",
            "no identifying text, attested by A Person",
        )
    _read(tmp_path, Modality="US", BurnedInAnnotation="NO")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"Rows": 65535, "Columns": 65535}, "expected at most"),
        ({"NumberOfFrames": 2**31 - 1}, "expected at most"),
        ({"Rows": 0}, "expected at most"),
        ({"Rows": 200}, "cannot be decoded"),
    ],
)
def test_absurd_sizes_are_refused(values: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=match):
        _read(tmp_path, **values)


def test_an_absent_codec_names_its_package() -> None:
    lossless = next(p for p in FILES if p.name == "JPGLosslessP14SV1_1s_1f_8b.dcm")
    with pytest.raises(InputError, match=r"pylibjpeg|gdcm"):
        read_dicom(lossless, ATTESTED)


def test_a_kind_that_no_installed_codec_knows_names_others() -> None:
    twelve_bits = next(p for p in FILES if p.name == "JPEG-lossy.dcm")
    with pytest.raises(InputError, match=r"another codec.*(pylibjpeg|gdcm)"):
        next(read_dicom(twelve_bits, ATTESTED).frames(ATTESTED))


def test_files_without_pixels_and_other_files_are_refused(tmp_path: Path) -> None:
    plan = next(p for p in FILES if p.name == "rtplan.dcm")
    with pytest.raises(InputError, match="without pixels"):
        read_dicom(plan)
    for data in (b"", b"\x89PNG" + bytes(500), bytes(128) + b"DICM" + b"\xff" * 50):
        (tmp_path / "b.dcm").write_bytes(data)
        with pytest.raises(InputError):
            read_dicom(tmp_path / "b.dcm")
    with pytest.raises(InputError):
        read_dicom(tmp_path / "none.dcm")
