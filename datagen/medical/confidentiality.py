"""What survives of a DICOM file: an allowlist, stricter than the standard's profile.

Called by dicom.py on every file before anything else looks at it.
Source: DICOM PS3.15 Annex E, Basic Application Level Confidentiality Profile; the codes are
PS3.16 CID 7050.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from datagen.medical.extra import medical_extra

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

PROFILE = "113100 Basic Application Confidentiality Profile"
# Opens the note that says how; training/card.py looks for it.
STATEMENT = "identifiers of DICOM removed: "
CLEAN_PIXELS = "113101 Clean Pixel Data Option"

# Needed to show the pixels, or to place and size them. No free text, date, name, device or instance
# UID is among them, and no private attribute.
_WORDS = """
    SamplesPerPixel PhotometricInterpretation PlanarConfiguration Rows Columns NumberOfFrames
    BitsAllocated BitsStored HighBit PixelRepresentation PixelAspectRatio
    PixelData FloatPixelData DoubleFloatPixelData
    SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue PixelPaddingRangeLimit
    RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData
    GreenPaletteColorLookupTableData BluePaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData
    RescaleSlope RescaleIntercept ModalityLUTSequence LUTDescriptor LUTData
    WindowCenter WindowWidth VOILUTFunction VOILUTSequence
    PixelSpacing ImagerPixelSpacing ImageOrientationPatient ImagePositionPatient
    SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence PixelMeasuresSequence
    PlaneOrientationSequence PlanePositionSequence PixelValueTransformationSequence
    FrameVOILUTSequence
"""
ALLOWED = frozenset(_WORDS.split())
# Looked at once and dropped: scanners write free words into some of them.
JUDGED = frozenset(
    {"SOPClassUID", "Modality", "ImageType", "ConversionType", "BurnedInAnnotation"}
    | {"SyntheticData"}
)

_HEX_TO_LETTERS = str.maketrans("0123456789abcdef", "bcdfghjkmnpqrtvw")
# What folders are often called after.
_NAMING = ("PatientID", "PatientName", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID")


def cleaned(dataset: Dataset, keywords: frozenset[str] = ALLOWED) -> Dataset:
    """A new data set of these attributes alone, at every depth."""
    with medical_extra("reading DICOM"):
        from pydicom.dataset import Dataset as NewDataset
        from pydicom.sequence import Sequence
    kept = NewDataset()
    for keyword in sorted(keywords):
        if keyword not in dataset:
            continue
        element = dataset[keyword]
        if element.VR == "SQ":
            setattr(kept, keyword, Sequence([cleaned(item, keywords) for item in element.value]))
        else:
            kept.add(element)
    return kept


def tells_identifier(text: str, dataset: Dataset) -> bool:
    """Whether a text is the patient's name, a part of it, or a number of patient or study; letters
    and digits alone are compared. Identifiers of fewer than 3 of them tell nothing."""
    told = _letters(text)
    for keyword in _NAMING:
        value = str(dataset.get(keyword) or "")
        parts = value.replace("=", "^").split("^") if keyword == "PatientName" else []
        if len(told) >= 3 and told in {_letters(each) for each in (value, *parts)}:
            return True
    return False


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


def pseudonym(*identifiers: str, key: str) -> str:
    """16 letters for 64 bits, equal for equal identifiers; with no digit and no vowel, so that none
    looks like a number or a name. Patients' numbers are easily guessed, and a guess can be tried:
    give a key that nobody knows where the pseudonyms leave the house."""
    text = "\0".join(("datagen", *identifiers)).encode("utf-8", "surrogatepass")
    digest = hmac.digest(key.encode(), text, "sha256").hex()[:16]
    return digest.translate(_HEX_TO_LETTERS)
