"""Images that come as arrays: IDX files (Fashion-MNIST, MNIST and kin) and .npz files."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.image_files import Picture, read_idx
from datagen.real_images.listing import Entry, Listing

_MAX_BYTES = 4 << 30
_IDX_PREFIXES = {"train": "train", "test": "t10k"}

# IDX files hold numbers only. sha256 of the labels -> what the numbers mean, for a set that many
# have; classes.txt in the folder, one name a line, says it for any other.
_FASHION = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle-boot"),
)
_KNOWN_LABELS: dict[str, tuple[str, ...]] = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": _FASHION,
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": _FASHION,
}


def idx_parts(root: Path) -> tuple[str, ...]:
    """Of train and test, those whose images are there."""
    return tuple(part for part in _IDX_PREFIXES if _idx_path(root, part, "images-idx3").is_file())


def list_idx(root: Path, part: str) -> Listing:
    """Raises InputError."""
    images = read_idx(_idx_path(root, part, "images-idx3"), ndim=3, max_bytes=_MAX_BYTES)
    labels = read_idx(_idx_path(root, part, "labels-idx1"), ndim=1, max_bytes=_MAX_BYTES)
    if len(images) != len(labels) or not len(images):
        raise InputError(f"data {root}: {len(images)} images and {len(labels)} labels ({part})")
    _check_sides(root, images.shape)
    names = _idx_class_names(root, labels)
    prefix = _IDX_PREFIXES[part]
    entries = [
        Entry(f"{prefix}-{row:05d}", names[label], partial(_row, images, row))
        for row, label in enumerate(labels.tolist())
    ]
    return Listing(entries, names)


def list_npz(path: Path) -> Listing:
    """images: (N, H, W), (N, H, W, 1) or (N, H, W, 3) uint8; labels: (N,) integers or names;
    optionally class_names and groups. Raises InputError."""
    arrays = _read_npz(path)
    images, labels = arrays["images"], arrays["labels"]
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"data file {path}: images of {images.dtype} {images.shape}; expected uint8 (N, H, W), "
            "(N, H, W, 1) or (N, H, W, 3), channels last"
        )
    _check_sides(path, images.shape)
    if labels.shape != (len(images),) or not len(images):
        raise InputError(f"data file {path}: {len(images)} images and labels {labels.shape}")
    names, class_of = _npz_classes(path, labels, arrays.get("class_names"))
    groups = arrays.get("groups")
    if groups is not None and groups.shape != labels.shape:
        raise InputError(f"data file {path}: groups {groups.shape}; expected one for each image")
    entries = [
        Entry(
            f"{path.stem}-{row:05d}",
            class_of[row],
            partial(_row, images, row),
            group=None if groups is None else str(groups[row]),
        )
        for row in range(len(images))
    ]
    return Listing(entries, names)


def _check_sides(path: Path, shape: tuple[int, ...]) -> None:
    if 0 in shape[1:3]:
        raise InputError(f"data {path}: images of {shape}; expected at least one pixel in each")


def _row(images: NDArray[np.uint8], row: int) -> Picture:
    image = images[row]
    return Picture(image if image.ndim == 3 else image[..., None])


def _idx_path(root: Path, part: str, kind: str) -> Path:
    return root / f"{_IDX_PREFIXES[part]}-{kind}-ubyte.gz"


def _idx_class_names(root: Path, labels: NDArray[np.uint8]) -> tuple[str, ...]:
    num = int(labels.max()) + 1
    listed = root / "classes.txt"
    if not listed.is_file():
        known = _KNOWN_LABELS.get(hashlib.sha256(labels.tobytes()).hexdigest())
        return known or tuple(str(label) for label in range(num))
    try:
        names = tuple(listed.read_text(encoding="utf-8").split("\n")[:257])
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data file {listed} cannot be read: {error}") from None
    names = tuple(name.strip() for name in names if name.strip())
    if len(names) < num or len(set(names)) != len(names):
        raise InputError(
            f"data file {listed}: {len(names)} names; expected {num} or more different ones, the "
            f"first for label 0"
        )
    return names


def _npz_classes(
    path: Path, labels: NDArray[Any], given: NDArray[Any] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Returns class names, and the class name of each image."""
    if labels.dtype.kind == "U":
        return tuple(sorted(set(labels.tolist()))), labels.tolist()
    if labels.dtype.kind not in "iu" or int(labels.min()) < 0 or int(labels.max()) > 65_535:
        raise InputError(
            f"data file {path}: labels of {labels.dtype}; expected whole numbers from 0, or names"
        )
    num = int(labels.max()) + 1
    names = tuple(map(str, range(num) if given is None else given.tolist()))
    if len(names) < num or len(set(names)) != len(names):
        raise InputError(f"data file {path}: {len(names)} class_names for labels up to {num - 1}")
    return names, [names[label] for label in labels.tolist()]


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Headers first: a small file cannot ask for all memory. Pickled objects are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = ("images", "labels", "class_names", "groups")
            present = [n for n in names if f"{n}.npy" in archive.namelist()]
            for name in present:
                _check_header(archive, name, path)
        if missing := {"images", "labels"} - set(present):
            raise InputError(f"data file {path}: no array {sorted(missing)[0]!r} in it")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in present}
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"data file {path} cannot be read as .npz: {error}") from None


def _check_header(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > _MAX_BYTES:
        raise InputError(f"data file {path}: {name} {shape} is above {_MAX_BYTES} bytes")
