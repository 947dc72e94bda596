"""Revocation: all that descends from a source, a model or a version is refused, then deleted.

    list      plan_revocation: what would go
    block     revoke: one transaction; from then on API, commands and workers refuse
    close     close_revoked: a tombstone in the place of each manifest, for who reads the store
    erase     erase_revoked: the bytes, piece by piece; whoever dies, the next one goes on

Called by `datagen revoke`, by the API, and from time to time by a worker (erase_revoked).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from datagen.catalog.catalog import Catalog
from datagen.catalog.retention import CachedObject, forget_objects
from datagen.catalog.rows import VersionRow
from datagen.catalog.tombstones import (
    MODEL,
    SOURCE,
    VERSION,
    Descent,
    Ref,
    Tombstone,
    attempts_of_model,
    attempts_of_version,
    cancelled_jobs,
    commit_revoked,
    find_descent,
    get_tombstone,
    mark_erased,
    models_of_name,
    models_of_parent,
    models_of_source,
    spread,
    trained_on,
    unerased,
)
from datagen.catalog.versions import get_version
from datagen.errors import (
    InputError,
    ModelError,
    NotFoundError,
    ObjectExistsError,
    RetryableError,
    StoreError,
)
from datagen.generators.model_directory import describe_model, model_names
from datagen.generators.model_versions import pinned_name
from datagen.registry import model_prefix
from datagen.settings import Settings
from datagen.store import Store
from datagen.versions import (
    MANIFEST,
    TOMBSTONE,
    find_any_version,
    tombstone_bytes,
    version_prefix,
)

# How long a worker that has not heard of it may still write what was revoked.
SETTLE_S = 300.0
_CHUNK = 200
_EVERY_FAILURE_COUNTS = float("inf")


@dataclass(frozen=True)
class Revocation:
    """kind: source, model or version. subject: as it is kept: a sha256, NAME, or NAME@VERSION.

    already: it was revoked before; descent holds what is not revoked yet.
    """

    kind: str
    subject: str
    digest: str
    already: bool
    descent: Descent


@dataclass(frozen=True)
class _Subject:
    kind: str
    root: Ref
    models: list[Ref]
    version: VersionRow | None


def plan_revocation(catalog: Catalog, settings: Settings, text: str) -> Revocation:
    """What revoking would take along; nothing is changed. text: a sha256 of training data, the
    name of a model, or NAME@VERSION. Raises InputError or NotFoundError."""
    subject = _find_subject(catalog, settings, text)
    descent = find_descent(catalog, subject.models, subject.version)
    return _revocation(catalog, subject, descent)


def revoke(
    catalog: Catalog, settings: Settings, text: str, *, reason: str, actor: str
) -> Revocation:
    """As planned, at once and for ever. Revoking again takes along what came since."""
    subject = _find_subject(catalog, settings, text)
    before = get_tombstone(catalog, subject.kind, subject.root.name)
    descent = commit_revoked(
        catalog,
        subject.root,
        kind=subject.kind,
        models_found=subject.models,
        version=subject.version,
        reason=reason,
        actor=actor,
    )
    return Revocation(
        subject.kind, subject.root.name, subject.root.digest, before is not None, descent
    )


def close_revoked(catalog: Catalog, store: Store, versions: Iterable[VersionRow]) -> None:
    """The versions stop to exist for who reads the store: the tombstone first, so that there is no
    moment without an answer."""
    for version in versions:
        row = get_version(catalog.of(version.tenant), version.name, version.version)
        if row is not None and row.revoked_at is not None:
            prefix = version_prefix(row.tenant, row.name, row.version)
            with contextlib.suppress(ObjectExistsError):  # of before the catalog was restored
                store.put_new(prefix + TOMBSTONE, tombstone_bytes(row))
            store.delete(prefix + MANIFEST)


def erase_revoked(
    catalog: Catalog, store: Store, *, settle_s: float = SETTLE_S, max_objects: int = 5_000
) -> int:
    """Deletes what is left of everything revoked, at most max_objects of it. Returns how many.

    Any number of callers at once, killed at any moment, are harmless: what is left is found again.
    Raises the first StoreError after all else was tried, or RetryableError at once.
    """
    spread(catalog)
    num_deleted, refusals = 0, list[StoreError]()
    for tombstone in _each_unerased(catalog):
        if num_deleted >= max_objects:
            break
        limit = max_objects - num_deleted
        try:
            found = _erase(catalog.of(tombstone.tenant), store, tombstone, limit=limit)
        except RetryableError:
            raise
        except StoreError as error:
            refusals.append(error)
            continue
        num_deleted += found
        if found == 0:
            mark_erased(catalog, tombstone, settle_s=settle_s)
    if refusals:
        raise refusals[0]
    return num_deleted


def _each_unerased(catalog: Catalog) -> Iterator[Tombstone]:
    after_id = 0
    while found := unerased(catalog, after_id=after_id, limit=_CHUNK):
        yield from found
        after_id = found[-1].id


def erase_all(catalog: Catalog, store: Store, *, settle_s: float = 0.0) -> int:
    """Until nothing is found. settle_s: 0 where no worker can be writing, as in a home."""
    total = 0
    while num_deleted := erase_revoked(catalog, store, settle_s=settle_s):
        total += num_deleted
    return total


def find_models(catalog: Catalog, settings: Settings, name: str) -> list[Ref]:
    """Of that name: the tenant's, used or not, and the service's own."""
    return sorted({*models_of_name(catalog, name), *_models_here(settings, name=name)})


def find_source(catalog: Catalog, settings: Settings, sha256: str) -> list[Ref]:
    """The models that were trained on it: the tenant's, used or not, and the service's own."""
    return sorted({*models_of_source(catalog, sha256), *_models_here(settings, source=sha256)})


def with_descendants(catalog: Catalog, settings: Settings, found: Iterable[Ref]) -> list[Ref]:
    """The models, and those whose weights began from one of them, of whatever generation."""
    known, waiting = set[Ref](), list(found)
    while waiting:
        model = waiting.pop()
        if model not in known:
            known.add(model)
            waiting += models_of_parent(catalog, model.digest)
            waiting += _models_here(settings, parent=model.digest)
    return sorted(known)


def _find_subject(catalog: Catalog, settings: Settings, text: str) -> _Subject:
    if re.fullmatch(r"[0-9a-f]{64}", text):
        models = find_source(catalog, settings, text)
        if not models and get_tombstone(catalog, SOURCE, text) is None:
            raise NotFoundError(
                f"source {text}: no model was trained on it; `datagen models show NAME` tells a "
                "model's training data"
            )
        return _Subject(SOURCE, Ref(text, text), with_descendants(catalog, settings, models), None)
    if "@" in text:
        return _find_version_subject(catalog, settings, text)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", text):
        raise InputError(
            f"cannot revoke {text[:80]!r}: expected the sha256 of training data, the name of a "
            "model, or a version of a data set or model as NAME@VERSION"
        )
    models = find_models(catalog, settings, text)
    if not models:
        hint = ""
        if get_version(catalog, text) is not None:
            hint = f"; it is a data set: revoke its versions, such as {text}@1"
        raise NotFoundError(f"model {text!r} does not exist{hint}")
    return _Subject(MODEL, models[0], with_descendants(catalog, settings, models), None)


def _find_version_subject(catalog: Catalog, settings: Settings, text: str) -> _Subject:
    """Of a data set, else of a model."""
    try:
        row = find_any_version(catalog, text)
    except NotFoundError:
        if not (models := find_models(catalog, settings, text)):
            raise
        return _Subject(MODEL, models[0], with_descendants(catalog, settings, models), None)
    return _Subject(VERSION, Ref(f"{row.name}@{row.version}", row.digest), [], row)


def _models_here(
    settings: Settings,
    *,
    name: str | None = None,
    source: str | None = None,
    parent: str | None = None,
) -> list[Ref]:
    """Of the service's own folders: they need not have been used yet. name: of all versions, or of
    one as NAME@VERSION."""
    found = []
    for path in model_names([settings.models_dir]).values():
        if name is not None and name not in (path.name.partition("@")[0], pinned_name(path.name)):
            continue
        try:
            model = describe_model(path)
        except ModelError:
            continue  # no recipe can use it
        if source is not None and source not in trained_on(model.facts.model_dump()):
            continue
        if parent is None or model.facts.parent == parent:
            found.append(Ref(model.name, model.digest))
    return found


def _revocation(catalog: Catalog, subject: _Subject, descent: Descent) -> Revocation:
    known = get_tombstone(catalog, subject.kind, subject.root.name)
    return Revocation(
        subject.kind, subject.root.name, subject.root.digest, known is not None, descent
    )


def _erase(catalog: Catalog, store: Store, tombstone: Tombstone, *, limit: int) -> int:
    """Objects deleted; catalog: the tenant's."""
    if tombstone.kind == SOURCE:
        return 0  # its models and their versions have tombstones of their own
    if tombstone.kind == VERSION:
        name, _, number = tombstone.subject.rpartition("@")
        row = get_version(catalog, name, int(number))
        if row is None:
            return 0  # a preview that has expired
        prefix = version_prefix(tombstone.tenant, name, int(number))
        num_deleted = 0
        if [each.key for each in store.list(prefix)] != [prefix + TOMBSTONE]:
            close_revoked(catalog, store, [row])
            num_deleted = 1 + _delete_below(store, prefix, keep=prefix + TOMBSTONE, limit=limit)
        cached = attempts_of_version(catalog, row.job_id, limit=_CHUNK)
        return num_deleted + _delete_attempts(catalog, store, cached)
    num_deleted = _delete_attempts(
        catalog, store, attempts_of_model(catalog, tombstone.digest, limit=_CHUNK)
    )
    model = tombstone.subject.split(" ")[0].partition("@")[0]
    unfinished = [
        version_prefix(job.tenant, job.name, job.version)
        for job in cancelled_jobs(catalog, tombstone.digest)
    ]
    for prefix in unfinished:
        store.delete(prefix + MANIFEST)  # of one that was being published: before what it names
    for prefix in (
        f"{tombstone.tenant}/attempts/{tombstone.digest[:16]}/",  # of lost commits, too
        model_prefix(tombstone.tenant, model, tombstone.digest),
        *unfinished,
    ):
        num_deleted += _delete_below(store, prefix, keep=None, limit=limit - num_deleted)
    return num_deleted


def _delete_attempts(catalog: Catalog, store: Store, cached: list[CachedObject]) -> int:
    """Their rows are forgotten after them, as retention does. Returns objects forgotten."""
    for each in cached:
        store.delete(each.key)
    if not cached:
        return 0
    return forget_objects(catalog, cached, failed_before=_EVERY_FAILURE_COUNTS)


def _delete_below(store: Store, prefix: str, *, keep: str | None, limit: int) -> int:
    num_deleted = 0
    for found in store.list(prefix):
        if num_deleted >= limit:
            break
        if found.key != keep:
            store.delete(found.key)
            num_deleted += 1
    return num_deleted
