"""Reads a published version back and names everything in it that is missing or changed.

Called by `datagen verify`. Three accounts of a version must agree: the catalog's rows, the
manifest, and the stored objects. Whatever differs is a finding, and no finding ends the search.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import BinaryIO, cast

from datagen.attachments import attachments_of, check_attachment, path_of
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import Job, SampleRow, VersionRow
from datagen.catalog.samples import counts_by_split, iterate_samples, list_shards
from datagen.digest import DatasetDigest
from datagen.errors import (
    ObjectMissingError,
    RetryableError,
    StoreError,
    VerifyError,
)
from datagen.formats.shard import BLOCK_BYTES, iterate_shard
from datagen.formats.version import VersionReader
from datagen.manifest import Manifest, ObjectEntry
from datagen.records import (
    CheckedSample,
    Finding,
    Ledger,
    ShardChecker,
    content_of_record,
    content_of_row,
    row_hash_of,
    sample_key,
)
from datagen.store import Store
from datagen.versions import MANIFEST, raise_if_revoked, version_prefix

Report = Callable[[int, int], None]

_EXPECTED = b""  # stands for an ordinal that the recipe asks for


@dataclass
class Verification:
    """What was read, and what was found. num_bytes: of the sound objects."""

    name: str
    version: int
    digest: str
    num_samples: int = 0
    num_objects: int = 0
    num_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, problem: str, kind: str, name: str, detail: str) -> None:
        self.findings.append(Finding(problem, kind, name, detail))


def verify_version(
    catalog: Catalog,
    store: Store,
    row: VersionRow,
    *,
    tenant: str,
    report: Report = lambda done, total: None,
) -> Verification:
    """Reads every byte of the version. report: images read so far, of all."""
    found = Verification(row.name, row.version, row.digest)
    prefix = version_prefix(tenant, row.name, row.version)
    job = get_job(catalog, row.job_id)
    assert job is not None
    manifest = _read_manifest(catalog, store, row, job, found, prefix=prefix)
    search = _Search(store, prefix, manifest, found, shortfall=_declared_shortfall(job))
    search.read_documents()
    search.read_shards(report)
    search.compare_rows(catalog, row.job_id)
    if not search.damaged:
        search.compare_totals(row.digest)
    _read_attachments(catalog, store, row, found)
    return found


# --- the manifest ---------------------------------------------------------------------------------


def _read_manifest(
    catalog: Catalog,
    store: Store,
    row: VersionRow,
    job: Job,
    found: Verification,
    *,
    prefix: str,
) -> Manifest:
    """A manifest that is not the published one is named, and the catalog believed in its place.

    Raises RevokedError if a tombstone is there instead.
    """
    hint = "the catalog stands in for it; index and documents cannot be checked"
    known = _manifest_of_catalog(catalog, row, job, prefix=prefix)
    try:
        data = store.get(prefix + MANIFEST)
    except ObjectMissingError:
        raise_if_revoked(store, prefix)
        found.add("missing", "object", MANIFEST, hint)
        return known
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != row.manifest_sha256:
        detail = f"sha256 {sha256}, expected {row.manifest_sha256}; {hint}"
        found.add("changed", "object", MANIFEST, detail)
        return known
    found.num_objects += 1
    found.num_bytes += len(data)
    manifest = Manifest.from_bytes(data)
    if manifest.digest != row.digest:
        detail = f"{row.digest} in the catalog, {manifest.digest} in the manifest"
        found.add("changed", "row", "data set digest", detail)
    if manifest.shards != known.shards:
        found.add("changed", "row", "shards", "the catalog lists others than the manifest")
    return manifest


def _manifest_of_catalog(catalog: Catalog, row: VersionRow, job: Job, *, prefix: str) -> Manifest:
    """What the catalog knows of a manifest: all but index, documents and fingerprint."""
    recipe = json.loads(job.recipe_body)
    shards = [
        ObjectEntry(s.key.removeprefix(prefix), s.sha256, s.size_bytes, s.num_samples, s.split)
        for s in list_shards(catalog, row.job_id)
    ]
    generator = recipe["generator"]
    return Manifest(
        name=row.name,
        version=row.version,
        digest=row.digest,
        recipe_digest=row.recipe_digest,
        recipe=recipe,
        model={"name": generator["model"], "digest": generator["model_digest"]},
        image_size=tuple(recipe["image_size"]),
        channels=0,
        counts=counts_by_split(catalog, row.job_id),
        fingerprint={},
        code_version="",
        shards=shards,
        index=[],
        documents=[],
    )


def _declared_shortfall(job: Job) -> dict[str, frozenset[int]]:
    """class name -> the ordinals that the judge left empty."""
    declared: dict[str, list[int]] = json.loads(job.shortfall) if job.shortfall else {}
    return {name: frozenset(ordinals) for name, ordinals in declared.items()}


# --- the objects ----------------------------------------------------------------------------------


class _Search:
    """One verification. Holds 48 bytes a sample; images pass one by one."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        manifest: Manifest,
        found: Verification,
        *,
        shortfall: Mapping[str, frozenset[int]],
    ) -> None:
        self.missing: set[int] = set()  # positions of shards
        self.damaged: set[int] = set()
        self._store = store
        self._prefix = prefix
        self._manifest = manifest
        self._reader = VersionReader(store, prefix, manifest)
        self._found = found
        self._shortfall = shortfall
        self._digest = DatasetDigest()
        self._ledger = Ledger()
        self._counts: dict[str, dict[str, int]] = {}

    def read_documents(self) -> None:
        """Index, card, Croissant and contact sheets: size and sha256."""
        for entry in (*self._manifest.index, *self._manifest.documents):
            self._read_object(entry, lambda stream: None)

    def read_shards(self, report: Report) -> None:
        """Every sample of every sound shard; those of the others are left to compare_rows."""
        total, done = self._manifest.num_samples, 0
        for position, entry in enumerate(self._manifest.shards):
            samples: list[CheckedSample] = []
            findings: list[Finding] = []
            checker = ShardChecker(self._manifest, entry, position)
            if self._read_object(entry, lambda s: checker.check(s, samples, findings)):  # noqa: B023
                self._found.findings += findings
                self._keep(samples)
            elif self._store.size(self._prefix + entry.path) is None:
                self.missing.add(position)
            else:
                self.damaged.add(position)
            done += entry.num_samples
            report(done, total)

    def _read_object(self, entry: ObjectEntry, use: Callable[[BinaryIO], None]) -> bool:
        """Whether the object is there and as the manifest says."""
        try:
            with self._reader.open_object(entry) as stream:
                use(stream)
        except ObjectMissingError:
            detail = f"{entry.size_bytes} bytes, {entry.num_samples} images"
            self._found.add("missing", "object", entry.path, detail)
            return False
        except VerifyError as error:
            detail = str(error).removeprefix(f"{entry.path}: ")
            self._found.add("changed", "object", entry.path, detail)
            return False
        self._found.num_objects += 1
        self._found.num_bytes += entry.size_bytes
        return True

    def _keep(self, samples: list[CheckedSample]) -> None:
        self._found.num_samples += len(samples)
        for s in samples:
            self._digest.add(
                s.class_name, s.ordinal, s.image_sha256, s.attributes, s.split, s.labels
            )
            self._ledger.add(s.class_name, s.ordinal, s.row_hash)
            by_split = self._counts.setdefault(s.class_name, {})
            by_split[s.split] = by_split.get(s.split, 0) + 1

    def compare_rows(self, catalog: Catalog, job_id: int) -> None:
        """The catalog's rows against the records; in damaged shards, against the bytes."""
        for request in self._manifest.recipe["classes"]:
            name = str(request["name"])
            none = self._shortfall.get(name, frozenset())
            expected = ((o, _EXPECTED) for o in range(request["count"]) if o not in none)
            stored: Iterator[tuple[int, bytes | SampleRow]] = self._ledger.take(name)
            rows = ((row.ordinal, row) for row in iterate_samples(catalog, job_id, name))
            together = heapq.merge(expected, stored, rows, key=itemgetter(0))
            for ordinal, found in groupby(together, key=itemgetter(0)):
                sources = [each for _, each in found if each is not _EXPECTED]
                self._compare_row(f"{name}-{ordinal:08d}", sources)

    def _compare_row(self, key: str, found: list[bytes | SampleRow]) -> None:
        """found: of one sample the hash of its record, its row, or both."""
        row = found[-1] if found else None
        if not isinstance(row, SampleRow):
            self._found.add("missing", "row", key, "the catalog does not know this image")
        elif found[0] is row:
            self._found.findings += self._look_up(row)
        elif found[0] != row_hash_of(content_of_row(row)):
            detail = "the catalog's row differs from the record beside the image"
            self._found.add("changed", "row", key, detail)

    def _look_up(self, row: SampleRow) -> Iterator[Finding]:
        """One sample that was in no sound shard, by its place in the shard that the row names."""
        key = sample_key(row)
        if row.shard >= len(self._manifest.shards):
            yield Finding("changed", "row", key, f"shard {row.shard} does not exist")
            return
        entry = self._manifest.shards[row.shard]
        if row.shard in self.missing:
            yield Finding("missing", "image", key, f"with {entry.path}")
        elif row.shard in self.damaged:
            yield from self._look_into(row, entry)
        else:
            yield Finding("missing", "image", key, f"not in {entry.path}")

    def _look_into(self, row: SampleRow, entry: ObjectEntry) -> Iterator[Finding]:
        key, window = sample_key(row), _Window(self._store, self._prefix + entry.path, row.offset)
        png = window.read(row.size)
        if len(png) < row.size:
            yield Finding("missing", "image", key, f"{entry.path} ends before it")
            return
        self._found.num_samples += 1
        sha256 = hashlib.sha256(png).hexdigest()
        if sha256 != row.image_sha256:
            detail = f"in {entry.path}: sha256 {sha256}, expected {row.image_sha256}"
            yield Finding("changed", "image", key, detail)
            return
        window.position = row.offset - BLOCK_BYTES
        try:
            member = next(iterate_shard(cast(BinaryIO, window)))
            content = content_of_record(json.loads(member.json), row.shard, row.offset, row.size)
            sound = row_hash_of(content) == row_hash_of(content_of_row(row))
        except (VerifyError, ValueError, KeyError, TypeError, StopIteration):
            sound = False
        if not sound:
            yield Finding("changed", "record", key, f"in {entry.path}")

    def compare_totals(self, digest: str) -> None:
        """Counts and digest, where every sample was read."""
        if self.missing or self.damaged:
            return
        for class_name in {**self._manifest.counts, **self._counts}:
            expected = self._manifest.counts.get(class_name, {})
            counted = self._counts.get(class_name, {})
            for split in {**expected, **counted}:
                if counted.get(split, 0) != expected.get(split, 0):
                    detail = f"{counted.get(split, 0)} images, expected {expected.get(split, 0)}"
                    self._found.add("changed", "total", f"{class_name}/{split}", detail)
        computed = self._digest.hexdigest()
        if computed != digest:
            detail = f"{computed}, expected {digest}"
            self._found.add("changed", "total", "data set digest", detail)


def _read_attachments(catalog: Catalog, store: Store, row: VersionRow, found: Verification) -> None:
    """Damage to one is none of the data: it can be made again."""
    for attachment in attachments_of(catalog, row):
        try:
            check_attachment(store, attachment)
        except ObjectMissingError:
            detail = f"{attachment.size_bytes} bytes, {attachment.kind}"
            found.add("missing", "attachment", path_of(attachment), detail)
        except VerifyError as error:
            found.add("changed", "attachment", path_of(attachment), str(error))
        else:
            found.num_objects += 1
            found.num_bytes += attachment.size_bytes


class _Window:
    """Reads an object forwards from any place; past its end there is nothing."""

    def __init__(self, store: Store, key: str, position: int) -> None:
        self.position = position
        self._store = store
        self._key = key

    def read(self, length: int) -> bytes:
        try:
            data = self._store.get_range(self._key, self.position, length)
        except StoreError as error:
            if isinstance(error, RetryableError):
                raise
            return b""
        self.position += length
        return data
