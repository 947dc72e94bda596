"""NIfTI volumes in: turned to RAS+, bounded before they are read, cut into slices of 8 bits.

Called by real_images/ and training/ for images and for label maps.
Source: NIfTI-1 and NIfTI-2 data format, nifti1.h and nifti2.h.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError, LabelError
from datagen.images import MAX_PIXELS, Image
from datagen.medical.extra import medical_extra

Plane = Literal["axial", "coronal", "sagittal"]

SUFFIXES = (".nii", ".nii.gz")
# In the field `descrip` of the headers that nifti_writing.py makes.
SYNTHETIC_MARK = b"datagen: synthetic"
MAX_VOXELS = 2**27  # 512^3: 512 MiB as float32
MAX_EXTENSION_BYTES = 16 * 2**20
# Of the smallest side of a voxel: how far the corners of two grids that are one may lie apart.
GRID_TOLERANCE = 0.1
# What scaling in float32 may leave of a whole number.
_WHOLE_TOLERANCE = 1e-3
# Below it, a grid counts as aligned with the patient's axes.
_OBLIQUE_DEGREES = 0.5

# Plane -> the RAS+ axis it is perpendicular to, those of its rows (downwards) and of its columns.
_AXES: dict[Plane, tuple[int, int, int]] = {
    "axial": (2, 1, 0),
    "coronal": (1, 2, 0),
    "sagittal": (0, 2, 1),
}
# datatype -> bits a voxel; colours (128, 2304) and complex numbers (32, 1792, 2048) are not read.
_BITS = {
    2: 8, 256: 8, 4: 16, 512: 16, 8: 32, 768: 32, 16: 32, 64: 64, 1024: 64, 1280: 64,
}  # fmt: skip


@dataclass(frozen=True)
class Volume:
    """values: (X, Y, Z) or (X, Y, Z, T) float32, scaled as the header says, in RAS+: X grows to the
    patient's right, Y to the front, Z to the head. affine: (4, 4), of voxel indices to millimetres.
    spacing_mm: along X, Y, Z. obliquity_degrees: of the grid to the patient's axes; nothing was
    interpolated."""

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    obliquity_degrees: float = 0.0

    @property
    def is_oblique(self) -> bool:
        return self.obliquity_degrees > _OBLIQUE_DEGREES


@dataclass(frozen=True)
class LabelVolume:
    """values: (X, Y, Z) uint16 in RAS+, on the grid of the volume it was read for."""

    values: NDArray[np.uint16]
    affine: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Slice:
    """values: (H, W), of the volume's type, as radiology shows it. index: along the plane's axis of
    the RAS+ grid. spacing_mm: (rows, columns). position_mm: of the index along that axis."""

    index: int
    values: NDArray[Any]
    spacing_mm: tuple[float, float]
    position_mm: float


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    is_second: bool


def is_nifti(path: Path) -> bool:
    """By its name."""
    return path.name.lower().endswith(SUFFIXES)


def stem_of(path: Path) -> str:
    """Its name without .nii or .nii.gz."""
    lower = path.name.lower()
    return path.name[: -len(next(s for s in reversed(SUFFIXES) if lower.endswith(s)))]


def is_marked_synthetic(path: Path) -> bool:
    """Whether its header says that datagen made it (nifti_writing.py). Raises InputError if it
    cannot be read."""
    head = _head_of(path)
    # `descrip` of NIfTI-1 and of NIfTI-2: 80 bytes.
    return any(head[at : at + 80].rstrip(b"\0") == SYNTHETIC_MARK for at in (148, 240))


def read_volume(path: Path) -> Volume:
    """Axes are swapped and turned to the closest canonical orientation (RAS+); an oblique grid
    stays as it was measured.

    Raises InputError if it is no NIfTI file, broken, in colours, or above MAX_VOXELS.
    """
    values, affine = _canonical(path)
    spacing = _spacing_of(affine, path)
    return Volume(values, affine, spacing, _obliquity(affine, spacing))


def read_label_volume(path: Path, *, like: Volume) -> LabelVolume:
    """Raises InputError as read_volume does; LabelError if the grid is not that of `like` or a
    value is no whole number from 0 to 65535."""
    values, affine = _canonical(path)
    if values.ndim != 3:
        raise LabelError(f"labels {path}: {values.ndim} dimensions; expected a volume of 3")
    _check_grid(path, values.shape, affine, like)
    whole = np.rint(values)
    if not np.isfinite(values).all() or np.abs(values - whole).max() > _WHOLE_TOLERANCE:
        raise LabelError(
            f"labels {path}: values that are no whole numbers; expected a label map, resampled to "
            "the nearest neighbour if at all"
        )
    low, high = float(whole.min()), float(whole.max())
    if low < 0 or high > 65535:
        raise LabelError(f"labels {path}: values from {low:g} to {high:g}; expected 0 to 65535")
    return LabelVolume(whole.astype(np.uint16), affine, _spacing_of(affine, path))


def slices_of(volume: Volume | LabelVolume, *, plane: Plane, every: int = 1) -> Iterator[Slice]:
    """From the feet, the back or the left; of a series of volumes the first. As radiology shows
    them: the patient's right on the image's left in axial and coronal slices, the front on its left
    in sagittal ones; the front above in axial ones, the head in the others."""
    normal, rows, columns = _AXES[plane]
    values = volume.values if volume.values.ndim == 3 else volume.values[..., 0]
    spacing = (volume.spacing_mm[rows], volume.spacing_mm[columns])
    for index in range(0, values.shape[normal], every):
        # Rows go to the back or the feet, columns to the left or the back: against all of RAS.
        picture = values.transpose(normal, rows, columns)[index, ::-1, ::-1]
        position = float(volume.affine[normal, normal] * index + volume.affine[normal, 3])
        yield Slice(index, np.ascontiguousarray(picture), spacing, position)


def window_of(
    volume: Volume, *, percentiles: tuple[float, float] = (0.5, 99.5)
) -> tuple[float, float]:
    """The values shown black and white: percentiles of the finite voxels of the whole volume.

    Raises InputError if there is none.
    """
    finite = volume.values[np.isfinite(volume.values)]
    if not finite.size:
        raise InputError("volume: no finite value in it; expected numbers")
    low, high = (float(value) for value in np.percentile(finite, percentiles))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    return low, high


def as_grey(values: NDArray[np.float32], window: tuple[float, float]) -> Image:
    """values: (H, W). window: the values shown as 0 and 255; what lies beyond is clipped, and what
    is no number is black. Returns (H, W, 1)."""
    low, high = window
    scale = 255.0 / (high - low) if high > low else 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        grey = np.clip((values.astype(np.float64) - low) * scale, 0.0, 255.0)
    return np.rint(np.nan_to_num(grey)).astype(np.uint8)[..., None]


# --- reading --------------------------------------------------------------------------------------


def _canonical(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    header = _checked_header(path)
    with medical_extra("reading NIfTI"):
        import nibabel
    kind = nibabel.Nifti2Image if header.is_second else nibabel.Nifti1Image
    try:
        image = kind.from_filename(path)
        if image.shape != header.shape:
            raise ValueError(f"shape {image.shape}, in its header {header.shape}")
        if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
            raise ValueError("its affine is singular")
        turned = nibabel.as_closest_canonical(image)  # type: ignore[no-untyped-call]
        values = np.asarray(turned.dataobj, dtype=np.float32)
        affine = np.asarray(turned.affine, dtype=np.float64)
    except Exception as error:  # on hostile bytes, decoders raise almost anything
        raise InputError(f"data file {path} is not a readable NIfTI file: {error}") from None
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return values, affine


def _head_of(path: Path) -> bytes:
    try:
        opened = gzip.open if path.name.lower().endswith(".gz") else open
        with opened(path, "rb") as file:
            return bytes(file.read(540))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"data file {path} cannot be read: {error}; fetch it again") from None


def _checked_header(path: Path) -> _Header:
    """Before a library sees the file: what it says of its size. Raises InputError."""
    head = _head_of(path)
    shape, datatype, bits, offset, is_second = _parsed(head, path)
    if bits != _BITS.get(datatype):
        raise InputError(
            f"data file {path}: NIfTI data type {datatype} of {bits} bits; expected real numbers "
            "of 8 to 64 bits, not colours or complex ones: convert it"
        )
    if len(shape) < 3 or any(side != 1 for side in shape[4:]):
        raise InputError(f"data file {path}: shape {shape}; expected 3 dimensions, or 4 with time")
    if min(shape, default=0) < 1 or math.prod(shape) > MAX_VOXELS:
        raise InputError(
            f"data file {path}: shape {shape}; expected 1 to {MAX_VOXELS:,} voxels: crop or "
            "resample it"
        )
    if math.prod(sorted(shape[:3])[1:]) > MAX_PIXELS:
        raise InputError(
            f"data file {path}: shape {shape}; expected slices of at most {MAX_PIXELS:,} pixels: "
            "resample it"
        )
    if not 0 <= offset <= MAX_EXTENSION_BYTES:
        raise InputError(
            f"data file {path}: {offset:g} bytes before its voxels; expected at most "
            f"{MAX_EXTENSION_BYTES}: remove its header extensions"
        )
    return _Header(shape, is_second)


def _parsed(head: bytes, path: Path) -> tuple[tuple[int, ...], int, int, float, bool]:
    """Shape, datatype, bits a voxel, offset of the voxels, and whether it is NIfTI-2."""
    for order in "<>":
        if len(head) >= 352 and struct.unpack(order + "i", head[:4])[0] == 348:
            if head[344:348] == b"n+1\0":
                dim = struct.unpack(order + "8h", head[40:56])
                datatype, bits = struct.unpack(order + "2h", head[70:74])
                (offset,) = struct.unpack(order + "f", head[108:112])
                return _shape(dim, path), datatype, bits, float(offset), False
            raise InputError(
                f"data file {path}: a header without its voxels (.hdr and .img, or Analyze); "
                "expected one .nii or .nii.gz file: convert it"
            )
        is_second = len(head) >= 540 and struct.unpack(order + "i", head[:4])[0] == 540
        if is_second and head[4:8] == b"n+2\0":
            datatype, bits = struct.unpack(order + "2h", head[12:16])
            dim = struct.unpack(order + "8q", head[16:80])
            (offset,) = struct.unpack(order + "q", head[168:176])
            return _shape(dim, path), datatype, bits, float(offset), True
    raise InputError(f"data file {path} is no NIfTI file; expected .nii or .nii.gz")


def _shape(dim: tuple[int, ...], path: Path) -> tuple[int, ...]:
    if not 1 <= dim[0] <= 7:
        raise InputError(f"data file {path}: {dim[0]} dimensions; expected 3, or 4 with time")
    return tuple(dim[1 : 1 + dim[0]])


def _spacing_of(affine: NDArray[np.float64], path: Path) -> tuple[float, float, float]:
    x, y, z = (float(side) for side in np.linalg.norm(affine[:3, :3], axis=0))
    if not all(1e-4 <= side <= 1e3 for side in (x, y, z)):
        raise InputError(
            f"data file {path}: voxels of {x:g} x {y:g} x {z:g} mm; expected sides of 0.0001 to "
            "1000 mm: correct its affine"
        )
    return x, y, z


def _obliquity(affine: NDArray[np.float64], spacing: tuple[float, float, float]) -> float:
    """The largest angle between an axis of the grid and that of the patient, in degrees."""
    cosines = np.abs(np.diag(affine)[:3]) / np.asarray(spacing)
    return float(np.degrees(np.arccos(np.clip(cosines, 0.0, 1.0)).max()))


def _check_grid(
    path: Path, shape: tuple[int, ...], affine: NDArray[np.float64], like: Volume
) -> None:
    expected = like.values.shape[:3]
    if shape != expected:
        raise LabelError(
            f"labels {path}: a grid of {shape}; expected {expected}, that of the image: resample "
            "the labels to it, by nearest neighbour"
        )
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    corners[:, :3] *= np.asarray(shape) - 1
    apart = float(np.linalg.norm(corners @ (affine - like.affine).T, axis=1).max())
    if apart > GRID_TOLERANCE * min(like.spacing_mm):
        raise LabelError(
            f"labels {path}: its grid lies {apart:.3g} mm off that of the image; expected the same "
            "affine: resample the labels to the image, by nearest neighbour"
        )
