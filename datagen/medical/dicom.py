"""DICOM images in: cleaned of identifiers, windowed to 8 bits, turned as radiology shows them.

Source: DICOM PS3.3 C.7.6.3 (pixels), C.11.1 (rescaling), C.11.2.1.2 (windows), C.7.6.2 (planes).
"""

from __future__ import annotations

import logging
import math
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.images import MAX_PIXELS, Image
from datagen.medical.confidentiality import (
    CLEAN_PIXELS,
    JUDGED,
    PROFILE,
    cleaned,
    pseudonym,
    tells_identifier,
)
from datagen.medical.extra import medical_extra
from datagen.medical.options import DicomOptions

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FILE_BYTES = 2**30
MAX_FRAMES = 100_000
_DEFLATED = "1.2.840.10008.1.2.1.99"
_RLE = "1.2.840.10008.1.2.5"
_PERCENTILES = (0.5, 99.5)
# Kinds of image on which scanners, cameras and people write names and dates.
_OFTEN_WRITTEN_ON = {"US", "IVUS", "OT", "SC", "ES", "XC", "GM", "SM", "DOC", "OP"}
_SCREENS = {"SCREEN SAVE", "SCREENSAVE", "SAVE", "SCREENSHOT", "DOSE_INFO", "PROT"}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ULTRASOUND = "1.2.840.10008.5.1.4.1.1.3", "1.2.840.10008.5.1.4.1.1.6"
MODALITIES = {
    *("CR", "CT", "DX", "ES", "GM", "IO", "IVUS", "MG", "MR", "NM", "OP", "OPT", "OT", "PT", "PX"),
    *("RF", "RG", "RTDOSE", "RTIMAGE", "SC", "SEG", "SM", "US", "XA", "XC"),
}


class NoPixels(InputError):
    """The file is DICOM, and holds no image."""


class NoCodec(InputError):
    """No codec for its compression is installed."""


class NamesPatient(InputError):
    """What is to be told of it openly is its patient's name or number."""


class MayShowText(InputError):
    """Its pixels may show text that nobody masked or attested."""


@dataclass(frozen=True)
class DicomFrame:
    """pixels: (H, W, C) uint8. spacing_mm: (rows, columns); None if unknown. position_mm: along the
    normal of its plane. changes: what was done to the values, in words."""

    pixels: Image
    spacing_mm: tuple[float, float] | None
    position_mm: float | None
    changes: tuple[str, ...]


