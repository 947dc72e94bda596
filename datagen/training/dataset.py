"""Real images in: one in-memory array of HWC uint8 and class ids. Called by training/loop.py."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.errors import InputError
from datagen.training.model_recipe import DataSource

# IDX magic numbers: unsigned byte, 1 or 3 dimensions. Source: LeCun, "THE IDX FILE FORMAT".
_IDX_IMAGES, _IDX_LABELS = 0x803, 0x801


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
    num_classes = len(source.class_names)
    if len(real) == 0 or int(real.class_ids.max()) >= num_classes:
        raise InputError(
            f"data {source.path}: {len(real)} images with class ids that do not fit the "
            f"{num_classes} class_names of the recipe"
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
    images = _read_idx(source.path / f"{prefix}-images-idx3-ubyte.gz", _IDX_IMAGES, ndim=3)
    labels = _read_idx(source.path / f"{prefix}-labels-idx1-ubyte.gz", _IDX_LABELS, ndim=1)
    if len(images) != len(labels):
        raise InputError(f"data {source.path}: {len(images)} images but {len(labels)} labels")
    return RealImages(images[..., None], labels.astype(np.int64))


def _read_idx(path: Path, magic: int, *, ndim: int) -> NDArray[np.uint8]:
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"data file {path} does not exist; install the data (Debian: "
            "`apt-get install dataset-fashion-mnist`) or name its folder with --data DIR"
        ) from None
    except (OSError, EOFError) as error:
        raise InputError(f"data file {path} cannot be read: {error}") from None
    header = np.frombuffer(raw[: 4 * (1 + ndim)], dtype=">i4")
    if len(header) != 1 + ndim or header[0] != magic:
        raise InputError(f"data file {path} is not an IDX file of {ndim} dimensions")
    shape = tuple(int(n) for n in header[1:])
    body = np.frombuffer(raw, dtype=np.uint8, offset=4 * (1 + ndim))
    if body.size != int(np.prod(shape)):
        raise InputError(f"data file {path} is truncated: {body.size} bytes for shape {shape}")
    return body.reshape(shape)


def _load_imagefolder(source: DataSource, part: str) -> RealImages:
    from PIL import Image

    arrays, class_ids = [], []
    root = source.path / part if (source.path / part).is_dir() else source.path
    for class_id, class_name in enumerate(source.class_names):
        files = sorted(p for p in (root / class_name).glob("*") if p.suffix in (".png", ".jpg"))
        if not files:
            raise InputError(f"data {root / class_name}: no .png or .jpg image of this class")
        for path in files:
            try:
                with Image.open(path, formats=["PNG", "JPEG"]) as image:
                    pixels = np.asarray(
                        image if image.mode in ("L", "RGB") else image.convert("RGB")
                    )
            except (OSError, Image.DecompressionBombError) as error:
                raise InputError(f"data file {path} is not a readable image: {error}") from None
            arrays.append(pixels if pixels.ndim == 3 else pixels[..., None])
            class_ids.append(class_id)
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise InputError(f"data {root}: images of different shapes {sorted(shapes)[:4]}")
    return RealImages(np.stack(arrays), np.array(class_ids, dtype=np.int64))


LOADERS: dict[str, Callable[[DataSource, str], RealImages]] = {
    "idx": _load_idx,
    "imagefolder": _load_imagefolder,
}
