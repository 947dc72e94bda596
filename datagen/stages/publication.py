"""The end of a job, once it can only be published: the manifest is put, the version recorded.

All that this takes was kept with the job when it became PUBLISHING: no model, no recipe and no
fingerprint is needed any more, so that any worker, of any release, ends it with the same bytes.
Called by finish, and by the engine where a finisher died in between.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import NewObject, Unit
from datagen.catalog.versions import commit_published
from datagen.errors import (
    LeaseLostError,
    ObjectExistsError,
    RetryableError,
    StoreError,
)
from datagen.failpoints import failpoint
from datagen.manifest import Manifest
from datagen.store import Store
from datagen.versions import MANIFEST, TOMBSTONE


@dataclass(frozen=True)
class Publication:
    """prefix: of the version in the store. stored: index and documents. size_bytes: of them and the
    shards."""

    prefix: str
    manifest: str
    stored: Sequence[NewObject]
    size_bytes: int
    seconds: float

    def to_json(self) -> str:
        return json.dumps(self.__dict__)

    @classmethod
    def from_json(cls, text: str) -> Publication:
        content = json.loads(text)
        stored = [NewObject(*each) for each in content.pop("stored")]
        return cls(stored=stored, **content)


def publish(catalog: Catalog, store: Store, unit: Unit, publication: Publication) -> None:
    """Raises LeaseLostError, or RetryableError whatever else is wrong: the manifest may be there,
    its reply lost, and a job that has a manifest must not fail."""
    data = publication.manifest.encode()
    manifest = Manifest.from_bytes(data)
    failpoint("finish.before_manifest")
    try:
        _put_manifest(store, publication.prefix, data)
        failpoint("finish.before_commit")
        commit_published(
            catalog,
            unit,
            digest=manifest.digest,
            manifest_sha256=hashlib.sha256(data).hexdigest(),
            num_samples=manifest.num_samples,
            size_bytes=publication.size_bytes + len(data),
            stored=publication.stored,
            seconds=publication.seconds,
        )
    except (LeaseLostError, RetryableError):
        raise
    except Exception as error:
        raise RetryableError(f"{error}; publishing is tried until it succeeds") from error
    failpoint("finish.after_commit")
    _collect_orphans(store, publication.prefix, manifest)


def _put_manifest(store: Store, prefix: str, data: bytes) -> None:
    try:
        store.put_new(prefix + MANIFEST, data)
    except ObjectExistsError:
        raise StoreError(
            f"{store.url(prefix + MANIFEST)} exists with other content: another catalog uses this "
            "store, or the object was changed; use one catalog with one store, and remove it"
        ) from None


def _collect_orphans(store: Store, prefix: str, manifest: Manifest) -> None:
    """Objects of tries whose commit was lost."""
    named = {MANIFEST, TOMBSTONE} | {
        entry.path for entry in (*manifest.shards, *manifest.index, *manifest.documents)
    }
    for info in store.list(prefix):
        path = info.key.removeprefix(prefix)
        if path not in named and not path.startswith("attachments/"):
            store.delete(info.key)
