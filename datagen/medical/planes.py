"""How the slices that are written lie in the patient. Called by nifti_writing.py and
dicom_writing.py: one picture has one place in both.

Source: DICOM PS3.3 C.7.6.2.1.1 (LPS: x grows to the left, y to the back, z to the head).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.medical.nifti import Plane

Direction = tuple[float, float, float]

# Between slices where nobody knows it: each picture is a slice of its own.
SLICE_MM = 1.0
# Where pixels have no known size.
PIXEL_MM = 1.0
# Plane -> where columns and where rows grow, in LPS: as radiology shows it and the readers turn it.
_DIRECTIONS: dict[Plane, tuple[Direction, Direction]] = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}


def plane_of(attributes: Mapping[str, Any]) -> Plane:
    """By the attribute `plane` of a class; axial where it names none."""
    named = str(attributes.get("plane", "")).lower()
    return next((plane for plane in _DIRECTIONS if plane == named), "axial")


def directions_of(plane: Plane) -> tuple[Direction, Direction]:
    """Where columns and where rows grow: unit vectors in LPS."""
    return _DIRECTIONS[plane]


def affine_of(plane: Plane, spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """spacing_mm: (rows, columns). Returns (4, 4), of (column, row, slice) to millimetres in RAS+;
    the first pixel's centre is the origin."""
    right, down = (np.asarray(each, np.float64) for each in _DIRECTIONS[plane])
    lps = np.stack(
        [right * spacing_mm[1], down * spacing_mm[0], np.cross(right, down) * SLICE_MM], axis=1
    )
    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ lps
    return affine + 0.0  # no negative zeros: they would be bytes of their own