@dataclass(frozen=True)
class DicomImage:
    """One file, cleaned. group: pseudonym of its patient, else study, else series. series: that of
    its series. number: its place in the series, as it says: to sort by, not to tell. is_synthetic:
    it says so itself. deidentification: profile and options applied, and who attests."""

    path: Path
    dataset: Dataset
    transfer_syntax: str
    num_frames: int
    modality: str
    group: str
    series: str
    number: int | None
    is_synthetic: bool
    deidentification: tuple[str, ...]

    def frames(self, options: DicomOptions | None = None) -> Iterator[DicomFrame]:
        """One at a time. Raises InputError if they cannot be decoded."""
        for index in range(self.num_frames):
            yield self.frame(index, options)

    def frame(self, index: int, options: DicomOptions | None = None) -> DicomFrame:
        """Raises InputError if it cannot be decoded."""
        return _frame(self, index, options or DicomOptions())

    def place(self, index: int) -> tuple[tuple[float, float] | None, float | None]:
        """spacing_mm and position_mm of a frame, as DicomFrame's, with no pixel decoded."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, spacing_mm, position_mm = _geometry(self.dataset, index)
        return spacing_mm, position_mm


def read_dicom(
    path: Path,
    options: DicomOptions | None = None,
    *,
    pseudonym_key: str = "",
    label: str = "",
) -> DicomImage:
    """pseudonym_key: the same for all files whose groups are compared; see pseudonym(). label: what
    is to be told of it openly, such as its class.

    Raises InputError if the file is broken, too large, or its patient's name or number is in the
    label; of these NoPixels, NoCodec, MayShowText, NamesPatient. Messages name the file, never a
    value in it."""
    options = options or DicomOptions()
    with medical_extra("reading DICOM"):
        import pydicom
    # Its warnings quote values of attributes.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_FILE_BYTES:
            raise InputError(f"data file {path}: above {MAX_FILE_BYTES >> 20} MiB; split it")
        _check_deflated(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whole = pydicom.dcmread(path)
            kept, judged = cleaned(whole), cleaned(whole, JUDGED)
            syntax = str(whole.file_meta.get("TransferSyntaxUID", ""))
            study, series = (_text(whole, f"{k}InstanceUID") for k in ("Study", "Series"))
            patient = _text(whole, "PatientID")
            number = _number(whole.get("InstanceNumber"))
            is_named = label != "" and tells_identifier(label, whole)
    except InputError:
        raise
    except Exception as error:  # on hostile bytes, parsers raise almost anything
        raise InputError(
            f"data file {path} is not a readable DICOM file ({type(error).__name__}); expected one "
            "of DICOM part 10"
        ) from None
    if is_named:
        raise NamesPatient(
            f"data file {path}: its class {label!a} is the name or number of its patient or study; "
            "expected one that tells nobody: rename the folder, or change the label"
        )
    num_frames = _checked_size(kept, syntax, path)
    _check_codec(syntax, path)
    _check_text(judged, options, path)
    modality = str(judged.get("Modality", ""))
    return DicomImage(
        path=path,
        dataset=kept,
        transfer_syntax=syntax,
        num_frames=num_frames,
        modality=modality if modality in MODALITIES else "OT",
        group=_group(patient, study, series, key=pseudonym_key),
        series=pseudonym(study, series, key=pseudonym_key),
        number=None if number is None else int(number),
        is_synthetic=str(judged.get("SyntheticData", "")) == "YES",
        deidentification=_deidentification(options),
    )


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _group(patient: str, study: str, series: str, *, key: str) -> str:
    """Of the first that is told. A file that tells none is in a group with all others such."""
    if patient or study:
        return pseudonym(patient, "" if patient else study, key=key)
    return pseudonym("", "", series, key=key)


def _deidentification(options: DicomOptions) -> tuple[str, ...]:
    burned_in = options.burned_in
    lines = [PROFILE]
    if burned_in.mask or burned_in.attested_by:
        lines.append(CLEAN_PIXELS)
    if burned_in.mask:
        lines.append(f"masked regions: {len(burned_in.mask)}")
    if burned_in.attested_by:
        lines.append(f"no identifying text, attested by {burned_in.attested_by}")
    return tuple(lines)


# --- checks ---------------------------------------------------------------------------------------


def _check_deflated(path: Path) -> None:
    """A few bytes that inflate to many are found before a library inflates them at once."""
    from pydicom.filereader import read_file_meta_info

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        meta = read_file_meta_info(path)
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    start = 144 + int(meta.get("FileMetaInformationGroupLength", 0))
    inflater, left = zlib.decompressobj(-zlib.MAX_WBITS), MAX_FILE_BYTES
    data = path.read_bytes()[start:]
    while data and not inflater.eof:
        left -= len(inflater.decompress(data, 1 << 20))
        data = inflater.unconsumed_tail
        if left < 0:
            raise InputError(f"data file {path}: inflates to more than {MAX_FILE_BYTES >> 20} MiB")


def _checked_size(kept: Dataset, syntax: str, path: Path) -> int:
    """Returns the number of frames."""
    names = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    data = next((name for name in names if name in kept), None)
    if data is None:
        raise NoPixels(f"data file {path}: DICOM without pixels; expected an image: take it out")
    try:
        rows, columns, bits = (int(kept[k].value) for k in ("Rows", "Columns", "BitsAllocated"))
        samples = int(kept.get("SamplesPerPixel") or 1)
        num_frames = int(kept.get("NumberOfFrames") or 1)
        encoded = len(kept[data].value or b"")
    except (KeyError, TypeError, ValueError):
        raise InputError(f"data file {path}: its pixels have no size; expected an image") from None
    sound = rows > 0 and columns > 0 and samples in (1, 3) and 0 < bits <= 64
    if not sound or rows * columns > MAX_PIXELS or not 1 <= num_frames <= MAX_FRAMES:
        raise InputError(
            f"data file {path}: {num_frames} frames of {columns} x {rows} pixels, {samples} "
            f"samples of {bits} bits; expected at most {MAX_FRAMES} of {MAX_PIXELS} pixels, 1 or 3 "
            "samples"
        )
    raw = math.ceil(rows * columns * samples * bits / 8) * num_frames
    if syntax == _RLE and encoded > 2 * raw + (num_frames << 16):
        raise InputError(f"data file {path}: more run-length data than its pixels can need")
    return num_frames


def _check_codec(syntax: str, path: Path) -> None:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    uid = UID(syntax)
    if not syntax or not uid.is_transfer_syntax or not uid.is_encapsulated:
        return
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        raise NoCodec(
            f"data file {path}: compressed as {uid.name}, which cannot be decoded; convert it to "
            "explicit VR little endian"
        ) from None
    if not decoder.is_available:
        needed = "; ".join(decoder.missing_dependencies)
        raise NoCodec(
            f"data file {path}: compressed as {uid.name}, and no codec for it is installed; "
            f"install one of: {needed}"
        )


def _other_codecs(syntax: str) -> str:
    """For a message: those installed may not know this kind, such as 12 bits."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    if not syntax or not UID(syntax).is_transfer_syntax or not UID(syntax).is_encapsulated:
        return ""
    absent = "; ".join(get_decoder(UID(syntax)).missing_dependencies)
    return f", or install another codec: {absent}" if absent else ""


