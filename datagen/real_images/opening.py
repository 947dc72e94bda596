"""What lies at a path, and who lists it. Called by load.py and training/dataset.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datagen.errors import InputError
from datagen.real_images.arrays import idx_parts, list_idx, list_npz
from datagen.real_images.dicom import dicom_parts, has_dicom, list_dicom
from datagen.real_images.folders import list_folder, part_folders
from datagen.real_images.listing import Listing
from datagen.real_images.saved_datasets import list_saved, saved_parts
from datagen.real_images.shards import list_tars, tar_parts
from datagen.real_images.tables import read_table, table_of
from datagen.real_images.volumes import has_volumes, list_volumes

Kind = Literal["idx", "imagefolder", "npz", "table", "webdataset", "huggingface", "nifti", "dicom"]


@dataclass(frozen=True)
class Source:
    """parts: such as train and test; empty if there is but one, which is listed as ""."""

    kind: Kind
    parts: tuple[str, ...]
    list: Callable[[str], Listing]

    def part(self, wanted: str | None, path: Path) -> str:
        """wanted: None for train, or for what there is. Raises InputError if it is not there."""
        if wanted is None:
            return "train" if "train" in self.parts else next(iter(self.parts), "")
        if wanted not in self.parts:
            raise InputError(
                f"data {path}: no part {wanted!r}; it has {', '.join(self.parts) or 'no parts'}"
            )
        return wanted


def open_source(path: Path, *, kind: Kind | None = None) -> Source:
    """kind: None to find it out. Raises InputError if nothing that can be read is there."""
    if not _exists(path):
        raise InputError(
            f"data {path} does not exist; name a folder with one folder of images a class"
        )
    if kind is not None:
        source = _OPENERS[kind](path)
        if source is None:
            raise InputError(f"data {path}: {_EXPECTED[kind]}")
        return source
    for opener in _OPENERS.values():
        if (source := opener(path)) is not None:
            return source
    raise InputError(
        f"data {path} is no folder, no table and no .npz file; name a folder with one folder of "
        "images a class"
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or one that no file can have
        return False


def _open_npz(path: Path) -> Source | None:
    if not (path.is_file() and path.suffix == ".npz"):
        return None
    return Source("npz", (), lambda _: list_npz(path))


def _open_idx(path: Path) -> Source | None:
    parts = idx_parts(path)
    return Source("idx", parts, lambda part: list_idx(path, part)) if parts else None


def _open_tars(path: Path) -> Source | None:
    parts = tar_parts(path)
    return Source("webdataset", parts, lambda part: list_tars(path, part)) if parts else None


def _open_table(path: Path) -> Source | None:
    file = table_of(path)
    if file is None:
        return None
    table = read_table(file)
    return Source("table", table.parts, table.list)


def _open_saved(path: Path) -> Source | None:
    folders = saved_parts(path)
    parts = tuple(part for part in folders if part)
    return Source("huggingface", parts, lambda part: list_saved(folders[part])) if folders else None


def _open_volumes(path: Path) -> Source | None:
    return Source("nifti", (), lambda _: list_volumes(path)) if has_volumes(path) else None


def _open_dicom(path: Path) -> Source | None:
    if not has_dicom(path):
        return None
    return Source("dicom", dicom_parts(path), lambda part: list_dicom(path, part))


def _open_folder(path: Path) -> Source | None:
    if not path.is_dir():
        return None
    return Source(
        "imagefolder", tuple(part_folders(path)), lambda part: list_folder(path, part or None)
    )


# Tried in this order: any folder could be one of classes.
_OPENERS: dict[Kind, Callable[[Path], Source | None]] = {
    "npz": _open_npz,
    "idx": _open_idx,
    "webdataset": _open_tars,
    "huggingface": _open_saved,
    "dicom": _open_dicom,
    "table": _open_table,
    "nifti": _open_volumes,
    "imagefolder": _open_folder,
}
_EXPECTED: dict[Kind, str] = {
    "npz": "no .npz file; name one, or leave out its format",
    "idx": "no train-images-idx3-ubyte.gz in it; install the data (Debian: `apt-get install "
    "dataset-fashion-mnist`) or name its folder with --data DIR",
    "webdataset": "no .tar file in it; name the folder of the shards, or leave out its format",
    "huggingface": "no dataset_dict.json, nor state.json beside dataset_info.json, in it; name "
    "what save_to_disk wrote, or leave out its format",
    "table": "no .csv or .parquet file, and no labels.csv or labels.parquet in it; name the table, "
    "or leave out its format",
    "nifti": "no .nii or .nii.gz file; name one, a folder of them, or one of nnU-Net, or leave out "
    "its format",
    "dicom": "no DICOM file in it; name a folder of them, or leave out its format",
    "imagefolder": "no folder; name one with a folder of images for each class",
}
