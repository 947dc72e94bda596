"""Makes one image of a published version again, alone, and compares it with the stored one.

Called by `datagen remake`. Only the recipe, the model and the sample's key go in: neither the
attempt cache nor what the catalog says of the image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import Job, SampleRow, VersionRow
from datagen.catalog.samples import get_sample, list_shards
from datagen.deployment_rules import DeploymentRules
from datagen.engine import load_sampler
from datagen.errors import InputError, NotFoundError
from datagen.fingerprint import fingerprint
from datagen.images import Pixels, decode_png, encode_png, sha256_hex
from datagen.plan import attempt_key, attempt_seed
from datagen.recipe import suggest
from datagen.registry import models_dirs_of_stored
from datagen.resolve import ResolvedRecipe, resolve_stored
from datagen.settings import Settings
from datagen.stages.job import Place, augmenter_of, draw_images
from datagen.stages.pack import finish_image, png_text
from datagen.store import Store

_KEY = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,62})-([0-9]{1,10})")


@dataclass(frozen=True)
class FingerprintChange:
    """Something that an image's bits may depend on, and that is not as it was."""

    field: str
    then: Any
    now: Any


@dataclass(frozen=True)
class Remade:
    """raw_identical: of the model's image, before augmentation and encoding.

    num_pixels_changed: of the finished image; None if it cannot be compared pixel by pixel.
    """

    key: str
    png: bytes
    identical: bool
    raw_identical: bool
    num_pixels_changed: int | None
    image_sha256: str
    stored_sha256: str
    fingerprint_changes: list[FingerprintChange]


def parse_sample_key(text: str) -> tuple[str, int]:
    """trouser-00000012 => (trouser, 12). Raises InputError."""
    match = _KEY.fullmatch(text)
    if match is None:
        raise InputError(f"sample {text!r}: expected CLASS-ORDINAL, such as trouser-00000012")
    return match[1], int(match[2])


def find_sample(catalog: Catalog, version: VersionRow, text: str) -> SampleRow:
    """Raises InputError, or NotFoundError naming what there is."""
    class_name, ordinal = parse_sample_key(text)
    row = get_sample(catalog, version.job_id, class_name, ordinal)
    if row is not None:
        return row
    job = get_job(catalog, version.job_id)
    assert job is not None
    counts = {c["name"]: c["count"] for c in json.loads(job.recipe_body)["classes"]}
    name = f"{version.name}@{version.version}"
    if class_name not in counts:
        hint = suggest(class_name, counts)
        raise NotFoundError(f"{name} has no class {class_name!r}{hint}")
    reason = f"the ordinals of {class_name} go from 0 to {counts[class_name] - 1}"
    if ordinal < counts[class_name]:
        reason = "no attempt at it passed the filters, and the recipe allows a shortfall"
    raise NotFoundError(f"{name} has no image {class_name}-{ordinal:08d}: {reason}")


def remake_sample(
    catalog: Catalog, store: Store, settings: Settings, version: VersionRow, text: str
) -> Remade:
    """text: the sample's key. Raises JobError if the model has changed since."""
    row = find_sample(catalog, version, text)
    job = get_job(catalog, version.job_id)
    assert job is not None
    folders = models_dirs_of_stored(catalog, store, settings, job.recipe_body)
    resolved = resolve_stored(job.recipe_body, folders, DeploymentRules.of(settings))
    raw = _sample_again(resolved, settings, job, row)
    png = _finish_again(resolved, job, row, raw)
    shard = list_shards(catalog, version.job_id)[row.shard]
    stored = store.get_range(shard.key, row.offset, row.size)
    now = fingerprint(
        resolved,
        batch_size=job.batch_size,
        device=settings.device,
        threads=settings.threads_per_worker,
    )
    return Remade(
        key=f"{row.class_name}-{row.ordinal:08d}",
        png=png,
        identical=png == stored,
        raw_identical=sha256_hex(np.ascontiguousarray(raw).tobytes()) == row.raw_sha256,
        num_pixels_changed=_num_pixels_changed(png, stored),
        image_sha256=sha256_hex(png),
        stored_sha256=sha256_hex(stored),
        fingerprint_changes=list(_changes(json.loads(job.fingerprint), now, "")),
    )


def _sample_again(resolved: ResolvedRecipe, settings: Settings, job: Job, row: SampleRow) -> Pixels:
    seed = attempt_seed(resolved.seed, row.class_name, row.ordinal, row.attempt)
    sampler = load_sampler(resolved, settings, batch_size=job.batch_size)
    place = Place(row.class_name, row.ordinal, row.split)
    image: Pixels = draw_images(sampler, resolved, [seed], [place])[0][0]
    return image


def _finish_again(resolved: ResolvedRecipe, job: Job, row: SampleRow, raw: Pixels) -> bytes:
    """As the pack stage does."""
    request = next(c for c in resolved.recipe.classes if c.name == row.class_name)
    seeds = (resolved.seed, row.class_name, row.ordinal, row.attempt)
    key = attempt_key(job.context_digest, row.class_name, row.ordinal, row.attempt)
    finished = finish_image(
        augmenter_of(resolved), resolved, request, raw, seeds=seeds, split=row.split
    )
    return encode_png(finished.image, text=png_text(key))


def _num_pixels_changed(png: bytes, stored: bytes) -> int | None:
    try:
        first, second = decode_png(png), decode_png(stored)
    except InputError:
        return None
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        return None
    return int((first != second).any(axis=2).sum())


def _changes(
    then: Mapping[str, Any], now: Mapping[str, Any], path: str
) -> Iterator[FingerprintChange]:
    for key in sorted({*then, *now}):
        first, second = then.get(key), now.get(key)
        if isinstance(first, dict) and isinstance(second, dict):
            yield from _changes(first, second, f"{path}{key}.")
        elif first != second:
            yield FingerprintChange(f"{path}{key}", first, second)
