"""A stored sample and its record: checked, and brought to the form of the catalog's row.

Called by verify, which compares the two.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from datagen.catalog.rows import SampleRow
from datagen.errors import InputError
from datagen.formats.shard import BLOCK_BYTES, ShardMember, iterate_shard
from datagen.images import decode_label_map, decode_png
from datagen.manifest import Manifest, ObjectEntry
from datagen.recipe import canonical_json

_HASH_BYTES = 8


@dataclass(frozen=True)
class Finding:
    """problem: missing or changed. kind: object, image, record, row (of the catalog), total or
    attachment.

    name: an object's path within the version, a sample's key, or what was counted.
    """

    problem: str
    kind: str
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class CheckedSample:
    """What is kept of a sample until its shard is known to be sound."""

    class_name: str
    ordinal: int
    split: str
    image_sha256: str
    attributes: Mapping[str, Any]
    labels: Mapping[str, Any]
    row_hash: bytes


@dataclass(frozen=True)
class ShardChecker:
    """The samples of one shard against the manifest and against themselves."""

    manifest: Manifest
    entry: ObjectEntry
    position: int

    def check(
        self, stream: BinaryIO, samples: list[CheckedSample], findings: list[Finding]
    ) -> None:
        """Appends to both lists. Raises VerifyError if the tar itself is damaged."""
        offset = BLOCK_BYTES
        for member in iterate_shard(stream):
            try:
                record = json.loads(member.json)
                findings += self._faults(member, record)
                samples.append(_sample_of(record, self.position, offset, len(member.png)))
            except (ValueError, KeyError, TypeError) as error:
                detail = f"in {self.entry.path}: {type(error).__name__}: {error}"
                findings.append(Finding("changed", "record", member.key, detail))
            offset += member.size_bytes

    def _faults(self, member: ShardMember, record: Mapping[str, Any]) -> Iterator[Finding]:
        sha256 = hashlib.sha256(member.png).hexdigest()
        if sha256 != record["image_sha256"]:
            detail = f"in {self.entry.path}: sha256 {sha256}, its record says otherwise"
            yield Finding("changed", "image", member.key, detail)
        try:
            pixels = decode_png(member.png)
            height, width, channels = pixels.shape
            bits = 8 * pixels.dtype.itemsize
            size_is_right = (height, width) == tuple(self.manifest.image_size)
            channels_are_right = channels == (self.manifest.channels or channels)
            if not size_is_right or not channels_are_right or bits != self.manifest.bits:
                detail = f"in {self.entry.path}: {width} x {height} pixels, {channels} channels"
                detail += "" if bits == self.manifest.bits else f", {bits} bits"
                yield Finding("changed", "image", member.key, detail)
        except InputError as error:
            yield Finding("changed", "image", member.key, f"in {self.entry.path}: {error}")
        yield from self._label_faults(member, record)
        expected = {
            "key": member.key,
            "split": self.entry.split,
            "model": self.manifest.model["name"],
            "model_digest": self.manifest.model["digest"],
            "recipe_digest": self.manifest.recipe_digest,
        }
        wrong = [name for name, value in expected.items() if record[name] != value]
        if record["class_name"] not in self.manifest.counts:
            wrong.append("class_name")
        elif member.key != f"{record['class_name']}-{record['ordinal']:08d}":
            wrong.append("ordinal")
        if wrong:
            detail = f"in {self.entry.path}: {', '.join(wrong)} not as the manifest says"
            yield Finding("changed", "record", member.key, detail)

    def _label_faults(self, member: ShardMember, record: Mapping[str, Any]) -> Iterator[Finding]:
        """Every label map is there, whole, and of the size of the image."""
        labels, place = record.get("labels", {}), f"in {self.entry.path}"
        for kind, data in (("mask", member.mask), ("instances", member.instances)):
            told = labels.get(f"{kind}_sha256")
            found = hashlib.sha256(data).hexdigest() if data else None
            if found != told:
                detail = f"{place}: {kind}.png has sha256 {found}, its record says {told}"
                yield Finding("changed", "labels", member.key, detail)
            elif data:
                try:
                    shape = decode_label_map(data).shape
                except InputError as error:
                    yield Finding("changed", "labels", member.key, f"{place}: {kind}.png: {error}")
                    continue
                if shape != tuple(self.manifest.image_size):
                    detail = f"{place}: {kind}.png is of {shape[1]} x {shape[0]} pixels"
                    yield Finding("changed", "labels", member.key, detail)


def _sample_of(record: Mapping[str, Any], shard: int, offset: int, size: int) -> CheckedSample:
    return CheckedSample(
        class_name=str(record["class_name"]),
        ordinal=int(record["ordinal"]),
        split=str(record["split"]),
        image_sha256=str(record["image_sha256"]),
        attributes=dict(record["attributes"]),
        labels=dict(record.get("labels", {})),
        row_hash=row_hash_of(content_of_record(record, shard, offset, size)),
    )


_SHARED = (
    *("class_name", "ordinal", "split", "attempt", "attempt_key", "seed", "augmentation_seed"),
    *("raw_sha256", "image_sha256"),
)
_JSON = ("attributes", "scores", "augmentations")


def content_of_record(record: Mapping[str, Any], shard: int, offset: int, size: int) -> list[Any]:
    """What the catalog's row of the sample holds, in one order."""
    values = (record[name] for name in (*_SHARED, *_JSON))
    return [*values, record.get("labels", {}), shard, offset, size]


def content_of_row(row: SampleRow) -> list[Any]:
    values = row._asdict()
    return [
        *(values[name] for name in _SHARED),
        *(json.loads(values[name]) for name in (*_JSON, "labels")),
        *(row.shard, row.offset, row.size),
    ]


def row_hash_of(content: list[Any]) -> bytes:
    return hashlib.blake2b(canonical_json(content), digest_size=_HASH_BYTES).digest()


def sample_key(row: SampleRow) -> str:
    return f"{row.class_name}-{row.ordinal:08d}"


class Ledger:
    """A short hash for each sample, in any order: 12 bytes a sample."""

    def __init__(self) -> None:
        self._ordinals: dict[str, array[int]] = {}
        self._hashes: dict[str, bytearray] = {}

    def add(self, class_name: str, ordinal: int, row_hash: bytes) -> None:
        self._ordinals.setdefault(class_name, array("I")).append(ordinal)
        self._hashes.setdefault(class_name, bytearray()).extend(row_hash)

    def take(self, class_name: str) -> Iterator[tuple[int, bytes]]:
        """(ordinal, hash) of one class by ordinal; the ledger gives them up."""
        ordinals = np.array(self._ordinals.pop(class_name, ()), dtype=np.uint32)
        hashes = self._hashes.pop(class_name, bytearray())
        for place in np.argsort(ordinals, kind="stable"):
            start = int(place) * _HASH_BYTES
            yield int(ordinals[place]), bytes(hashes[start : start + _HASH_BYTES])
