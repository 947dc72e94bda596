"""Label maps out, as DICOM segmentations. Called by formats/dicom.py.

Source: DICOM PS3.3 A.51 (Segmentation), C.8.20 (segments); the codes are those of PS3.16 CID 7150.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from datagen.labels import Mask
from datagen.medical.dicom_writing import DicomOrigin, state_origin
from datagen.medical.extra import medical_extra
from datagen.medical.planes import SLICE_MM

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom.dataset import Dataset
    from pydicom.sr.coding import Code

# The standard wants a date, and knows none that stands for none; a clock would change the bytes.
NO_DATE, NO_TIME = datetime.date(1970, 1, 1), datetime.time(0, 0, 0)
SCHEME = "99DATAGEN"
# Context groups in which a class's name is looked up => their category in CID 7150.
_GROUPS = {
    "CID7140": "AnatomicalStructure",  # brain structures for volumetry
    "CID7153": "AnatomicalStructure",  # central nervous system
    "CID7154": "AnatomicalStructure",  # abdomen
    "CID4": "AnatomicalStructure",  # anatomic regions
    "CID4031": "AnatomicalStructure",  # common ones
    "CID7159": "MorphologicallyAbnormalStructure",  # lesions
    "CID7166": "Tissue",
}
_SIDES = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}


def segmentation_object(
    image: Dataset, mask: Mask, names: Sequence[str], *, key: str, origin: DicomOrigin
) -> Dataset | None:
    """image: by image_object, of the same key. names: of the mask's values, the first background.
    One segment for each class that is seen; None where there is only background, since a
    segmentation has one segment or more.

    It lies where its image does; of an image without a place, pixel for pixel on it. Raises
    InputError without the extra `medical`.
    """
    with medical_extra("writing DICOM segmentations"):
        from highdicom.seg import Segmentation
    seen = [int(value) for value in np.unique(mask) if value]
    if not seen:
        return None
    numbers = np.zeros(256, np.uint8)
    numbers[seen] = np.arange(1, len(seen) + 1)
    made = Segmentation(
        source_images=[image],
        pixel_array=numbers[mask],
        segmentation_type="BINARY",
        segment_descriptions=[
            _segment(number, names[value], origin) for number, value in enumerate(seen, start=1)
        ],
        series_instance_uid=origin.uid(key, "segmentation series"),
        series_number=2,
        sop_instance_uid=origin.uid(key, "segmentation"),
        instance_number=1,
        manufacturer="datagen",
        manufacturer_model_name="datagen",
        software_versions=origin.software,
        device_serial_number="none",
        content_label="LABELS",
        content_description="label map, true by construction",
        content_date=NO_DATE,
        content_time=NO_TIME,
        series_description=image.SeriesDescription,
    )
    _correct(made, dimensions=origin.uid(key, "dimensions"))
    state_origin(made, origin)
    return made


def code_of(name: str) -> tuple[Code, Code, Code | None]:
    """Category, type and side of what a class's name says: `caudate-nucleus`, `left-kidney`. Names
    that the context groups lack have a code of our own, which is the name."""
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    words = [word for word in re.split("[-_]", name.lower()) if word]
    side = next((word for word in words if word in _SIDES), None)
    found = _known_codes().get("".join(word for word in words if word != side))
    if found is None:
        return (
            Code("LABEL", SCHEME, "Class of a label map"),
            Code(name, SCHEME, name),
            None,
        )
    group, keyword = found
    category = getattr(codes.CID7150, _GROUPS[group])
    value = None if side is None else Code(_SIDES[side][0], "SCT", _SIDES[side][1])
    return category, getattr(getattr(codes, group), keyword), value


@cache
def _known_codes() -> dict[str, tuple[str, str]]:
    """Keyword in lower case => its context group and itself; of several groups the first."""
    from pydicom.sr.codedict import codes

    found: dict[str, tuple[str, str]] = {}
    for group in _GROUPS:
        for keyword in dir(getattr(codes, group)):
            if not keyword.startswith("_") and keyword[0].isupper():
                found.setdefault(keyword.lower(), (group, keyword))
    return found


def _segment(number: int, name: str, origin: DicomOrigin) -> SegmentDescription:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.coding import Code

    category, kind, side = code_of(name)
    made = SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name="datagen",
            family=Code("SYNTHESIS", SCHEME, "Image and label map made together"),
            version=origin.software,
        ),
    )
    if side is not None:
        inner: Any = made.SegmentedPropertyTypeCodeSequence[0]
        inner.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(side)]
    return made


def _correct(made: Dataset, *, dimensions: str) -> None:
    """What highdicom takes from chance and the clock, or writes so that it cannot read it again."""
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
    made.ContentCreatorName = None
    del made.ContributingEquipmentSequence  # the library, and when it was called
    shared = made.SharedFunctionalGroupsSequence[0]
    if "FrameOfReferenceUID" in made:
        shared.PixelMeasuresSequence[0].SliceThickness = SLICE_MM
        return
    made.PatientOrientation = None
    if "PixelMeasuresSequence" in shared:
        del shared.PixelMeasuresSequence  # of use only with a place
