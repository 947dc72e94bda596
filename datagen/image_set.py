"""Labelled images in memory: what evaluation compares and references are fitted to.

Built by real_images/ (folders, IDX files, tables and more) and assessment.py (published versions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class ImageSet:
    """images: (N, H, W, C) uint8, C is 1 or 3. class_ids: (N,) int64 into class_names.

    names: of files or samples, unique. groups: what belongs together, such as a patient; None if
    unknown. attributes: name -> one value per image, such as {"sex": ("f", "m")}. notes: what was
    changed or left out on loading, in words.
    """

    images: NDArray[np.uint8]
    class_ids: Rows
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        num = len(self.images)
        columns = (self.names, *self.attributes.values(), self.groups or self.names)
        lengths = [len(self.class_ids), *(len(column) for column in columns)]
        assert (self.images.ndim, str(self.images.dtype)) == (4, "uint8"), self.images.shape
        assert set(lengths) == {num}, (num, lengths)

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
    """Both, without attributes and groups; names are told apart. The same classes and shape."""
    assert (a.class_names, a.image_shape) == (b.class_names, b.image_shape)
    return ImageSet(
        images=np.concatenate([a.images, b.images]),
        class_ids=np.concatenate([a.class_ids, b.class_ids]),
        class_names=a.class_names,
        names=(*(f"a/{name}" for name in a.names), *(f"b/{name}" for name in b.names)),
    )
