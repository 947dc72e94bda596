"""The digest of a data set: one leaf per sample, whatever the order they come in.

Called by finish, which publishes it, and by verify, which computes it again from what is stored.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np

from datagen.errors import VerifyError
from datagen.labels import Labels
from datagen.recipe import canonical_json

_LEAF_BYTES = 32


class DatasetDigest:
    """sha256 over the samples' leaves, sorted by class name and ordinal.

    Holds 36 bytes a sample, and 32 more a sample while hexdigest runs on what came out of order.
    """

    def __init__(self) -> None:
        self._ordinals: dict[str, array[int]] = {}
        self._leaves: dict[str, bytearray] = {}

    def add(
        self,
        class_name: str,
        ordinal: int,
        image_sha256: str,
        attributes: Mapping[str, Any],
        split: str,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        """labels: see sample_leaf."""
        if class_name not in self._leaves:
            self._ordinals[class_name] = array("I")
            self._leaves[class_name] = bytearray()
        self._ordinals[class_name].append(ordinal)
        self._leaves[class_name] += sample_leaf(
            class_name, ordinal, image_sha256, attributes, split, labels
        )

    def hexdigest(self) -> str:
        """Raises VerifyError if a sample was added twice."""
        total = hashlib.sha256()
        for class_name in sorted(self._leaves):
            total.update(self._sorted_leaves(class_name))
        return total.hexdigest()

    def _sorted_leaves(self, class_name: str) -> bytes | bytearray:
        ordinals = np.frombuffer(self._ordinals[class_name], dtype=np.uint32)
        rising = ordinals[1:] > ordinals[:-1]
        if rising.all():
            return self._leaves[class_name]
        order = np.argsort(ordinals, kind="stable")
        repeated = np.flatnonzero(np.diff(ordinals[order]) == 0)
        if len(repeated):
            raise VerifyError(
                f"sample {class_name}-{ordinals[order[repeated[0]]]:08d} exists twice; "
                "expected each ordinal of a class once"
            )
        leaves = np.frombuffer(self._leaves[class_name], dtype=np.uint8)
        return leaves.reshape(-1, _LEAF_BYTES)[order].tobytes()


def sample_leaf(
    class_name: str,
    ordinal: int,
    image_sha256: str,
    attributes: Mapping[str, Any],
    split: str,
    labels: Mapping[str, Any] | None = None,
) -> bytes:
    """The 32 bytes that stand for one sample: its place, its image, its labels, its split.

    labels: what it has beside its class, as its record holds it.

    sha256 over canonical_json([class_name, ordinal, image_sha256, labels, split]) and a newline;
    only the labels need a JSON encoder, since all the names are plain.
    """
    known = Labels(class_name, attributes).to_json() | dict(labels or {})
    text = canonical_json(known).decode()
    content = f'["{class_name}",{ordinal},"{image_sha256}",{text},"{split}"]\n'
    return hashlib.sha256(content.encode()).digest()
