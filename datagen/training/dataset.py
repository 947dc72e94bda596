"""Real images in: one in-memory array of HWC uint8 and class ids. Called by training/session.py."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.image_files import read_idx, read_picture
from datagen.training.model_recipe import DataSource

_MIN_SIDE_PX, _MAX_SIDE_PX = 8, 1024
_MAX_BYTES = 16 << 30
_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class RealImages:
    """images: (N, H, W, C) uint8. class_ids: (N,) int64."""

    images: NDArray[np.uint8]
    class_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.int64]) -> RealImages:
        return RealImages(self.images[rows], self.class_ids[rows])

    def digest(self) -> str:
        """sha256 over pixels and classes, in order."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.class_ids).data)
        return digest.hexdigest()


def load_real_images(source: DataSource, *, part: str = "train") -> RealImages:
    """Raises InputError if a file is missing, broken, or of an unexpected shape."""
    real = LOADERS[source.format](source, part)
    num_per_class = np.bincount(real.class_ids, minlength=len(source.class_names))
    if len(num_per_class) > len(source.class_names):
        raise InputError(
            f"data {source.path}: labels up to {len(num_per_class) - 1}; expected "
            f"{len(source.class_names)} classes: list every label's name in data.class_names"
        )
    if not num_per_class.all():
        missing = source.class_names[int(np.argmin(num_per_class))]
        raise InputError(
            f"data {source.path}: no image of class {missing!r}; expected some of every class: "
            "take it out of data.class_names, or add images"
        )
    height, width, channels = real.images.shape[1:]
    sides_fit = all(_MIN_SIDE_PX <= side <= _MAX_SIDE_PX for side in (height, width))
    if not sides_fit or channels not in (1, 3):
        raise InputError(
            f"data {source.path}: images of {height} x {width} pixels, {channels} channels; "
            f"expected sides of {_MIN_SIDE_PX} to {_MAX_SIDE_PX}, grey or RGB: resize them"
        )
    return real


def split_held_out(real: RealImages, *, held_out: int, seed: int) -> tuple[RealImages, RealImages]:
    """Returns (train, held_out): a seeded shuffle, the last `held_out` images kept apart."""
    if held_out >= len(real):
        raise InputError(
            f"data.held_out: {held_out} of {len(real)} images leaves none to train on; lower it"
        )
    order = np.random.default_rng(seed).permutation(len(real))
    cut = len(real) - held_out
    return real.take(np.sort(order[:cut])), real.take(np.sort(order[cut:]))


def _load_idx(source: DataSource, part: str) -> RealImages:
    prefix = {"train": "train", "test": "t10k"}[part]
    images = _read_idx(source.path / f"{prefix}-images-idx3-ubyte.gz", ndim=3)
    labels = _read_idx(source.path / f"{prefix}-labels-idx1-ubyte.gz", ndim=1)
    if len(images) != len(labels) or not len(images):
        raise InputError(f"data {source.path}: {len(images)} images and {len(labels)} labels")
    return RealImages(images[..., None], labels.astype(np.int64))


def _read_idx(path: Path, *, ndim: Literal[1, 3]) -> NDArray[np.uint8]:
    if not path.exists():
        raise InputError(
            f"data file {path} does not exist; install the data (Debian: "
            "`apt-get install dataset-fashion-mnist`) or name its folder with --data DIR"
        )
    return read_idx(path, ndim=ndim, max_bytes=_MAX_BYTES)


def _load_imagefolder(source: DataSource, part: str) -> RealImages:
    root = source.path / part if (source.path / part).is_dir() else source.path
    arrays, class_ids = [], []
    for class_id, class_name in enumerate(source.class_names):
        folder = root / class_name
        files = sorted(p for p in folder.glob("*") if p.suffix.lower() in _SUFFIXES)
        if not files:
            raise InputError(
                f"data {folder}: no .png or .jpg image of this class; expected one folder a class"
            )
        arrays += [_read_image(path) for path in files]
        class_ids += [class_id] * len(files)
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise InputError(
            f"data {root}: images of different shapes, such as {sorted(shapes)[:3]}; resize them"
        )
    # Mixed, so that any leading part of the images holds every class.
    order = np.random.default_rng(0).permutation(len(arrays))
    real = RealImages(np.stack(arrays), np.array(class_ids, dtype=np.int64))
    return real.take(order)


def _read_image(path: Path) -> NDArray[np.uint8]:
    """Returns (H, W, C) uint8, C 1 for grey files and 3 for all others."""
    return read_picture(
        path, formats=("PNG", "JPEG"), name=str(path), max_side_px=_MAX_SIDE_PX
    ).pixels


LOADERS: dict[str, Callable[[DataSource, str], RealImages]] = {
    "idx": _load_idx,
    "imagefolder": _load_imagefolder,
}
