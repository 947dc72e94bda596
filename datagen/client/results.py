"""What the service answers, as frozen values. Fields that a newer service adds are ignored.

Times are ISO 8601 text, UTC. Called by calls.py, which reads answers into these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from datagen.client.problems import ServiceUnavailableError
from datagen.errors import JobError, NotFoundError, TrainingError, VerifyError

PUBLISHED, FAILED, CANCELLED = "PUBLISHED", "FAILED", "CANCELLED"
TERMINAL_STATES = (PUBLISHED, FAILED, CANCELLED)
TERMINAL_EVENTS = ("job.published", "job.failed", "job.cancelled")

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """next_cursor: None on the last page."""

    items: tuple[T, ...]
    next_cursor: str | None = None


@dataclass(frozen=True)
class Fault:
    """One fault of a recipe. field: like classes[1].count; line: of the YAML text."""

    field: str
    value: Any = None
    expected: str = ""
    message: str = ""
    line: int | None = None


@dataclass(frozen=True)
class Validation:
    """resolved: the recipe with every default filled in, and digest: of it; None if not valid."""

    valid: bool
    errors: tuple[Fault, ...] = ()
    resolved: dict[str, Any] | None = None
    digest: str | None = None


@dataclass(frozen=True)
class PlanCost:
    """device: None if nobody measured the model."""

    device: float | None
    storage_per_month: float
    currency: str


@dataclass(frozen=True)
class Plan:
    """counts: class name -> split -> images. seconds: None if nobody measured the model."""

    counts: dict[str, dict[str, int]]
    num_images: int
    units: int
    shards: int
    dataset_bytes: int
    cache_bytes: int
    seconds: float | None
    cost: PlanCost


@dataclass(frozen=True)
class ClassProgress:
    """rejected: reason -> attempts."""

    requested: int = 0
    made: int = 0
    attempts: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """stage: generate, judge, pack or finish; units of that stage."""

    stage: str | None = None
    units_done: int = 0
    units_total: int = 0
    classes: dict[str, ClassProgress] = field(default_factory=dict)
    images_per_s: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class Cost:
    """amount: of the device's time, and of a month of the bytes."""

    device_seconds: float
    bytes: int
    amount: float
    currency: str


@dataclass(frozen=True)
class Job:
    """counts and digest: once published. waiting_for: what the job needs that is not there."""

    id: str
    name: str
    version: int
    state: str
    kind: str
    priority: str
    recipe_digest: str
    created_at: str
    finished_at: str | None = None
    error: str | None = None
    progress: Progress | None = None
    counts: dict[str, dict[str, int]] | None = None
    digest: str | None = None
    cost: Cost | None = None
    fingerprint: Any = None
    waiting_for: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in TERMINAL_STATES


@dataclass(frozen=True)
class TrainingProgress:
    """best_distance: of the weights kept so far to held-out images, None before an evaluation."""

    images_seen: int = 0
    num_images: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    best_distance: float | None = None
    best_images_seen: int = 0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Training:
    """recipe: None in lists. checkpoint_images_seen: where another worker would go on from. error:
    of the last try. model_digest: once it is PUBLISHED."""

    id: str
    name: str
    state: str
    recipe_digest: str
    created_at: str
    recipe: dict[str, Any] | None = None
    progress: TrainingProgress | None = None
    checkpoint_images_seen: int | None = None
    tries: int = 0
    model_digest: str | None = None
    error: str | None = None
    waiting_for: str | None = None
    created_by: str | None = None
    started_at: str | None = None
    ended_at: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in TERMINAL_STATES


@dataclass(frozen=True)
class Event:
    """id: None for progress, which is not kept. type: such as job.published, or progress."""

    id: str | None
    type: str
    body: dict[str, Any]

    @property
    def progress(self) -> Progress | None:
        return read_value(Progress, self.body) if self.type == "progress" else None


@dataclass(frozen=True)
class PreviewImage:
    class_name: str
    ordinal: int
    png_base64: str


