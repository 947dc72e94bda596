"""Pack: one shard of finished samples: raw images augmented, encoded, hashed and put in a tar."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from datagen.augment import AppliedTransform, Augmenter
from datagen.catalog.attempts import chosen_attempts
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import NewObject, SampleRow, StoredAttempt, Unit
from datagen.catalog.samples import commit_packed
from datagen.errors import LostAttemptsError
from datagen.failpoints import failpoint
from datagen.formats.shard import ShardMember, pack_shard
from datagen.images import Pixels, encode_label_map, encode_png, to_8_bits
from datagen.label_checks import check_labels
from datagen.plan import Sample, attempt_key, attempt_seed, augmentation_seed
from datagen.recipe import ClassRequest, canonical_json
from datagen.resolve import ResolvedRecipe
from datagen.stages.job import JobWork, labels_of
from datagen.watermark import embed

_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)


def pack(work: JobWork, unit: Unit, check_abort: Callable[[], None]) -> None:
    started = time.monotonic()
    samples = work.plan.shard_samples(unit.position)
    chosen = _find_chosen(work, samples)
    raw_images = work.raw_images.load(chosen.values())
    members: list[ShardMember] = []
    rows: list[SampleRow] = []
    for sample in samples:
        check_abort()
        attempt = chosen.get(sample)
        if attempt is None:
            continue  # a published shortfall
        raw = raw_images[attempt]
        member, row = _make_sample(work, sample, attempt, raw, shard=unit.position)
        members.append(member)
        rows.append(row)
    check_abort()
    packed = pack_shard(members)
    rows = [
        row._replace(offset=offset, size=size)
        for row, (offset, size) in zip(rows, packed.offsets, strict=True)
    ]
    split, _ = work.plan.shard_split(unit.position)
    sha256 = hashlib.sha256(packed.data).hexdigest()
    path = f"shards/{unit.position:05d}-{sha256}.tar"
    failpoint("pack.before_put")
    work.store.put_new(work.prefix + path, packed.data)
    shard = NewObject(
        work.prefix + path, "shard", unit.position, split, len(rows), sha256, len(packed.data)
    )
    failpoint("pack.before_commit")
    commit_packed(work.catalog, unit, shard, rows, seconds=time.monotonic() - started)
    failpoint("pack.after_commit")


def _find_chosen(work: JobWork, samples: Sequence[Sample]) -> dict[Sample, StoredAttempt]:
    """The attempt of each sample; none for those that the judge declared missing, even if the
    cache holds more attempts at them than the recipe's limits allow."""
    declared = _declared_missing(work)
    wanted: dict[str, dict[int, Sample]] = {}
    for sample in sorted(samples, key=lambda each: each.ordinal):
        class_name = work.plan.class_names[sample.class_index]
        if sample.ordinal not in declared.get(class_name, ()):
            wanted.setdefault(class_name, {})[sample.ordinal] = sample
    rows = chosen_attempts(
        work.catalog,
        context_id=work.job.context_id,
        job_id=work.job.id,
        ordinals={class_name: list(by_ordinal) for class_name, by_ordinal in wanted.items()},
    )
    found: dict[Sample, StoredAttempt] = {}
    for class_name, by_ordinal in wanted.items():
        if lost := sorted(by_ordinal.keys() - rows[class_name].keys()):
            # Another job of the context has found them damaged.
            raise LostAttemptsError(
                f"class {class_name}, ordinal {lost[0]}: its attempt is gone from the catalog; it "
                "is made again"
            )
        found |= {sample: rows[class_name][o] for o, sample in by_ordinal.items()}
    return found


def _declared_missing(work: JobWork) -> dict[str, frozenset[int]]:
    """Read anew: the judge may have spoken since this worker opened the job."""
    if work.resolved.recipe.limits.on_shortfall != "publish":
        return {}
    job = get_job(work.catalog, work.job.id)
    declared = json.loads(job.shortfall) if job and job.shortfall else {}
    return {name: frozenset(ordinals) for name, ordinals in declared.items()}


def _make_sample(
    work: JobWork, sample: Sample, attempt: StoredAttempt, raw: Pixels, *, shard: int
) -> tuple[ShardMember, SampleRow]:
    """The finished sample of one raw image; its place in the shard is filled in later."""
    resolved = work.resolved
    request = resolved.recipe.classes[sample.class_index]
    seeds = (resolved.seed, request.name, sample.ordinal, attempt.attempt)
    augment_seed = augmentation_seed(*seeds)
    has_kept = resolved.conditioner_model is not None or resolved.detector_key is not None
    finished = finish_image(
        work.augmenter,
        resolved,
        request,
        raw,
        seeds=seeds,
        split=sample.split,
        kept=json.loads(attempt.scores) if has_kept else None,
    )
    key = attempt_key(work.job.context_digest, request.name, sample.ordinal, attempt.attempt)
    png = encode_png(finished.image, text=png_text(key))
    applied = [asdict(step) for step in finished.applied]
    row = SampleRow(
        class_name=request.name,
        ordinal=sample.ordinal,
        split=sample.split,
        attempt=attempt.attempt,
        attempt_key=key,
        seed=attempt_seed(*seeds),
        augmentation_seed=augment_seed,
        raw_sha256=attempt.raw_sha256,
        image_sha256=hashlib.sha256(png).hexdigest(),
        shard=shard,
        offset=0,
        size=0,
        attributes=work.attributes_of(
            sample.class_index, seed=attempt_seed(*seeds), ordinal=sample.ordinal
        ),
        scores=_own_scores(attempt.scores, work.resolved.score_keys),
        augmentations=_ENCODER.encode(applied) if applied else "[]",
        labels=canonical_json(finished.labels_json).decode() if finished.labels_json else "{}",
    )
    return _member(work, row, png, finished), row