def _check_text(judged: Dataset, options: DicomOptions, path: Path) -> None:
    says = str(judged.get("BurnedInAnnotation", "")).upper()
    reason = "says that text is burned in" if says == "YES" else ""
    if says not in ("YES", "NO"):
        image_type = judged.get("ImageType") or ()
        words = {image_type} if isinstance(image_type, str) else {str(w) for w in image_type}
        sop_class = str(judged.get("SOPClassUID", ""))
        suspected = (
            str(judged.get("Modality", "")) in (*_OFTEN_WRITTEN_ON, "")
            or "ConversionType" in judged
            or sop_class.startswith((_SECONDARY_CAPTURE, *_ULTRASOUND))
            or bool(words & _SCREENS)
        )
        reason = "is of a kind that often shows text, and does not deny it" if suspected else ""
    if reason and not (options.burned_in.mask or options.burned_in.attested_by):
        raise MayShowText(
            f"data file {path}: it {reason}; name the regions in burned_in.mask, or who attests "
            "that there is no identifying text in burned_in.attested_by"
        )


# --- pixels ---------------------------------------------------------------------------------------


def _frame(image: DicomImage, index: int, options: DicomOptions) -> DicomFrame:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels, changes = _shown(image, index, options)
            turn, spacing, position = _geometry(image.dataset, index)
    except InputError:
        raise
    except Exception as error:  # on hostile bytes, decoders raise almost anything
        raise InputError(
            f"data file {image.path}: its pixels cannot be decoded ({type(error).__name__}); "
            f"repair it or take it out{_other_codecs(image.transfer_syntax)}"
        ) from None
    for x1, y1, x2, y2 in options.burned_in.mask:
        pixels[y1:y2, x1:x2] = 0
    if options.burned_in.mask:
        changes.append("with masked regions")
    if turn is not None:
        is_transposed, flip_rows, flip_columns = turn
        pixels = pixels.transpose(1, 0, 2) if is_transposed else pixels
        pixels = pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        if any(turn):
            changes.append("turned as radiology shows them")
    return DicomFrame(np.ascontiguousarray(pixels), spacing, position, tuple(changes))


def _shown(image: DicomImage, index: int, options: DicomOptions) -> tuple[Image, list[str]]:
    from pydicom.dataset import FileMetaDataset
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    dataset = image.dataset
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(image.transfer_syntax)
    values = np.asarray(pixel_array(dataset, index=index))
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind == "PALETTE COLOR":
        colours = np.asarray(apply_color_lut(values, dataset))
        return _eight_bits(colours, colours.dtype.itemsize * 8), ["palette colours made RGB"]
    if values.ndim == 3:
        return _eight_bits(values, int(dataset.get("BitsStored", 8))), []
    grey, how = _windowed(values, dataset, index, options)
    if kind == "MONOCHROME1":
        return 255 - grey, [how, "of MONOCHROME1, inverted"]
    return grey, [how]


def _eight_bits(values: NDArray[Any], bits: int) -> Image:
    return (values >> max(0, bits - 8)).astype(np.uint8)