@dataclass(frozen=True)
class Preview:
    """The first images of each class, as many as are ready. id, state: as a job's."""

    state: str
    id: str = ""
    images: tuple[PreviewImage, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Dataset:
    """versions: how many. latest: the newest, revoked or not."""

    name: str
    versions: int
    latest: int
    published_at: str


@dataclass(frozen=True)
class Standing:
    """What a version is signed off as now. state: draft, reviewed or approved. until: a day."""

    state: str
    use: str | None = None
    by: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Version:
    """path: the address in the store. *_reason: null unless it was deprecated or revoked."""

    name: str
    version: int
    digest: str
    num_samples: int
    size_bytes: int
    seconds: float
    published_at: str
    recipe_digest: str
    manifest_sha256: str
    path: str = ""
    deprecated_at: str | None = None
    deprecated_reason: str | None = None
    revoked_at: str | None = None
    revoked_reason: str | None = None
    sign_off: Standing | None = None


@dataclass(frozen=True)
class SignOff:
    """One signature. holds: nothing newer for this use, and no end, has undone it."""

    name: str
    version: int
    state: str
    use: str
    by: str
    until: str | None
    note: str
    signed_at: str
    holds: bool


@dataclass(frozen=True)
class Attachment:
    """What was found out about a version. object: its path there. summary: the main figures."""

    kind: str
    file_name: str
    object: str
    sha256: str
    size_bytes: int
    summary: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    created_by: str | None = None
    created_at: str = ""


@dataclass(frozen=True)
class Sample:
    """One image, as `datagen show` explains it. offset, size: of the PNG in its shard."""

    key: str
    class_name: str
    ordinal: int
    split: str
    attempt: int
    attempt_key: str
    seed: int
    augmentation_seed: int
    image_sha256: str
    raw_sha256: str
    shard: str
    offset: int
    size: int
    attributes: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    augmentations: list[Any] = field(default_factory=list)
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """class_names: empty if it takes any; in lists, the first of num_classes. image_size: (height,
    width), None if it takes any. registered: by the tenant; else the service's own."""

    name: str
    digest: str
    generator: str
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    network: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    description: str = ""
    training: dict[str, Any] | None = None
    throughput: dict[str, Any] | None = None
    privacy: dict[str, Any] | None = None
    registered: bool = False
    size_bytes: int | None = None
    created_at: str | None = None
    deprecated_at: str | None = None
    deprecated_reason: str | None = None
    revoked_at: str | None = None
    revoked_reason: str | None = None


@dataclass(frozen=True)
class VersionRef:
    name: str
    version: int
    digest: str


@dataclass(frozen=True)
class Revocation:
    """What goes, or went. sharing: versions that may hold the same images; they stay."""

    kind: str
    subject: str
    digest: str
    already: bool
    versions: tuple[VersionRef, ...] = ()
    jobs: tuple[str, ...] = ()
    num_attempts: int = 0
    attempt_bytes: int = 0
    sharing: tuple[VersionRef, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True)
class ModelRef:
    name: str
    digest: str


@dataclass(frozen=True)
class TrainingUse:
    """data_sha256: of the images as that training read them; empty if it read none of the source,
    but began from a model that was trained on it."""

    model_name: str
    model_digest: str
    data_sha256: str
    trained_at: str


@dataclass(frozen=True)
class Derived:
    """What came of a source, and goes with it. sources: the same images, under all terms. versions:
    not revoked; jobs: that run, or may be retried."""

    sources: tuple[str, ...] = ()
    trainings: tuple[TrainingUse, ...] = ()
    models: tuple[ModelRef, ...] = ()
    versions: tuple[VersionRef, ...] = ()
    jobs: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True)
class Source:
    """Registered real images, with their terms. digest: of their pixels, and of which images share
    a class. generation_depth: 0 for real images. derived: None in lists."""

    name: str
    version: int
    digest: str
    num_images: int
    num_classes: int
    licence: str
    description: str
    permitted_use: str
    consent: str
    contact: str
    location: str
    format: str
    created_at: str
    permitted_uses: tuple[str, ...] = ()
    expires_on: str | None = None
    generation_depth: int = 0
    created_by: str | None = None
    withdrawn_at: str | None = None
    withdrawn_reason: str | None = None
    derived: Derived | None = None


@dataclass(frozen=True)
class Quota:
    """None: unlimited."""

    max_running_jobs: int | None = None
    max_images_per_day: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class Usage:
    """images_last_day: asked for in 24 hours. cost: of 30 days of devices, a month of the bytes."""

    tenant: str
    running_jobs: int
    images_last_day: int
    bytes: int
    quota: Quota
    cost: Cost


