"""What the queries give back: frozen rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

RUNNING, PUBLISHED, FAILED = "RUNNING", "PUBLISHED", "FAILED"
PENDING, LEASED, DONE, QUARANTINED = "PENDING", "LEASED", "DONE", "QUARANTINED"
GENERATE, JUDGE, PACK, FINISH = "generate", "judge", "pack", "finish"


@dataclass(frozen=True)
class Job:
    id: int
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
    created_at: float
    finished_at: float | None


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
    ordinal: int
    attempt: int
    object_key: str
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
