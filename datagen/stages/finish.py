"""Finish: check the counts, write index, card, Croissant and exports, then the manifest, publish.

The manifest is put last and create-only: a version exists when it does. Nothing here depends on a
clock or on who runs it, so that a replay after a crash writes the same bytes.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from datagen import __version__
from datagen.attachments import CARD, attach
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import NewObject, SampleRow, Unit
from datagen.catalog.samples import (
    counts_by_split,
    first_samples,
    iterate_samples,
    list_shards,
)
from datagen.catalog.units import begin_publishing
from datagen.digest import sample_leaf
from datagen.errors import (
    JobError,
    ObjectExistsError,
    StoreError,
)
from datagen.failpoints import failpoint
from datagen.formats.card import contact_sheet_path, write_card
from datagen.formats.croissant import croissant
from datagen.formats.index import write_index
from datagen.formats.origin import ModelOrigin
from datagen.generators.model_directory import Model
from datagen.images import contact_sheet, decode_png, encode_png, to_8_bits
from datagen.manifest import Manifest, ObjectEntry, SourceEntry, claims_of
from datagen.stages.evaluate import evaluate_packed
from datagen.stages.exports import export_packed
from datagen.stages.job import JobWork, has_more_labels, read_sound
from datagen.stages.publication import Publication, publish
from datagen.stages.read_ahead import ReadAhead
from datagen.versions import MANIFEST

_INDEX_ROWS = 8_192
# The first images of every class lie in the first shards of each split: whole ones are read.
_AHEAD_BYTES = 2**22
_SHEET_IMAGES, _SHEET_COLUMNS, _SHEET_SCALE = 24, 12, 2


def finish(work: JobWork, unit: Unit, check_abort: Callable[[], None]) -> None:
    started = time.monotonic()
    shards = list_shards(work.catalog, work.job.id)
    counts, shortfall = _checked_counts(work, shards)
    index = [
        _put(work, "index", position, f"index/{position:05d}-{{sha256}}.parquet", data, num_rows)
        for position, (data, num_rows) in enumerate(_index_parts(work, shards, check_abort))
    ]
    manifest = Manifest(
        name=work.job.name,
        version=work.job.version,
        digest=_dataset_digest(work),
        recipe_digest=work.job.recipe_digest,
        recipe=json.loads(work.resolved.body),
        model={"name": work.resolved.model.name, "digest": work.resolved.model.digest},
        image_size=work.resolved.config.image_size,
        channels=work.resolved.config.channels,
        counts=counts,
        fingerprint=json.loads(work.job.fingerprint),
        code_version=__version__,
        shards=[_entry(work, shard) for shard in shards],
        index=[_entry(work, part) for part in index],
        documents=[],
        shortfall=shortfall,
        performance_claims=claims_of(counts),
        sources=_sources(work),
    )
    figures = evaluate_packed(work, unit, manifest, check_abort)
    export_packed(work, unit, manifest, check_abort)
    documents = list(_put_documents(work, manifest, shards))
    manifest = replace(manifest, documents=[_entry(work, document) for document in documents])
    if figures is not None:
        _attach_card(work, manifest, figures)
    check_abort()
    stored = [*index, *documents]
    publication = Publication(
        prefix=work.prefix,
        manifest=manifest.to_bytes().decode(),
        stored=stored,
        size_bytes=sum(each.size_bytes for each in (*shards, *stored)),
        seconds=time.monotonic() - started,
    )
    failpoint("finish.before_publishing")
    begin_publishing(work.catalog, unit, publication.to_json())
    publish(work.catalog, work.store, unit, publication)


def _checked_counts(
    work: JobWork, shards: Sequence[NewObject]
) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Delivered minus requested is 0 for every class and split, or what the judge declared."""
    packed = counts_by_split(work.catalog, work.job.id)
    job = get_job(work.catalog, work.job.id)
    declared = json.loads(job.shortfall) if job and job.shortfall else {}
    counts = {}
    for class_index, class_name in enumerate(work.plan.class_names):
        expected = work.plan.counts_by_split(class_index)
        for ordinal in declared.get(class_name, ()):
            expected[work.plan.pattern.split_of(ordinal)] -= 1
        delivered = {split: packed.get(class_name, {}).get(split, 0) for split in expected}
        if delivered != expected:
            raise JobError(f"class {class_name}: packed {delivered}, expected {expected}")
        counts[class_name] = delivered
    if [shard.position for shard in shards] != list(range(work.plan.num_shards)):
        raise JobError(f"{len(shards)} shards are packed, expected {work.plan.num_shards}")
    return counts, {name: len(ordinals) for name, ordinals in declared.items()}


def _samples(work: JobWork) -> Iterator[tuple[int, SampleRow]]:
    """(class index, row), class by class in the recipe's order."""
    for class_index, class_name in enumerate(work.plan.class_names):
        for row in iterate_samples(work.catalog, work.job.id, class_name):
            yield class_index, row


def _index_parts(
    work: JobWork, shards: Sequence[NewObject], check_abort: Callable[[], None]
) -> Iterator[tuple[bytes, int]]:
    """Parquet files of _INDEX_ROWS rows, and their numbers of rows; written as the rows stream."""
    paths = [shard.key.removeprefix(work.prefix) for shard in shards]
    rows = (_index_row(c, row, paths[row.shard]) for c, row in _samples(work))
    total = sum(shard.num_samples for shard in shards)
    has_labels = has_more_labels(work.resolved)
    for first in range(0, total, _INDEX_ROWS):
        check_abort()
        num_rows = min(_INDEX_ROWS, total - first)
        yield write_index(itertools.islice(rows, num_rows), has_labels=has_labels), num_rows


