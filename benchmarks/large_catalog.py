"""A PostgreSQL catalog with published versions of many sample rows, filled by the engine's own
commits, without their objects. Called by copy_rows.py and api_latency.py.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import create_job
from datagen.catalog.rows import FINISH, PACK, NewObject, NewUnit, SampleRow, Unit
from datagen.catalog.samples import commit_packed
from datagen.catalog.units import advance_job, claim_unit
from datagen.catalog.versions import commit_published
from datagen.fingerprint import device_model, generation_print
from datagen.recipe import Recipe
from datagen.resolve import resolve_recipe
from datagen.settings import Settings
from datagen.submission import Request, new_job

NUM_CLASSES = 10
ROWS_PER_SHARD = 256  # the recipe's default


def machine() -> str:
    """Where the figures were taken, for the first line of a benchmark."""
    load = os.getloadavg()[0]
    return f"machine: {device_model('cpu')}, {os.cpu_count()} cores, load {load:.1f} at the start"


def sample_rows(first: int, count: int, *, shard: int) -> Iterator[SampleRow]:
    """As pack makes them: digests are all different, so that no index compresses well."""
    for i in range(first, first + count):
        digest = hashlib.sha256(b"%d" % i).hexdigest()
        yield SampleRow(
            class_name=f"class-{i % NUM_CLASSES}",
            ordinal=i // NUM_CLASSES,
            split="val" if i // NUM_CLASSES % 10 == 9 else "train",
            attempt=0,
            attempt_key=digest,
            seed=int(digest[:15], 16),
            augmentation_seed=int(digest[15:30], 16),
            raw_sha256=digest[::-1],
            image_sha256=digest[32:] + digest[:32],
            shard=shard,
            offset=(i - first) * 3584 + 512,
            size=1900,
            attributes="{}",
            scores='{"blank": %.6f}' % (int(digest[:4], 16) / 2**17),
            augmentations="[]",
        )


def noise_recipe(name: str, num_images: int) -> Recipe:
    return Recipe.model_validate(
        {
            "version": 1,
            "name": name,
            "image_size": [32, 32],
            "classes": [
                {"name": f"class-{i}", "count": num_images // NUM_CLASSES}
                for i in range(NUM_CLASSES)
            ],
            "generator": {"model": "noise"},
            "filters": [{"filter": "blank"}],
            "splits": {"ratios": {"train": 0.9, "val": 0.1}},
        }
    )


def publish_rows(
    catalog: Catalog,
    settings: Settings,
    *,
    name: str,
    num_rows: int,
    rows_per_shard: int = ROWS_PER_SHARD,
) -> float:
    """One version of num_rows rows. Returns the seconds spent in the commits of packed shards."""
    num_shards = math.ceil(num_rows / rows_per_shard)
    resolved = resolve_recipe(noise_recipe(name, num_rows), [Path("none")])
    generation = generation_print(resolved.spec, device="cpu", threads=1)
    new = new_job(resolved, settings, Request(), generation)
    job = create_job(catalog, new, [NewUnit(PACK, 0, p, None) for p in range(num_shards)])
    seconds = 0.0
    for shard in range(num_shards):
        unit = _claim(catalog, job.id)
        first = shard * rows_per_shard
        count = min(rows_per_shard, num_rows - first)
        stored = _shard(f"{settings.tenant}/{name}/{shard}", shard, count)
        rows = list(sample_rows(first, count, shard=shard))
        started = time.perf_counter()
        commit_packed(catalog, unit, stored, rows, seconds=0.1)
        seconds += time.perf_counter() - started
    advance_job(catalog, job.id)
    unit = _claim(catalog, job.id)
    assert unit.kind == FINISH
    commit_published(
        catalog,
        unit,
        digest=hashlib.sha256(name.encode()).hexdigest(),
        manifest_sha256=hashlib.sha256(b"manifest").hexdigest(),
        num_samples=num_rows,
        size_bytes=num_rows * 3584,
        stored=[],
        seconds=0.1,
    )
    return seconds


def _claim(catalog: Catalog, job_id: int) -> Unit:
    unit = claim_unit(catalog, job_id=job_id, owner="benchmark", lease_s=90.0, max_tries=5)
    assert unit is not None
    return unit


def _shard(key: str, position: int, num_samples: int) -> NewObject:
    digest = hashlib.sha256(key.encode()).hexdigest()
    return NewObject(key, "shard", position, "train", num_samples, digest, num_samples * 3584)
