"""The card and the Croissant of a published version again, with what was measured since.

The documents of the version itself never change: these are attached beside them. Called by
whatever attaches an evaluation.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import replace

from datagen.attachments import CARD, attach
from datagen.catalog.attachments import AttachmentRow
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.lineage import model_facts, model_generator
from datagen.formats.card import write_card
from datagen.formats.croissant import croissant
from datagen.formats.origin import ModelOrigin
from datagen.generators import GENERATORS
from datagen.store import Store
from datagen.versions import OpenVersion

CARD_FILE, CROISSANT_FILE = "README.md", "croissant.json"


def attach_card(
    catalog: Catalog,
    store: Store,
    opened: OpenVersion,
    figures: Mapping[str, str],
    *,
    created_by: str | None = None,
) -> list[AttachmentRow]:
    """figures: name -> value in words, such as {"FID": "12.3 (floor 4.5), n 5,000"}."""
    documents = _documents(catalog, opened, figures)
    return [
        attach(
            catalog,
            store,
            opened.row,
            kind=CARD,
            file_name=name,
            data=data,
            summary={},
            created_by=created_by,
        )
        for name, data in documents.items()
    ]


def _documents(
    catalog: Catalog, opened: OpenVersion, figures: Mapping[str, str]
) -> dict[str, bytes]:
    """File name -> content. A version without images has no Croissant."""
    manifest = opened.manifest
    origin = _origin(catalog, manifest.model["digest"])
    conditioner = manifest.recipe.get("conditioning", {}).get("model_digest")
    if conditioner is not None:
        origin = replace(origin, conditions=_origin(catalog, conditioner))
    found = {CARD_FILE: write_card(manifest, origin=origin, figures=figures).encode()}
    if manifest.num_samples:
        job = get_job(catalog, opened.row.job_id)
        assert job is not None
        created = datetime.datetime.fromtimestamp(job.created_at, datetime.UTC).date()
        described = croissant(manifest, origin=origin, date_published=created, figures=figures)
        found[CROISSANT_FILE] = json.dumps(described, indent=2, ensure_ascii=False).encode()
    return found


def _origin(catalog: Catalog, model_digest: str) -> ModelOrigin:
    facts = model_facts(catalog, model_digest)
    licence, source = facts.get("licence"), facts.get("source")
    spec = GENERATORS.get(model_generator(catalog, model_digest) or "")
    if spec is None or not spec.needs_weights:
        return ModelOrigin(license=licence, training_data=None, training_data_license=None)
    return ModelOrigin(license=licence, training_data=source, training_data_license=licence)
