"""A job as the API shows it: its state, how far it is, what it waits for, what it cost so far.

Called by jobs.py, previews.py and events.py.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Literal

from pydantic import BaseModel

from datagen.api.dependencies import Context
from datagen.catalog.progress import JobMeasure, measure_job
from datagen.catalog.rows import (
    ACTIVE_STATES,
    DONE,
    FINISH,
    GENERATE,
    JUDGE,
    PACK,
    PENDING,
    PUBLISHED,
    RUNNING,
    Job,
)
from datagen.catalog.versions import get_version
from datagen.catalog.workers import live_queues
from datagen.plan import SplitPattern
from datagen.usage import cost_of

# Before a model's name: where a worker keeps a tenant's, or the service's own.
_CACHE = re.compile(
    r"""(?<![^\s"'(:])/[^/\s:"'][^\s:"']*/(?:models-cache/[^/\s]+/[0-9a-f]{64}|models)/"""
)

State = Literal["RUNNING", "PUBLISHING", "PUBLISHED", "FAILED", "CANCELLED"]
Priority = Literal["interactive", "batch"]


class ClassProgress(BaseModel):
    """rejected: reason -> attempts. made: images that have an attempt which was not rejected."""

    requested: int
    made: int
    attempts: int
    rejected: dict[str, int]


class Progress(BaseModel):
    """units_*: of the stage. images_per_s: of all workers on the job together."""

    stage: Literal["generate", "judge", "pack", "finish"]
    units_done: int
    units_total: int
    classes: dict[str, ClassProgress]
    images_per_s: float | None
    seconds_left: float | None


class JobCost(BaseModel):
    """amount: of the device time, and of one month of the bytes."""

    device_seconds: float
    bytes: int
    amount: float
    currency: str


class JobLinks(BaseModel):
    self: str
    events: str
    dataset: str | None


class JobView(BaseModel):
    """progress, cost and waiting_for: null in lists. counts: class name -> split -> images, once it
    is published."""

    id: str
    name: str
    version: int
    state: State
    kind: Literal["dataset", "preview"]
    priority: Priority
    recipe_digest: str
    created_at: str
    finished_at: str | None
    error: str | None
    progress: Progress | None
    counts: dict[str, dict[str, int]] | None
    digest: str | None
    cost: JobCost | None
    fingerprint: dict[str, Any]
    waiting_for: str | None
    links: JobLinks


def time_text(seconds_since_epoch: float) -> str:
    """ISO 8601, UTC."""
    moment = datetime.fromtimestamp(seconds_since_epoch, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_time(seconds_since_epoch: float | None) -> str | None:
    return None if seconds_since_epoch is None else time_text(seconds_since_epoch)


def told_error(job: Job) -> str | None:
    return None if job.error is None else without_paths(job.error)


def without_paths(text: str) -> str:
    """An error without the folders of whichever machine met it: a tenant's model by its name."""
    return _CACHE.sub("", text)


def summary(job: Job) -> JobView:
    """What the job's row alone tells."""
    published = job.state == PUBLISHED and job.kind == "dataset"
    return JobView(
        id=job.uid,
        name=job.name,
        version=job.version,
        state=job.state,  # type: ignore[arg-type]  # pydantic checks them
        kind=job.kind,  # type: ignore[arg-type]
        priority=job.priority,  # type: ignore[arg-type]
        recipe_digest=job.recipe_digest,
        created_at=time_text(job.created_at),
        finished_at=optional_time(job.finished_at),
        error=told_error(job),
        progress=None,
        counts=None,
        digest=None,
        cost=None,
        fingerprint=json.loads(job.fingerprint),
        waiting_for=None,
        links=JobLinks(
            self=f"/v1/{'jobs' if job.kind == 'dataset' else 'previews'}/{job.uid}",
            events=f"/v1/jobs/{job.uid}/events",
            dataset=f"/v1/datasets/{job.name}/versions/{job.version}" if published else None,
        ),
    )


def full_view(context: Context, job: Job) -> JobView:
    measure = measure_job(context.catalog, job.id, finished=job.state == PUBLISHED)
    version = get_version(context.catalog, job.name, job.version)
    cost = cost_of(
        context.settings,
        device_seconds=measure.generate_seconds,
        num_bytes=measure.stored_bytes,
    )
    return summary(job).model_copy(
        update={
            "progress": progress_of(job, measure),
            "counts": _counts(job) if job.state == PUBLISHED else None,
            "digest": version.digest if version else None,
            "cost": JobCost(
                device_seconds=cost.device_seconds,
                bytes=cost.bytes,
                amount=cost.amount,
                currency=cost.currency,
            ),
            "waiting_for": _waiting_for(context, job, measure),
        }
    )


def progress_of(job: Job, measure: JobMeasure) -> Progress:
    requested = {c["name"]: int(c["count"]) for c in json.loads(job.recipe_body)["classes"]}
    classes = _classes(job, measure, requested)
    stage, done, total = _stage(measure)
    rate = _images_per_s(job, measure)
    missing = sum(c.requested - c.made for c in classes.values())
    generating = rate and stage == GENERATE and job.state == RUNNING
    return Progress(
        stage=stage,  # type: ignore[arg-type]
        units_done=done,
        units_total=total,
        classes=classes,
        images_per_s=rate,
        seconds_left=missing / rate if rate and generating else None,
    )


def _stage(measure: JobMeasure) -> tuple[str, int, int]:
    """The last stage that was opened and is not over: the name, its units done, its units."""
    for stage in (FINISH, PACK, JUDGE, GENERATE):
        total = sum(count for (kind, _), count in measure.units.items() if kind == stage)
        done = measure.units.get((stage, DONE), 0)
        if total and (done < total or stage in (FINISH, PACK)):
            return stage, done, total
    total = sum(count for (kind, _), count in measure.units.items() if kind == GENERATE)
    return GENERATE, total, total


def _images_per_s(job: Job, measure: JobMeasure) -> float | None:
    """One worker's speed times the workers at it now; of an ended job, as if there were one."""
    if not measure.num_generated or not measure.generate_seconds:
        return None
    speed = measure.num_generated / measure.generate_seconds
    return speed * max(1, measure.num_generating) if job.state in ACTIVE_STATES else speed


def _classes(job: Job, measure: JobMeasure, requested: dict[str, int]) -> dict[str, ClassProgress]:
    names, counts = list(requested), list(requested.values())
    rejected = [sum(measure.rejected.get(name, {}).values()) for name in names]
    if job.state == PUBLISHED:
        short = json.loads(job.shortfall) if job.shortfall else {}
        made = [count - len(short.get(name, ())) for name, count in requested.items()]
        attempts = [m + r for m, r in zip(made, rejected, strict=True)]
    else:
        attempts = _attempts(job, measure, counts)
        made = [
            max(0, min(count, tried - refused))
            for count, tried, refused in zip(counts, attempts, rejected, strict=True)
        ]
    return {
        name: ClassProgress(
            requested=counts[i],
            made=made[i],
            attempts=attempts[i],
            rejected=measure.rejected.get(name, {}),
        )
        for i, name in enumerate(names)
    }


def _attempts(job: Job, measure: JobMeasure, counts: Sequence[int]) -> list[int]:
    """Of each class. A generate unit of round 0 covers consecutive samples, class by class."""
    ends = list(accumulate(counts))
    found = [0] * len(counts)
    for position in measure.done_positions:
        place = position * job.unit_size
        last = min(place + job.unit_size, ends[-1])
        while place < last:
            index = bisect_right(ends, place)
            piece = min(last, ends[index]) - place
            found[index] += piece
            place += piece
    for payload in measure.done_refills:
        for class_index, _, _ in json.loads(payload):
            found[class_index] += 1
    return found


def _counts(job: Job) -> dict[str, dict[str, int]]:
    """As delivered: what the recipe deals to each split, less what fell short."""
    content = json.loads(job.recipe_body)
    requested = {c["name"]: int(c["count"]) for c in content["classes"]}
    short = json.loads(job.shortfall) if job.shortfall else {}
    pattern = SplitPattern(content["splits"]["ratios"], limit=max(requested.values()))
    found = {}
    for name, count in requested.items():
        by_split = {s: pattern.count(i, count) for i, s in enumerate(pattern.names)}
        for ordinal in short.get(name, ()):
            by_split[pattern.split_of(ordinal)] -= 1
        found[name] = by_split
    return found


def _waiting_for(context: Context, job: Job, measure: JobMeasure) -> str | None:
    """What has to come before the job goes on, where nobody alive can."""
    pending = [kind for (kind, state) in measure.units if state == PENDING]
    if job.state not in ACTIVE_STATES or not pending:
        return None
    queue = job.generate_queue if GENERATE in pending else job.cpu_queue
    if queue is None or queue in live_queues(context.catalog):
        return None
    return (
        f"a worker of queue {queue}: none is alive. If the workers were upgraded, "
        f"POST /v1/jobs/{job.uid}/restart begins again under their fingerprint"
    )