@dataclass(frozen=True)
class Fire:
    """A moment that came. job_id and error: both None while the job is being made."""

    fire_at: str
    job_id: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Schedule:
    """next_fire_times: the next five; none while it is paused. last_fires: the newest five."""

    id: str
    name: str
    cron: str
    timezone: str
    new_seed: bool
    priority: str
    paused: bool
    next_fire_times: tuple[str, ...] = ()
    last_fires: tuple[Fire, ...] = ()
    recipe: dict[str, Any] | None = None
    created_at: str | None = None


@dataclass(frozen=True)
class Webhook:
    """secret: shown once, by the answer that creates it. disabled_at: since when nothing is sent,
    because the receiver answered 410."""

    id: str
    url: str
    events: tuple[str, ...]
    created_at: str | None = None
    disabled_at: str | None = None
    secret: str | None = None


@dataclass(frozen=True)
class Delivery:
    id: int
    event_id: str
    event_type: str
    state: str
    tries: int
    next_at: str | None = None
    last_status: int | None = None
    last_error: str | None = None
    created_at: str | None = None
    delivered_at: str | None = None
    body: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Key:
    """key: the key itself, shown once, by the answer that creates it."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_by: str | None = None
    created_at: str | None = None
    expires_at: str | None = None
    revoked_at: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class FileEntry:
    """One object of a version. url: signed, for about a minute; None where the store is a folder:
    then the service alone gives it."""

    path: str
    sha256: str
    size_bytes: int
    url: str | None = None


@dataclass(frozen=True)
class Pulled:
    """path: the folder that was written. attached: what lies beside the data, paths in it."""

    name: str
    version: int
    digest: str
    format: str
    num_samples: int
    path: str
    attached: tuple[str, ...] = ()


def checked_end(job: Job) -> Job:
    """Raises JobError unless it was published."""
    if job.state == PUBLISHED:
        return job
    reason = job.error or ("it was cancelled" if job.state == CANCELLED else "no reason is known")
    raise JobError(f"job {job.id} ({job.name}) is {job.state}: {reason}")


def checked_training(training: Training) -> Training:
    """Raises TrainingError unless its model is there."""
    if training.state == PUBLISHED:
        return training
    is_cancelled = training.state == CANCELLED
    reason = "it was cancelled" if is_cancelled else training.error or "no reason is known"
    raise TrainingError(f"training {training.id} ({training.name}) is {training.state}: {reason}")


def is_beside_data(attachment: Attachment) -> bool:
    """Whether a pull puts it beside the data."""
    is_card = attachment.kind == "card" and attachment.file_name == "README.md"
    return is_card or attachment.kind in ("evaluation", "report")


def newest_report(found: Sequence[Attachment], version: str) -> Attachment:
    for attachment in found:
        if attachment.kind == "report":
            return attachment
    raise NotFoundError(
        f"{version} has no report; `datagen evaluate {version} --reference DATA` makes one"
    )


def checked_bytes(data: bytes, attachment: Attachment) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != attachment.sha256:
        raise VerifyError(
            f"{attachment.object}: sha256 {found}, expected {attachment.sha256}: it was changed "
            "after it was attached, or on the way; try again, then evaluate again"
        )
    return data


def checked_preview(preview: Preview, job: Job) -> Preview:
    """Raises JobError unless it was made."""
    if preview.state != PUBLISHED:
        reason = preview.error or "no reason is known"
        raise JobError(f"preview {job.id} ({job.name}) is {preview.state}: {reason}")
    return replace(preview, id=job.id)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def read_value(kind: Any, content: Any) -> Any:
    """content: parsed JSON. Raises ServiceUnavailableError if it is nothing of that kind."""
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        raise _not_understood(error) from None


def read_json(kind: Any, body: bytes) -> Any:
    """As read_value, of JSON text."""
    try:
        return _adapter(kind).validate_json(body)
    except ValidationError as error:
        raise _not_understood(error) from None


def _not_understood(error: ValidationError) -> ServiceUnavailableError:
    first: Mapping[str, Any] = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return ServiceUnavailableError(
        f"the service's answer is not understood ({place}: {first['msg']}); client and service are "
        "of different versions, or DATAGEN_API_URL is no datagen service"
    )
