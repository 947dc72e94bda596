"""What the queries give back: frozen rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

RUNNING, PUBLISHING, PUBLISHED = "RUNNING", "PUBLISHING", "PUBLISHED"
FAILED, CANCELLED = "FAILED", "CANCELLED"
# PUBLISHING: the manifest is being put. It can only end as PUBLISHED; nothing cancels it any more.
ACTIVE_STATES = (RUNNING, PUBLISHING)
PENDING, LEASED, DONE, QUARANTINED = "PENDING", "LEASED", "DONE", "QUARANTINED"
GENERATE, JUDGE, PACK, FINISH = "generate", "judge", "pack", "finish"


@dataclass(frozen=True)
class Job:
    """uid: the id that the API shows. *_queue: which workers may claim; see fingerprint.py."""

    id: int
    uid: str
    tenant: str
    kind: str
    priority: str
    name: str
    version: int
    recipe_digest: str
    recipe_body: str
    context_id: int
    context_digest: str
    fingerprint: str
    unit_size: int
    batch_size: int
    state: str
    error: str | None
    shortfall: str | None
    num_images: int
    generate_queue: str | None
    cpu_queue: str | None
    woken_at: float | None
    created_by: str | None
    created_at: float
    finished_at: float | None
    expires_at: float | None
    publication: str | None
    collected_at: float | None


@dataclass(frozen=True)
class Unit:
    """A claimed unit. fence: this claim's number; a commit under an older one is refused."""

    id: int
    job_id: int
    kind: str
    round: int
    position: int
    payload: str | None
    owner: str
    fence: int
    tries: int


class NewUnit(NamedTuple):
    kind: str
    round: int
    position: int
    payload: str | None


class NewObject(NamedTuple):
    """A stored object to be recorded with the unit that wrote it."""

    key: str
    kind: str
    position: int
    split: str | None
    num_samples: int
    sha256: str
    size_bytes: int


class NewAttempt(NamedTuple):
    class_name: str
    ordinal: int
    attempt: int
    position: int
    raw_sha256: str
    scores: str


class StoredAttempt(NamedTuple):
    """object_images: how many images the object holds. position: of this one."""

    ordinal: int
    attempt: int
    object_key: str
    object_images: int
    position: int
    raw_sha256: str
    scores: str


class SampleRow(NamedTuple):
    """In the order of the table's columns after job_id."""

    class_name: str
    ordinal: int
    split: str
    attempt: int
    attempt_key: str
    seed: int
    augmentation_seed: int
    raw_sha256: str
    image_sha256: str
    shard: int
    offset: int
    size: int
    attributes: str
    scores: str
    augmentations: str
    labels: str = "{}"


@dataclass(frozen=True)
class VersionRow:
    name: str
    version: int
    job_id: int
    digest: str
    manifest_sha256: str
    num_samples: int
    size_bytes: int
    seconds: float
    published_at: float
    recipe_digest: str
    tenant: str
    deprecated_at: float | None
    deprecated_reason: str | None
    revoked_at: float | None
    revoked_reason: str | None
    erased_at: float | None


@dataclass(frozen=True)
class EventRow:
    """body: JSON."""

    id: int
    type: str
    body: str
    created_at: float


@dataclass(frozen=True)
class Claimable:
    """Units of one job and kind that nobody works on. oldest_s: how long the oldest has waited
    since its job was last woken or, if never, created."""

    job_id: int
    uid: str
    tenant: str
    kind: str
    queue: str
    num_units: int
    oldest_s: float
