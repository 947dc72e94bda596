"""What is past its time is deleted: cached attempts, expired previews, leftovers of ended jobs.

Called from time to time by a worker. Everything is found again by whoever comes next: any number
of callers, killed at any moment, are harmless.
"""

from __future__ import annotations

from dataclasses import dataclass

from datagen.catalog.catalog import Catalog
from datagen.catalog.retention import (
    EndedJob,
    TenantPolicy,
    aged_objects,
    ended_jobs,
    expire_previews,
    forget_objects,
    holding,
    kept_keys,
    mark_collected,
    retention_policies,
    unused_objects,
)
from datagen.catalog.rows import CANCELLED, FAILED
from datagen.store import Store
from datagen.versions import MANIFEST, version_prefix

# How long a worker that has not heard of it may still write objects of a job that has ended.
GRACE_S = 3_600.0
PREVIEW_GRACE_S = 60.0
_CHUNK = 200


@dataclass(frozen=True)
class Collected:
    attempts: int
    previews: int
    leftovers: int


def collect(
    catalog: Catalog,
    store: Store,
    *,
    grace_s: float = GRACE_S,
    preview_grace_s: float = PREVIEW_GRACE_S,
) -> Collected:
    """Of all tenants that the catalog sees. Returns objects of the cache, previews, and objects of
    ended jobs that were deleted."""
    expire_previews(catalog, limit=_CHUNK)
    previews = ended_jobs(catalog, kind="preview", grace_s=preview_grace_s, limit=_CHUNK)
    for job in previews:
        _collect_job(catalog, store, job)
    ended = ended_jobs(catalog, kind="dataset", grace_s=grace_s, limit=_CHUNK)
    return Collected(
        attempts=sum(_age_out(catalog, store, each) for each in retention_policies(catalog)),
        previews=len(previews),
        leftovers=sum(_collect_job(catalog, store, job) for job in ended),
    )


def _age_out(catalog: Catalog, store: Store, policy: TenantPolicy) -> int:
    num_forgotten, after_id = 0, 0
    while aged := aged_objects(catalog, policy, after_id=after_id, limit=_CHUNK):
        after_id = aged[-1].id
        unused = unused_objects(catalog, aged, failed_before=policy.cutoff)
        for each in unused:
            store.delete(each.key)
        if unused:
            num_forgotten += forget_objects(catalog, unused, failed_before=policy.cutoff)
    return num_forgotten


def _collect_job(catalog: Catalog, store: Store, job: EndedJob) -> int:
    """Deletes what a cancelled job made, and of a failed one what no row names: it may be tried
    again. Returns objects deleted."""
    prefix = version_prefix(job.tenant, job.name, job.version)
    if job.state == CANCELLED:
        store.delete(prefix + MANIFEST)  # of a preview
    kept = kept_keys(catalog, job.id) if job.state == FAILED else set()
    found = [each.key for each in store.list(prefix) if each.key not in kept]
    for first in range(0, len(found), _CHUNK):
        if job.state == CANCELLED:
            _delete(store, found[first : first + _CHUNK])
            continue
        with holding(catalog, job) as is_same:
            if not is_same:
                return 0
            _delete(store, found[first : first + _CHUNK])
    mark_collected(catalog, job)
    return len(found)


def _delete(store: Store, keys: list[str]) -> None:
    for key in keys:
        store.delete(key)
