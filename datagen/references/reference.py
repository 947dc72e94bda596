"""A fitted reference, and its file: safetensors with the figures as JSON in its header.

Called by resolve.py, filters (through what resolve hands them), registry.py and the command line.
Cheap to import and to load: torch only comes with the first look at an image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from datagen.errors import ModelError
from datagen.references.classifier import Looks, ReferenceClassifier
from datagen.references.duplicates import DuplicateDescriptor
from datagen.references.facts import ReferenceFacts
from datagen.references.outliers import OutlierStatistics
from datagen.safetensors_header import REFERENCE_TYPES, read_safetensors

if TYPE_CHECKING:
    from datagen.references.copy_detector import CopyDetector

MAX_BYTES = 1 << 28
_KEY = "reference"
_REMEDY = "fit the reference again"
_CLASSIFIER, _OUTLIERS = "classifier.", "outliers."
_DUPLICATES, _COPIES = "duplicates.", "copies."


@dataclass(frozen=True)
class Reference:
    """What a model knows of its real images. digest: sha256 of its file. tensors: by name, as
    stored: classifier.*, outliers.*, duplicates.*, copies.*."""

    digest: str
    facts: ReferenceFacts
    tensors: Mapping[str, NDArray[Any]]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.facts.class_names

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (*self.facts.image_size, self.facts.channels)

    def checked(self) -> Reference:
        """Raises ModelError if a part is not sound. The copy search is checked, and not built: that
        takes seconds."""
        from datagen.references.copy_codes import checked_tensors

        _ = self.classifier.network, self.outliers, self.duplicates
        checked_tensors(self._part(_COPIES))
        return self

    @cached_property
    def classifier(self) -> ReferenceClassifier:
        weights = self._part(_CLASSIFIER)
        return ReferenceClassifier(weights, self.image_shape, len(self.class_names))

    @cached_property
    def outliers(self) -> OutlierStatistics:
        parts = self._part(_OUTLIERS, {each.name for each in fields(OutlierStatistics)})
        return OutlierStatistics(**parts).checked(num_classes=len(self.class_names))

    @cached_property
    def duplicates(self) -> DuplicateDescriptor:
        parts = self._part(_DUPLICATES, {each.name for each in fields(DuplicateDescriptor)})
        return DuplicateDescriptor(**parts).checked()

    @cached_property
    def copies(self) -> CopyDetector:
        """Raises ModelError if its state is not sound."""
        from datagen.references.copy_detector import CopyDetector

        return CopyDetector.from_state(self._part(_COPIES))

    @cached_property
    def _last_look(self) -> dict[str, Looks]:
        return {}

    def look(self, images: NDArray[np.uint8]) -> Looks:
        """images: (N, H, W, C) uint8. The last batch is remembered: several filters look at it."""
        key = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
        if key not in self._last_look:
            found = self.classifier.look(images)
            self._last_look.clear()
            self._last_look[key] = found
        return self._last_look[key]

    def distances(
        self, images: NDArray[np.uint8], class_ids: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """(N,): from the real images of its class, the limit of real images being 1."""
        return self.outliers.distances(images, self.look(images).features, class_ids)

    def class_ids(self, class_names: Sequence[str]) -> NDArray[np.int64]:
        """The classifier's id of each name."""
        known = {name: index for index, name in enumerate(self.class_names)}
        return np.array([known[name] for name in class_names], np.int64)

    def unfit_for(
        self, class_names: Sequence[str], *, image_size: Sequence[int], channels: int
    ) -> str | None:
        """Why it cannot judge such images, in words; None if it can."""
        if self.image_shape != (*image_size, channels):
            return f"is of images of {self.image_shape} (height, width, channels)"
        missing = [name for name in class_names if name not in self.class_names]
        return f"does not know class {missing[0]}" if missing else None

    def _part(self, prefix: str, expected: set[str] | None = None) -> dict[str, NDArray[Any]]:
        """Raises ModelError if its tensors are not the expected ones."""
        found = {
            name.removeprefix(prefix): array
            for name, array in self.tensors.items()
            if name.startswith(prefix)
        }
        if expected is not None and found.keys() != expected:
            raise ModelError(
                f"reference: {prefix}* of {sorted(found)[:20]}; expected {sorted(expected)}; "
                f"{_REMEDY}"
            )
        return found


def make_reference(facts: ReferenceFacts, tensors: Mapping[str, NDArray[Any]]) -> Reference:
    data = _to_bytes(facts, tensors)
    return Reference(hashlib.sha256(data).hexdigest(), facts, tensors)


def save_reference(reference: Reference, path: Path) -> None:
    """Whole or not at all; a file that is there is replaced."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "xb") as file:
            file.write(_to_bytes(reference.facts, reference.tensors))
            file.flush()
            os.fsync(file.fileno())
        load_reference(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_reference(path: Path) -> Reference:
    """Raises ModelError if the file is not a sound reference."""
    try:
        stored = read_safetensors(path, types=REFERENCE_TYPES, max_bytes=MAX_BYTES)
    except OSError as error:
        raise ModelError(f"reference {path}: cannot be read ({error.strerror})") from None
    try:
        facts = ReferenceFacts.model_validate_json(stored.metadata.get(_KEY, ""))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its figures"
        raise ModelError(f"reference {path}: {where}: {first['msg']}; {_REMEDY}") from None
    return Reference(stored.sha256, facts, stored.tensors)


def _to_bytes(facts: ReferenceFacts, tensors: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    arrays = {name: array.copy(order="C") for name, array in tensors.items()}
    return save(arrays, metadata={_KEY: facts.model_dump_json()})
