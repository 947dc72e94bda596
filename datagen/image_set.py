"""Labelled images in memory: what evaluation compares and references are fitted to.

Built by real_images/ (folders, IDX files, tables and more) and assessment.py (published versions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """images: (N, H, W, C) uint8, C is 1 or 3. class_ids: (N,) int64 into class_names.

    names: of files or samples, unique. groups: what belongs together, such as a patient; None if
    unknown. attributes: name -> one value per image, such as {"sex": ("f", "m")}. notes: what was
    changed or left out on loading, in words.
    Of pairs, else None: masks: (N, H, W) uint8, what each pixel shows, values into mask_names, of
    which the first is the background. conditions: (N, H, W, C) uint8, the pictures that the images
    are to be made from. spacing_mm: (N, 2) float64, (rows, columns) between centres of pixels, of
    the images as they are here.
    """

    images: NDArray[np.uint8]
    class_ids: Rows
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    masks: NDArray[np.uint8] | None = None
    conditions: NDArray[np.uint8] | None = None
    mask_names: tuple[str, ...] = ()
    spacing_mm: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        num = len(self.images)
        columns = (self.names, *self.attributes.values(), self.groups or self.names)
        lengths = [len(self.class_ids), *(len(column) for column in columns)]
        assert (self.images.ndim, str(self.images.dtype)) == (4, "uint8"), self.images.shape
        assert set(lengths) == {num}, (num, lengths)
        sides = self.images.shape[:3]
        assert self.masks is None or self.masks.shape == sides, self.masks.shape
        assert self.conditions is None or self.conditions.shape[:3] == sides
        assert self.spacing_mm is None or self.spacing_mm.shape == (num, 2)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def take(self, rows: Rows | Sequence[int]) -> ImageSet:
        chosen = np.asarray(rows, dtype=np.int64)

        def pick(column: Sequence[str]) -> tuple[str, ...]:
            return tuple(column[i] for i in chosen)

        return replace(
            self,
            images=self.images[chosen],
            class_ids=self.class_ids[chosen],
            names=pick(self.names),
            groups=None if self.groups is None else pick(self.groups),
            attributes={name: pick(values) for name, values in self.attributes.items()},
            masks=None if self.masks is None else self.masks[chosen],
            conditions=None if self.conditions is None else self.conditions[chosen],
            spacing_mm=None if self.spacing_mm is None else self.spacing_mm[chosen],
        )

    def rows_of(self, class_id: int) -> Rows:
        return np.flatnonzero(self.class_ids == class_id)

    def counts(self) -> NDArray[np.int64]:
        """(num_classes,) images of each class."""
        return np.bincount(self.class_ids, minlength=self.num_classes)

    def pixel_digests(self) -> list[str]:
        """sha256 of each image's pixels."""
        images = np.ascontiguousarray(self.images)
        return [hashlib.sha256(image.data).hexdigest() for image in images]

    def digest(self) -> str:
        """sha256 over names, classes and pixels, whatever their order."""
        labels = (self.class_names[class_id] for class_id in self.class_ids)
        rows = sorted(zip(self.names, labels, self.pixel_digests(), strict=True))
        return hashlib.sha256("\n".join("\t".join(row) for row in rows).encode()).hexdigest()


def joined(a: ImageSet, b: ImageSet) -> ImageSet:
    """Both, without attributes and groups; names are told apart. The same classes and shape. Of
    pairs: what lies beside the images of both; mask_names are the same."""
    assert (a.class_names, a.image_shape) == (b.class_names, b.image_shape)
    assert a.mask_names == b.mask_names, (a.mask_names, b.mask_names)
    return ImageSet(
        images=np.concatenate([a.images, b.images]),
        class_ids=np.concatenate([a.class_ids, b.class_ids]),
        class_names=a.class_names,
        names=(*(f"a/{name}" for name in a.names), *(f"b/{name}" for name in b.names)),
        masks=_both(a.masks, b.masks),
        conditions=_both(a.conditions, b.conditions),
        mask_names=a.mask_names,
        spacing_mm=_both(a.spacing_mm, b.spacing_mm),
    )


def _both(a: NDArray[Any] | None, b: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if a is None or b is None else np.concatenate([a, b])
