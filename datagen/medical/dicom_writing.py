"""DICOM images out: one object of one frame each, of no patient. Called by formats/dicom.py.

Source: DICOM PS3.3 A.3, A.4, A.8 (CT, MR, Secondary Capture Image), C.7.6.2 (planes), C.11.2
(windows), C.12.1 (SOP Common); PS3.5 B.2 (UIDs made of UUIDs).
"""

from __future__ import annotations

import io
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from datagen.images import Pixels
from datagen.labels import Labels
from datagen.medical.dicom import MODALITIES
from datagen.medical.extra import medical_extra
from datagen.medical.planes import directions_of, plane_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NAMESPACE = uuid.UUID("6d5a6c0e-6c0b-5f0c-9d57-3b1f6a2f6f10")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Modality => its class of images. Both want values of 16 bits and a place in the patient.
_STORAGE = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
_EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
_DERIVATION = "synthetic image: drawn by a generative model or a program, of no patient"
_NO_PATIENT = "synthetic, there is no patient"
_EMPTY = """
    PatientName PatientID PatientBirthDate PatientSex
    StudyDate StudyTime StudyID AccessionNumber ReferringPhysicianName
"""
_MAX_LO = 64


@dataclass(frozen=True)
class DicomOrigin:
    """The version that images are of. digest: of its data. title: its name and number. software:
    the release that made it."""

    digest: str
    title: str
    software: str

    def uid(self, key: str, role: str) -> str:
        """Equal for equal arguments. key: of the sample. role: what the UID is of."""
        return f"2.25.{uuid.uuid5(_NAMESPACE, f'{self.digest}/{key}/{role}').int}"


def image_object(pixels: Pixels, labels: Labels, *, key: str, origin: DicomOrigin) -> Dataset:
    """pixels: (H, W, 1 or 3), of 16 bits grey alone: BitsStored is then 16. A study of its
    own for each sample: pictures of a version are no volume, and viewers stack what lies in one
    series.

    CT Image or MR Image where the class's attribute `modality` says so, the picture is grey and its
    spacing known; Secondary Capture otherwise. Raises InputError without the extra `medical`.
    """
    with medical_extra("writing DICOM"):
        from pydicom.dataset import Dataset
    modality = str(labels.attributes.get("modality", "")).upper()
    storage = _SECONDARY_CAPTURE
    if pixels.shape[2] == 1 and labels.spacing_mm is not None:
        storage = _STORAGE.get(modality, storage)
    made = Dataset()
    made.file_meta = _file_meta(storage, origin.uid(key, "image"))
    made.SOPClassUID = storage
    made.SOPInstanceUID = origin.uid(key, "image")
    made.StudyInstanceUID = origin.uid(key, "study")
    made.SeriesInstanceUID = origin.uid(key, "series")
    made.Modality = modality if modality in MODALITIES else "OT"
    made.SeriesNumber = made.InstanceNumber = 1
    made.Laterality = None
    made.StudyDescription = origin.title[:_MAX_LO]
    made.SeriesDescription = labels.class_name[:_MAX_LO]
    _state_no_patient(made)
    _state_software(made, origin)
    made.ImageType = ["DERIVED", "SECONDARY"]
    made.DerivationDescription = _DERIVATION
    made.BurnedInAnnotation = "NO"
    bits = 8 * pixels.dtype.itemsize if storage == _SECONDARY_CAPTURE else 16
    _add_pixels(made, pixels, bits=bits)
    if labels.spacing_mm is not None:
        made.PixelSpacing = [_decimal(each) for each in labels.spacing_mm]
    if storage == _SECONDARY_CAPTURE:
        made.ConversionType = "SYN"
        made.PatientOrientation = None
    else:
        _add_place(made, labels, origin.uid(key, "frame of reference"))
        if made.Modality == "CT":
            _add_ct(made, labels, brightest=np.iinfo(pixels.dtype).max)
        else:
            _add_mr(made)
    return made


def file_bytes(made: Dataset) -> bytes:
    """A file of DICOM part 10."""
    target = io.BytesIO()
    made.save_as(target, enforce_file_format=True)
    return target.getvalue()


def state_origin(made: Dataset, origin: DicomOrigin) -> None:
    """What every object of ours says, also those that a library began: no patient, no clock."""
    made.file_meta = _file_meta(made.SOPClassUID, made.SOPInstanceUID)
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in made:
            delattr(made, keyword)
    _state_no_patient(made)
    _state_software(made, origin)


def _file_meta(storage: str, uid: str) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(storage)
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE_ENDIAN)
    # Ours, not the library's: its release would change the bytes.
    meta.ImplementationClassUID = UID(f"2.25.{_NAMESPACE.int}")
    meta.ImplementationVersionName = "DATAGEN"
    return meta


def _state_no_patient(made: Dataset) -> None:
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _EMPTY.split():
        setattr(made, keyword, None)
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = _NO_PATIENT
    made.SyntheticData = "YES"


def _state_software(made: Dataset, origin: DicomOrigin) -> None:
    made.Manufacturer = made.ManufacturerModelName = "datagen"
    made.SoftwareVersions = origin.software[:_MAX_LO]


def _add_pixels(made: Dataset, pixels: Pixels, *, bits: int) -> None:
    made.Rows, made.Columns, made.SamplesPerPixel = pixels.shape
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = bits - 1
    made.PixelRepresentation = 0
    if pixels.shape[2] == 3:
        made.PhotometricInterpretation = "RGB"
        made.PlanarConfiguration = 0
    else:
        made.PhotometricInterpretation = "MONOCHROME2"
        brightest = np.iinfo(pixels.dtype).max
        made.WindowCenter, made.WindowWidth = (brightest + 1) // 2, brightest + 1
    content = pixels.astype(np.dtype(f"<u{bits // 8}")).tobytes()
    made.add_new("PixelData", "OW" if bits == 16 else "OB", content + bytes(len(content) % 2))


def _add_place(made: Dataset, labels: Labels, frame_of_reference: str) -> None:
    made.FrameOfReferenceUID = frame_of_reference
    made.PositionReferenceIndicator = None
    right, down = directions_of(plane_of(labels.attributes))
    made.ImageOrientationPatient = [*right, *down]
    made.ImagePositionPatient = [0, 0, 0]
    made.SliceThickness = None
    made.PatientPosition = None


def _add_mr(made: Dataset) -> None:
    """Of a scanner's settings none is known: research mode, and no variant."""
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.ScanningSequence, made.SequenceVariant = "RM", "NONE"
    made.ScanOptions = made.MRAcquisitionType = None
    made.RepetitionTime = made.EchoTime = made.EchoTrainLength = None


def _add_ct(made: Dataset, labels: Labels, *, brightest: int) -> None:
    """Hounsfield units where the class's attributes window_center and window_width say of which of
    them black and white were made; unspecified ones otherwise."""
    made.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    made.AcquisitionNumber = made.KVP = None
    window = [labels.attributes.get(name) for name in ("window_center", "window_width")]
    center, width = (float(each) if isinstance(each, (int, float)) else 0.0 for each in window)
    if width > 1:
        made.RescaleSlope = _decimal((width - 1) / brightest)
        made.RescaleIntercept = _decimal(center - 0.5 - (width - 1) / 2)
        made.RescaleType = "HU"
        made.WindowCenter, made.WindowWidth = _decimal(center), _decimal(width)
    else:
        made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, 0, "US"


def _decimal(value: float) -> str:
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))