def _windowed(
    values: NDArray[Any], dataset: Dataset, index: int, options: DicomOptions
) -> tuple[Image, str]:
    """Returns (H, W, 1), and how the window was chosen."""
    from pydicom.pixels.processing import apply_modality_lut

    padding = dataset.get("PixelPaddingValue")
    is_padding = values == padding if isinstance(padding, int) else np.zeros(values.shape, bool)
    slope = _number(_grouped(dataset, index, "PixelValueTransformationSequence", "RescaleSlope"))
    shift = _number(
        _grouped(dataset, index, "PixelValueTransformationSequence", "RescaleIntercept")
    )
    if "ModalityLUTSequence" in dataset:
        scaled = np.asarray(apply_modality_lut(values, dataset), np.float64)
    else:
        scaled = values.astype(np.float64) * (1.0 if slope is None else slope) + (shift or 0.0)
    center = _number(_grouped(dataset, index, "FrameVOILUTSequence", "WindowCenter"))
    width = _number(_grouped(dataset, index, "FrameVOILUTSequence", "WindowWidth"))
    if options.window is not None:
        center, width, how = options.window.center, options.window.width, "windowed as asked for"
    else:
        how = "windowed as the file says"
    if center is not None and width is not None and width >= 1:
        shown = ((scaled - (center - 0.5)) / max(width - 1, 1e-6) + 0.5) * 255
    else:
        how = "windowed at 0.5% and 99.5% of their own values"
        counted = scaled[np.isfinite(scaled) & ~is_padding]
        low, high = np.percentile(counted, _PERCENTILES) if counted.size else (0.0, 0.0)
        if high <= low:
            low, high = (counted.min(), counted.max()) if counted.size else (0.0, 0.0)
        shown = (scaled - low) * (255 / (high - low) if high > low else 0.0)
    grey = np.rint(np.clip(np.nan_to_num(shown), 0, 255)).astype(np.uint8)
    grey[is_padding] = 255 if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else 0
    return grey[..., None], how


def _grouped(dataset: Dataset, index: int, group: str, keyword: str) -> Any:
    """Of the frame, else of all frames, else of the file."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for item in (*per_frame[index : index + 1], *shared[:1]):
        for inner in (item.get(group) or [])[:1]:
            if inner.get(keyword) is not None:
                return inner[keyword].value
    return dataset.get(keyword)


def _number(value: Any) -> float | None:
    """Of several, the first."""
    if value is not None and not isinstance(value, (str, int, float)):
        value = next(iter(value), None)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _numbers(value: Any, num: int) -> NDArray[np.float64] | None:
    try:
        found = np.asarray([float(each) for each in value], np.float64)
    except (TypeError, ValueError):
        return None
    return found if len(found) == num and np.isfinite(found).all() else None


def _geometry(
    dataset: Dataset, index: int
) -> tuple[tuple[bool, bool, bool] | None, tuple[float, float] | None, float | None]:
    """How to turn the frame (transpose, flip rows, flip columns), spacing after it, position."""
    spacing = _numbers(_grouped(dataset, index, "PixelMeasuresSequence", "PixelSpacing"), 2)
    if spacing is None:
        spacing = _numbers(dataset.get("ImagerPixelSpacing"), 2)
    if spacing is not None and not ((spacing >= 1e-4) & (spacing <= 1e3)).all():
        spacing = None
    cosines = _numbers(
        _grouped(dataset, index, "PlaneOrientationSequence", "ImageOrientationPatient"), 6
    )
    sizes = None if spacing is None else (float(spacing[0]), float(spacing[1]))
    if cosines is None:
        return None, sizes, None
    right, down = cosines[:3], cosines[3:]  # where columns and rows grow, in LPS
    axes = int(np.abs(right).argmax()), int(np.abs(down).argmax())
    normal = np.cross(right, down)
    if axes[0] == axes[1] or np.linalg.norm(normal) < 0.5:
        return None, sizes, None
    # Shown: columns to the left, in sagittal slices to the back; rows to the back or the feet.
    is_transposed = axes[0] > axes[1]
    if is_transposed:
        right, down = down, right
        sizes = None if sizes is None else (sizes[1], sizes[0])
    across, along = sorted(axes)
    flip_columns = bool(right[across] < 0)
    flip_rows = bool(down[along] < 0) if along == 1 else bool(down[along] > 0)
    place = _numbers(_grouped(dataset, index, "PlanePositionSequence", "ImagePositionPatient"), 3)
    position = None if place is None else float(place @ normal)
    return (is_transposed, flip_rows, flip_columns), sizes, position