@dataclass(frozen=True)
class FinishedImage:
    """image: augmented. mask, instances: PNG, empty where there are none. labels_json: what is true
    of it beside its class."""

    image: Pixels
    applied: Sequence[AppliedTransform]
    mask: bytes
    instances: bytes
    labels_json: Mapping[str, Any]


def finish_image(
    augmenter: Augmenter,
    resolved: ResolvedRecipe,
    request: ClassRequest,
    raw: Pixels,
    *,
    seeds: tuple[int, str, int, int],
    split: str,
    kept: Mapping[str, Any] | None = None,
) -> FinishedImage:
    """seeds: the recipe's seed, class, ordinal and attempt. kept: see labels_of.

    Raises LabelError if what was drawn can be no label of the image.
    """
    labels = labels_of(
        resolved,
        request,
        seed=attempt_seed(*seeds),
        ordinal=seeds[2],
        split=split,
        kept=kept,
    )
    seed = augmentation_seed(*seeds)
    if labels is None:
        augmented = augmenter.apply(raw, seed=seed)
        image = _marked(augmented.image, resolved)
        return FinishedImage(image, augmented.applied, b"", b"", {})
    augmented = augmenter.apply_labelled(raw, labels, seed=seed)
    assert augmented.labels is not None
    moved = augmented.labels
    check_labels(moved, raw.shape[:2], resolved.names)  # what is no label is never published
    content = moved.spatial_json()
    mask = b"" if moved.mask is None else encode_label_map(moved.mask)
    instances = b"" if moved.instances is None else encode_label_map(moved.instances)
    for name, data in (("mask_sha256", mask), ("instances_sha256", instances)):
        if data:
            content[name] = hashlib.sha256(data).hexdigest()
    image = _marked(augmented.image, resolved)
    return FinishedImage(image, augmented.applied, mask, instances, content)


def _marked(image: Pixels, resolved: ResolvedRecipe) -> Pixels:
    """With the watermark, where the recipe asks for it: last, so that nothing weakens it."""
    return embed(to_8_bits(image)) if resolved.recipe.output.watermark else image


def png_text(attempt_key: str) -> dict[str, str]:
    """The PNG's text chunks: a mark and the key, so that equal keys give equal bytes."""
    return {"datagen": "synthetic", "datagen-attempt": attempt_key}


def _member(work: JobWork, row: SampleRow, png: bytes, finished: FinishedImage) -> ShardMember:
    """Keys are written in sorted order; attributes, scores and augmentations are JSON already."""
    key = f"{row.class_name}-{row.ordinal:08d}"
    labels = "" if row.labels == "{}" else f'"labels":{row.labels},'
    record = (
        f'{{"attempt":{row.attempt},"attempt_key":"{row.attempt_key}",'
        f'"attributes":{row.attributes},"augmentation_seed":{row.augmentation_seed},'
        f'"augmentations":{row.augmentations},"class_name":"{row.class_name}",'
        f'"image_sha256":"{row.image_sha256}","key":"{key}",{labels}'
        f'"model":"{work.resolved.model.name}","model_digest":"{work.resolved.model.digest}",'
        f'"ordinal":{row.ordinal},"raw_sha256":"{row.raw_sha256}",'
        f'"recipe_digest":"{work.job.recipe_digest}","scores":{row.scores},'
        f'"seed":{row.seed},"split":"{row.split}"}}'
    )
    return ShardMember(key, png, record.encode(), finished.mask, finished.instances)


def _own_scores(scores: str, score_keys: Mapping[str, str]) -> str:
    """Of the recipe's filters alone: others may have scored a cached attempt too. By the filter's
    name: the recipe says which reference they come from."""
    if not score_keys:
        return "{}"
    known = json.loads(scores)
    if lacking := set(score_keys.values()) - known.keys():
        # Another job of the context, which had read them before this one added its own, wrote them.
        raise LostAttemptsError(
            f"an attempt has no score of {min(lacking)} any more; it is scored again"
        )
    return _ENCODER.encode({name: known[key] for name, key in score_keys.items()})