def _index_row(class_index: int, row: SampleRow, shard_path: str) -> dict[str, Any]:
    return row._asdict() | {
        "key": f"{row.class_name}-{row.ordinal:08d}",
        "class_id": class_index,
        "shard": shard_path,
    }


def _dataset_digest(work: JobWork) -> str:
    """sha256 over the leaves sorted by class name and ordinal; see digest.DatasetDigest."""
    total = hashlib.sha256()
    for name in sorted(work.plan.class_names):
        for row in iterate_samples(work.catalog, work.job.id, name):
            total.update(
                sample_leaf(
                    name,
                    row.ordinal,
                    row.image_sha256,
                    json.loads(row.attributes),
                    row.split,
                    json.loads(row.labels),
                )
            )
    return total.hexdigest()


def _put_documents(
    work: JobWork, manifest: Manifest, shards: Sequence[NewObject]
) -> Iterator[NewObject]:
    """Contact sheets, card, Croissant. None says what was measured: the manifest covers the data
    alone, and two workers must write the same bytes."""
    position = itertools.count()
    read_ahead = ReadAhead(work.store)
    for class_name in work.plan.class_names:
        sheet = _contact_sheet(work, class_name, shards, read_ahead)
        if sheet is not None:
            yield _put(work, "document", next(position), contact_sheet_path(class_name), sheet)
    origin = _origin(work)
    card = write_card(manifest, origin=origin).encode()
    yield _put(work, "document", next(position), "README.md", card)
    if manifest.num_samples:
        created = datetime.datetime.fromtimestamp(work.job.created_at, datetime.UTC).date()
        described = croissant(manifest, origin=origin, date_published=created)
        text = json.dumps(described, indent=2, ensure_ascii=False).encode()
        yield _put(work, "document", next(position), "croissant.json", text)


def _attach_card(work: JobWork, manifest: Manifest, figures: Mapping[str, str]) -> None:
    """The card with the main figures, beside the data."""
    attach(
        work.catalog,
        work.store,
        work.job,
        kind=CARD,
        file_name="README.md",
        data=write_card(manifest, origin=_origin(work), figures=figures).encode(),
        summary={},
    )


def _contact_sheet(
    work: JobWork, class_name: str, shards: Sequence[NewObject], read_ahead: ReadAhead
) -> bytes | None:
    rows = first_samples(work.catalog, work.job.id, class_name, limit=_SHEET_IMAGES)
    pngs = (_read_image(work, shards[row.shard], row, read_ahead) for row in rows)
    images = [to_8_bits(decode_png(png)) for png in pngs]
    if not images:
        return None
    sheet = contact_sheet(images, columns=_SHEET_COLUMNS, scale=_SHEET_SCALE)
    return encode_png(sheet, text={"datagen": "synthetic"})


def _read_image(work: JobWork, shard: NewObject, row: SampleRow, read_ahead: ReadAhead) -> bytes:
    """Raises StoreError if the shard is not what was packed."""

    def read() -> bytes:
        return read_ahead.get_range(
            shard.key, row.offset, row.size, ahead=_AHEAD_BYTES, size=shard.size_bytes
        )

    def is_sound(found: bytes) -> bool:
        return hashlib.sha256(found).hexdigest() == row.image_sha256

    data = read_sound(read, is_sound, forget=lambda: read_ahead.forget(shard.key))
    if data is None:
        raise StoreError(
            f"{work.store.url(shard.key)} was changed after it was packed: image "
            f"{row.class_name}-{row.ordinal:08d} is another; remove it and restart the job"
        )
    return data


def _sources(work: JobWork) -> list[SourceEntry]:
    models = (work.resolved.model, work.resolved.conditioner_model)
    trainings = [model.facts.training for model in models if model is not None]
    entries = [
        SourceEntry(fact.name, fact.version, fact.licence, fact.use_text, fact.depth)
        for training in trainings
        for fact in (training.sources if training else ())
    ]
    return list(dict.fromkeys(entries))


def _origin(work: JobWork) -> ModelOrigin:
    conditioner = work.resolved.conditioner_model
    origin = _origin_of(work.resolved.model)
    return origin if conditioner is None else replace(origin, conditions=_origin_of(conditioner))


def _origin_of(model: Model) -> ModelOrigin:
    trained, facts = model.spec.needs_weights, model.facts
    return ModelOrigin(
        license=facts.licence,
        training_data=facts.source if trained else None,
        training_data_license=facts.licence if trained else None,
    )


def _put(
    work: JobWork, kind: str, position: int, path: str, data: bytes, num_samples: int = 0
) -> NewObject:
    """Objects that an unfinished try left under a fixed name give way: no manifest names them."""
    sha256 = hashlib.sha256(data).hexdigest()
    key = work.prefix + path.format(sha256=sha256)
    try:
        work.store.put_new(key, data)
    except ObjectExistsError:
        if work.store.size(work.prefix + MANIFEST) is not None:
            raise
        work.store.delete(key)
        work.store.put_new(key, data)
    return NewObject(key, kind, position, None, num_samples, sha256, len(data))


def _entry(work: JobWork, stored: NewObject) -> ObjectEntry:
    return ObjectEntry(
        path=stored.key.removeprefix(work.prefix),
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        num_samples=stored.num_samples,
        split=stored.split,
    )
