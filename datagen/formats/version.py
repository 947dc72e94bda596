"""Reads a published dataset version back, one sample at a time, and checks it on the way.

Called by every exporter and by `datagen verify`. What is stored is not trusted: digests come from
the manifest, and names that would become paths or labels are checked before they are used.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

import numpy as np

from datagen.errors import InputError, VerifyError
from datagen.formats.shard import ShardMember, iterate_shard
from datagen.images import decode_label_map
from datagen.labels import Keypoint, LabelledObject, Labels
from datagen.manifest import Manifest, ObjectEntry

CHUNK_BYTES = 2**20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class ObjectSource(Protocol):
    """The one call of a Store that reading needs."""

    def open(self, key: str) -> BinaryIO: ...


@dataclass(frozen=True, slots=True)
class StoredSample:
    """png: the encoded image. record: the sample's JSON, as docs/formats.md lists it. mask,
    instances: its label maps as PNG, empty where it has none."""

    key: str
    png: bytes
    record: dict[str, Any]
    mask: bytes = b""
    instances: bytes = b""

    @property
    def labels(self) -> Labels:
        """Decoded at each call. Raises VerifyError if they are not what the pack stage writes."""
        try:
            return _labels_of(self)
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise VerifyError(f"{self.key}: its labels are damaged: {error}") from None


class VersionReader:
    """Streams the samples of one version; memory does not grow with the number of samples."""

    def __init__(self, store: ObjectSource, prefix: str, manifest: Manifest) -> None:
        """prefix: of the version in the store, with its closing slash.

        Raises VerifyError if the manifest names a class or split that is no plain name.
        """
        self.manifest = manifest
        self.class_names = tuple(str(c["name"]) for c in manifest.recipe["classes"])
        # Of the values of label maps and the classes of objects, the first "background".
        self.names = manifest.label_names
        self.splits = tuple(dict.fromkeys(str(entry.split) for entry in manifest.shards))
        self._store = store
        self._prefix = prefix
        for name in (manifest.name, *self.class_names, *self.splits, *self.names):
            if not _NAME.fullmatch(name):
                raise VerifyError(f"manifest.json: name {name!r}: expected letters, digits, -, _")
        self._known_classes = frozenset(self.class_names)

    def shards(self, split: str | None = None) -> list[ObjectEntry]:
        """In the order of the manifest; of one split, if given."""
        return [e for e in self.manifest.shards if split is None or e.split == split]

    def iter_samples(self, split: str | None = None) -> Iterator[StoredSample]:
        """Raises VerifyError, naming the object, as soon as one is found changed.

        A shard's digest is known at its end: treat its samples as unproven until then.
        """
        for entry in self.shards(split):
            yield from self.iter_shard(entry)

    def iter_shard(self, entry: ObjectEntry) -> Iterator[StoredSample]:
        """Raises VerifyError as iter_samples does."""
        num_samples = 0
        with self.open_object(entry) as stream:
            for member in iterate_shard(stream):
                num_samples += 1
                yield self._sample(member, entry)
        if num_samples != entry.num_samples:
            raise VerifyError(f"{entry.path}: {num_samples} samples, expected {entry.num_samples}")

    @contextmanager
    def open_object(self, entry: ObjectEntry) -> Iterator[BinaryIO]:
        """A stream whose size and sha256 are checked when the block ends without an error."""
        with self._store.open(self._prefix + entry.path) as raw:
            digest = _Digest(raw)
            stream = io.BufferedReader(digest, CHUNK_BYTES)
            try:
                yield cast(BinaryIO, stream)
            except VerifyError as error:
                raise VerifyError(f"{entry.path}: {error}") from None
            while stream.read(CHUNK_BYTES):
                pass
        if (digest.size_bytes, digest.sha256.hexdigest()) != (entry.size_bytes, entry.sha256):
            raise VerifyError(
                f"{entry.path}: {digest.size_bytes} bytes, sha256 {digest.sha256.hexdigest()}: "
                f"expected {entry.size_bytes} bytes, sha256 {entry.sha256}; "
                "it was changed after it was published, restore it from a backup"
            )

    def _sample(self, member: ShardMember, entry: ObjectEntry) -> StoredSample:
        try:
            record = json.loads(member.json)
            place = record["key"], record["split"], record["class_name"] in self._known_classes
            typed = isinstance(record["ordinal"], int) and isinstance(record["attributes"], dict)
        except (ValueError, KeyError, TypeError):
            raise VerifyError(f"{member.key}.json is damaged") from None
        if place != (member.key, entry.split, True) or not typed:
            raise VerifyError(
                f"{member.key}.json is of key {record['key']!r}, split {record['split']!r}, "
                f"class {record['class_name']!r}: expected what its name and the manifest say"
            )
        return StoredSample(member.key, member.png, record, member.mask, member.instances)


def _labels_of(sample: StoredSample) -> Labels:
    record, given = sample.record, sample.record.get("labels", {})
    objects = None
    if "objects" in given:
        objects = tuple(
            LabelledObject(
                class_name=str(each["class_name"]),
                box_xyxy=tuple(float(value) for value in each["box_xyxy"]),  # type: ignore[arg-type]
                keypoints=tuple(Keypoint(*values) for values in each.get("keypoints", ())),
                confidence=each.get("confidence"),
            )
            for each in given["objects"]
        )
    spacing = given.get("spacing_mm")
    return Labels(
        class_name=str(record["class_name"]),
        attributes=record["attributes"],
        also=tuple(given.get("also", ())),
        caption=given.get("caption"),
        mask=decode_label_map(sample.mask).astype(np.uint8) if sample.mask else None,
        instances=(
            decode_label_map(sample.instances).astype(np.uint16) if sample.instances else None
        ),
        objects=objects,
        spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        source=given.get("source"),
    )


class _Digest(io.RawIOBase):
    """Hashes what passes through it."""

    def __init__(self, raw: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part = self._raw.read(len(buffer))
        self.sha256.update(part)
        self.size_bytes += len(part)
        buffer[: len(part)] = part
        return len(part)
