"""NIfTI-1 files out: one slice each. Called by formats/nifti.py.

Source: NIfTI-1 data format, nifti1.h.
"""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.medical.extra import medical_extra
from datagen.medical.nifti import SYNTHETIC_MARK, Plane
from datagen.medical.planes import affine_of

_RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_LEVEL = 6


def slice_bytes(
    values: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    plane: Plane,
    spacing_mm: tuple[float, float],
) -> bytes:
    """A .nii.gz: equal arguments give equal bytes.

    values: (H, W), (H, W, 1), or (H, W, 3) uint8, which become RGB24 (datatype 128). spacing_mm:
    (rows, columns). The voxels are (W, H, 1), so that read_volume and slices_of of that plane, or
    any program that takes the first axis for columns, show the same picture.
    Raises InputError without the extra `medical`.
    """
    with medical_extra("writing NIfTI"):
        import nibabel
    voxels: NDArray[Any] = values.reshape(*values.shape[:2], -1)
    if voxels.shape[2] == 3:
        voxels = np.ascontiguousarray(voxels).view(_RGB)
    image = nibabel.Nifti1Image(  # type: ignore[no-untyped-call]
        voxels.transpose(1, 0, 2), affine_of(plane, spacing_mm)
    )
    image.header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    image.header["descrip"] = SYNTHETIC_MARK
    # Both forms: some programs read one, some the other.
    image.set_qform(image.affine, code="scanner")  # type: ignore[no-untyped-call]
    image.set_sform(image.affine, code="scanner")  # type: ignore[no-untyped-call]
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", _LEVEL, packed, mtime=0) as file:
        file.write(image.to_bytes())
    return packed.getvalue()
