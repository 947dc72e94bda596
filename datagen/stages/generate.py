"""Generate: the attempts of one unit, scored, as one object in the attempt cache."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from datagen.catalog.attempts import cached_attempts, commit_generated
from datagen.catalog.rows import NewAttempt, NewObject, StoredAttempt, Unit
from datagen.errors import DamagedAttemptsError, ObjectExistsError
from datagen.failpoints import failpoint
from datagen.plan import AttemptRequest, attempt_key, attempt_seed
from datagen.stages.job import CONDITION_KEY, JobWork, Place, draw_images

Cached = dict[AttemptRequest, StoredAttempt]


def generate(work: JobWork, unit: Unit, check_abort: Callable[[], None]) -> None:
    started = time.monotonic()
    requests = _requests(work, unit)
    cached = _find_cached(work, requests)
    missing = [request for request in requests if request not in cached]
    rescored = _rescore(work, cached)
    made: list[NewAttempt] = []
    stored = None
    if missing:
        stored, made = _make(work, unit, missing, check_abort)
    failpoint("generate.before_commit")
    commit_generated(
        work.catalog,
        unit,
        context_id=work.job.context_id,
        stored=stored,
        made=made,
        rescored=rescored,
        num_generated=len(missing),
        seconds=time.monotonic() - started,
    )
    failpoint("generate.after_commit")


def _requests(work: JobWork, unit: Unit) -> list[AttemptRequest]:
    if unit.payload is None:
        return list(work.plan.generate_requests(unit.position))
    return [AttemptRequest(*request) for request in json.loads(unit.payload)]


def _find_cached(work: JobWork, requests: Sequence[AttemptRequest]) -> Cached:
    """Every attempt at the asked ordinals that an earlier version, or a unit of this one, made
    already: the judge may want those after the asked ones too."""
    by_class: dict[int, list[AttemptRequest]] = {}
    for request in requests:
        by_class.setdefault(request.class_index, []).append(request)
    found: Cached = {}
    for class_index, wanted in by_class.items():
        ordinals = {request.ordinal for request in wanted}
        rows = cached_attempts(
            work.catalog,
            work.job.context_id,
            work.plan.class_names[class_index],
            ordinals=(min(ordinals), max(ordinals)),
        )
        found |= {
            AttemptRequest(class_index, row.ordinal, row.attempt): row
            for row in rows
            if row.ordinal in ordinals
        }
    return found


def _rescore(work: JobWork, cached: Cached) -> list[tuple[str, int, int, str]]:
    """Cached attempts that a filter or a detector new to them has to look at."""
    keys = work.resolved.kept_keys
    known = {r: json.loads(row.scores) for r, row in cached.items()} if keys else {}
    lacking = [request for request, scores in known.items() if not keys <= scores.keys()]
    rescored = []
    for first in range(0, len(lacking), work.plan.unit_size):  # as many images as a unit holds
        batch = lacking[first : first + work.plan.unit_size]
        class_names = [work.plan.class_names[request.class_index] for request in batch]
        images = work.raw_images.load(cached[request] for request in batch)
        pixels = np.array([images[cached[request]] for request in batch], work.pixel_dtype)
        for request, class_name, new in zip(
            batch, class_names, work.score(pixels, class_names), strict=True
        ):
            scores = known[request] | json.loads(new)
            rescored.append((class_name, request.ordinal, request.attempt, json.dumps(scores)))
    return rescored


def _make(
    work: JobWork,
    unit: Unit,
    missing: Sequence[AttemptRequest],
    check_abort: Callable[[], None],
) -> tuple[NewObject, list[NewAttempt]]:
    """Returns the stored object and its attempts."""
    names = work.plan.class_names
    key = _object_key(work, missing)
    drawn: list[str] = []
    data = b"".join(_sample(work, missing, drawn, check_abort))
    failpoint("generate.before_put")
    _put(work, key, data)
    images = np.frombuffer(data, work.pixel_dtype).reshape(-1, *work.image_shape)
    class_names = [names[request.class_index] for request in missing]
    rows = []
    for position, (request, class_name, image, scores) in enumerate(
        zip(missing, class_names, images, work.score(images, class_names), strict=True)
    ):
        digest = hashlib.sha256(image.data).hexdigest()
        if drawn:
            scores = json.dumps(json.loads(scores) | {CONDITION_KEY: drawn[position]})
        rows.append(
            NewAttempt(class_name, request.ordinal, request.attempt, position, digest, scores)
        )
    sha256 = hashlib.sha256(data).hexdigest()
    stored = NewObject(key, "attempts", unit.position, None, len(missing), sha256, len(data))
    return stored, rows


def _sample(
    work: JobWork,
    requests: Sequence[AttemptRequest],
    drawn: list[str],
    check_abort: Callable[[], None],
) -> Iterable[bytes]:
    """The raw images, in batches of the one fixed shape. drawn: gets the digest of each one's
    condition, if there are any."""
    size, seed = work.job.batch_size, work.resolved.seed
    names = work.plan.class_names
    sampler = work.sampler
    for first in range(0, len(requests), size):
        check_abort()
        failpoint("generate.batch")
        batch = requests[first : first + size]
        images, conditions = draw_images(
            sampler,
            work.resolved,
            [attempt_seed(seed, names[r.class_index], r.ordinal, r.attempt) for r in batch],
            [
                Place(names[r.class_index], r.ordinal, work.plan.pattern.split_of(r.ordinal))
                for r in batch
            ],
        )
        drawn += conditions
        yield np.ascontiguousarray(images).tobytes()


def _object_key(work: JobWork, requests: Sequence[AttemptRequest]) -> str:
    digest = hashlib.sha256()
    for class_index, ordinal, attempt in requests:
        name = work.plan.class_names[class_index]
        digest.update(attempt_key(work.job.context_digest, name, ordinal, attempt).encode())
    model, bits = work.resolved.model.digest[:16], work.resolved.config.bits
    return f"{work.settings.tenant}/attempts/{model}/{digest.hexdigest()}.u{bits}"


def _put(work: JobWork, key: str, data: bytes) -> None:
    try:
        work.store.put_new(key, data)
    except ObjectExistsError:
        reason = "it exists with other bytes than its attempts have"
        raise DamagedAttemptsError(key, reason) from None
