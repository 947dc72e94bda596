"""Where a dataset version lies, and how it is opened. Called by finish and by every reader."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import VersionRow
from datagen.catalog.versions import get_version, list_versions
from datagen.errors import (
    InputError,
    NotFoundError,
    ObjectMissingError,
    RevokedError,
    VerifyError,
)
from datagen.formats.version import VersionReader
from datagen.manifest import Manifest
from datagen.recipe import canonical_json, suggest
from datagen.store import Store

MANIFEST = "manifest.json"
# In the place of a revoked version's objects, for those who read the store alone.
TOMBSTONE = "tombstone.json"

_VERSION = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})(?:@v?(?P<version>[1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class OpenVersion:
    """prefix: of the version's objects in the store, with its closing slash."""

    row: VersionRow
    prefix: str
    manifest: Manifest
    reader: VersionReader


def version_prefix(tenant: str, name: str, version: int) -> str:
    return f"{tenant}/datasets/{name}/{version}/"


def parse_version(text: str) -> tuple[str, int | None]:
    """NAME, or NAME@3 for its version 3. Raises InputError."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise InputError(f"data set {text!r}: expected NAME or NAME@VERSION, such as fashion@2")
    version = match["version"]
    return match["name"], int(version) if version else None


def find_version(catalog: Catalog, text: str) -> VersionRow:
    """Raises RevokedError with the digest of a revoked version, NotFoundError, naming what there
    is, for an unknown one."""
    row = find_any_version(catalog, text)
    if row.revoked_at is not None:
        raise revoked(row.name, row.version, digest=row.digest, reason=row.revoked_reason or "")
    return row


def find_any_version(catalog: Catalog, text: str) -> VersionRow:
    """Revoked or not. Raises NotFoundError, naming what there is."""
    name, version = parse_version(text)
    row = get_version(catalog, name, version)
    if row is None:
        known = [v.version for v in list_versions(catalog, name)]
        if known:
            numbers = ", ".join(str(n) for n in known)
            raise NotFoundError(f"data set {name} has no version {version}; it has {numbers}")
        names = sorted({v.name for v in list_versions(catalog)})
        hint = suggest(name, names)
        raise NotFoundError(f"data set {name!r} does not exist{hint}; `datagen ls` lists them")
    return row


def revoked(name: str, version: int, *, digest: str, reason: str) -> RevokedError:
    return RevokedError(
        f"{name}@{version} was revoked: {reason} (digest {digest}); its images are being "
        "deleted or gone, use another version"
    )


def tombstone_bytes(row: VersionRow) -> bytes:
    """What takes the place of a revoked version in the store."""
    content = {
        "name": row.name,
        "version": row.version,
        "digest": row.digest,
        "reason": row.revoked_reason,
        "revoked_at": row.revoked_at,
    }
    return canonical_json(content) + b"\n"


def open_version(catalog: Catalog, store: Store, tenant: str, text: str) -> OpenVersion:
    """Raises NotFoundError for an unknown version, RevokedError for a revoked one, VerifyError for
    a damaged manifest."""
    row = find_version(catalog, text)
    prefix = version_prefix(tenant, row.name, row.version)
    manifest = read_manifest(store, prefix, sha256=row.manifest_sha256)
    return OpenVersion(row, prefix, manifest, VersionReader(store, prefix, manifest))


def read_manifest(store: Store, prefix: str, *, sha256: str) -> Manifest:
    """sha256: as published. Raises as manifest_bytes does."""
    return Manifest.from_bytes(manifest_bytes(store, prefix, sha256=sha256))


def manifest_bytes(store: Store, prefix: str, *, sha256: str) -> bytes:
    """Raises RevokedError or NotFoundError if it is gone, VerifyError if it was changed since."""
    try:
        data = store.get(prefix + MANIFEST)
    except ObjectMissingError:
        raise_if_revoked(store, prefix)
        raise NotFoundError(
            f"{store.url(prefix + MANIFEST)} does not exist: the version was removed from the "
            "store; restore it from a backup"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise VerifyError(
            f"{store.url(prefix + MANIFEST)}: sha256 {found}, expected {sha256}: it was changed "
            "after it was published; restore it from a backup"
        )
    return data


def raise_if_revoked(store: Store, prefix: str) -> None:
    """A catalog restored from an old backup does not know; the store does."""
    try:
        content = json.loads(store.get(prefix + TOMBSTONE))
        name, version = str(content["name"]), int(content["version"])
        digest, reason = str(content["digest"]), str(content["reason"])
    except (ObjectMissingError, ValueError, KeyError, TypeError):
        return
    raise revoked(name, version, digest=digest, reason=reason) from None
