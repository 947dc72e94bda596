"""Lineage both ways: everything behind an image, everything that a model or a source made.

Called by the API. All of it is read from the catalog: it holds when the model's files are gone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from datagen.catalog.browse import shard_keys
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.lineage import (
    Holder,
    ModelTotals,
    holders,
    made_totals,
    made_versions,
    model_facts,
    rejected_before,
)
from datagen.catalog.rows import Job, SampleRow, VersionRow
from datagen.catalog.tombstones import MODEL, SOURCE, Ref, Tombstone, get_tombstone
from datagen.errors import NotFoundError
from datagen.generators.model_directory import describe_model, model_names
from datagen.remake import find_sample
from datagen.revocation import find_models, find_source
from datagen.settings import Settings
from datagen.versions import version_prefix


@dataclass(frozen=True)
class TrainingData:
    """What a model was trained on. sha256: over the images and labels as they were read."""

    source: str
    licence: str
    sha256: str
    num_train: int
    num_held_out: int


@dataclass(frozen=True)
class ModelOrigin:
    """training: None if nothing was trained, or nobody wrote it down."""

    name: str
    digest: str
    licence: str | None
    source: str | None
    training: TrainingData | None


@dataclass(frozen=True)
class SampleLineage:
    """rejected: (attempt, reason) of those before. shard: its path in the version.

    versions: all that hold the very image, this one included.
    """

    row: SampleRow
    version: VersionRow
    shard: str
    job: Job
    recipe: dict[str, Any]
    model: ModelOrigin
    fingerprint: dict[str, Any]
    code_version: str | None
    rejected: list[tuple[int, str]]
    versions: list[Holder]


@dataclass(frozen=True)
class ModelLineage:
    """models: several if the name was another model's before. versions: one page."""

    name: str
    models: list[ModelOrigin]
    totals: ModelTotals
    versions: list[VersionRow]
    tombstone: Tombstone | None


def explain_sample(catalog: Catalog, version: VersionRow, key: str) -> SampleLineage:
    """key: CLASS-ORDINAL. Raises InputError, or NotFoundError naming what there is."""
    row = find_sample(catalog, version, key)
    job = get_job(catalog, version.job_id)
    assert job is not None
    recipe = json.loads(job.recipe_body)
    prints = json.loads(job.fingerprint)
    prefix = version_prefix(job.tenant, job.name, job.version)
    pinned = recipe["generator"]
    return SampleLineage(
        row=row,
        version=version,
        shard=shard_keys(catalog, job.id, [row.shard])[row.shard].removeprefix(prefix),
        job=job,
        recipe=recipe,
        model=_origin(
            model_facts(catalog, pinned["model_digest"]),
            Ref(pinned["model"], pinned["model_digest"]),
        ),
        fingerprint=prints,
        code_version=prints.get("packing", {}).get("datagen"),
        rejected=rejected_before(catalog, job.id, row.class_name, row.ordinal),
        versions=holders(catalog, job.id, row.class_name, row.ordinal),
    )


def explain_model(
    catalog: Catalog,
    settings: Settings,
    name: str,
    *,
    after: tuple[str, int] | None,
    limit: int,
) -> ModelLineage:
    """Raises NotFoundError."""
    found = find_models(catalog, settings, name)
    tombstone = get_tombstone(catalog, MODEL, name)
    if not found and tombstone is None:
        raise NotFoundError(f"model {name!r} does not exist")
    return _made(catalog, settings, name, found, tombstone, after=after, limit=limit)


def explain_source(
    catalog: Catalog,
    settings: Settings,
    sha256: str,
    *,
    after: tuple[str, int] | None,
    limit: int,
) -> ModelLineage:
    """Of all models that were trained on it. Raises NotFoundError."""
    found = find_source(catalog, settings, sha256)
    tombstone = get_tombstone(catalog, SOURCE, sha256)
    if not found and tombstone is None:
        raise NotFoundError(f"source {sha256}: no model was trained on it")
    return _made(catalog, settings, sha256, found, tombstone, after=after, limit=limit)


def _origin(facts: dict[str, Any], model: Ref) -> ModelOrigin:
    training = facts.get("training")
    licence, source = facts.get("licence"), facts.get("source")
    return ModelOrigin(
        name=model.name,
        digest=model.digest,
        licence=licence,
        source=source,
        training=None
        if training is None
        else TrainingData(
            source=source or "",
            licence=licence or "",
            sha256=training["data_sha256"],
            num_train=training["num_train"],
            num_held_out=training["num_held_out"],
        ),
    )


def _facts_here(settings: Settings, model: Ref) -> dict[str, Any]:
    """Of the service's own models, which nobody may have used yet."""
    path = model_names([settings.models_dir]).get(model.name)
    if path is None:
        return {}
    return describe_model(path).facts.model_dump(mode="json")


def _made(
    catalog: Catalog,
    settings: Settings,
    name: str,
    found: list[Ref],
    tombstone: Tombstone | None,
    *,
    after: tuple[str, int] | None,
    limit: int,
) -> ModelLineage:
    digests = [model.digest for model in found]
    return ModelLineage(
        name=name,
        models=[
            _origin(model_facts(catalog, m.digest) or _facts_here(settings, m), m) for m in found
        ],
        totals=made_totals(catalog, digests),
        versions=made_versions(catalog, digests, after=after, limit=limit),
        tombstone=tombstone,
    )
