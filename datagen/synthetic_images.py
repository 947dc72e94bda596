"""Synthetic images among those that are to train: by what the files say, by their pixels, and by a
data set's manifest beside them. Called by sources.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datagen.catalog.catalog import Catalog
from datagen.catalog.lineage import model_facts
from datagen.catalog.sources import made_here
from datagen.errors import ModelError
from datagen.generators.model_directory import describe_model, model_names
from datagen.real_images.reading import Reading
from datagen.settings import Settings

MANIFEST = "manifest.json"
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Synthetic:
    """names: of the synthetic images. depth: 0 if there are none, else 1 + the greatest depth of
    the models that made them; an unknown model counts as one that saw real images alone."""

    names: frozenset[str]
    depth: int


def find_synthetic(catalog: Catalog, settings: Settings, path: Path, reading: Reading) -> Synthetic:
    """path: where the images were read from. Pixels are compared with those of all images that
    this home's or tenant's models drew, before any augmentation; images of one value alone prove
    nothing."""
    names = set(reading.marks)
    makers: set[str] = set()
    beside = _models_beside(path)
    if beside:
        names |= set(reading.images.names)
        makers |= beside
    by_pixels = _names_by_pixels(reading)
    keys = {key for key in reading.marks.values() if key}
    made = made_here(catalog, attempt_keys=keys, raw_sha256=by_pixels)
    for key, raw, model, conditioner in made:
        if raw in by_pixels or key in keys:
            makers |= {model} if conditioner is None else {model, conditioner}
        names |= set(by_pixels.get(raw, ()))
    if not names:
        return Synthetic(frozenset(), 0)
    depths = [_depth_of(catalog, settings, digest) for digest in makers]
    return Synthetic(frozenset(names), 1 + max(depths, default=0))


def _names_by_pixels(reading: Reading) -> dict[str, list[str]]:
    """sha256 of the pixels in the file, hex -> names."""
    flat = reading.images.images.reshape(len(reading.images), -1)
    found: dict[str, list[str]] = {}
    for row, (digest, name) in enumerate(
        zip(reading.pixel_sha256, reading.images.names, strict=True)
    ):
        if np.ptp(flat[row]):
            found.setdefault(digest.hex(), []).append(name)
    return found


def _models_beside(path: Path) -> set[str]:
    """The digests of the models in the manifest of a data set that was pulled to the folder."""
    for folder in (path, path.parent):
        file = folder / MANIFEST
        if file.is_file() and file.stat().st_size <= _MAX_BYTES:
            try:
                content: Any = json.loads(file.read_bytes())
                is_ours = {"recipe_digest", "shards", "counts"} <= content.keys()
                if is_ours:
                    conditioner = content["recipe"]["conditioning"].get("model_digest")
                    found = {str(content["model"]["digest"])}
                    return found if conditioner is None else found | {str(conditioner)}
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue  # of another program
    return set()


def _depth_of(catalog: Catalog, settings: Settings, digest: str) -> int:
    """Of a model; 0 for one that nobody here knows."""
    facts = model_facts(catalog, digest) or _facts_in_home(settings, digest)
    training = facts.get("training") or {}
    return int(training.get("generation_depth", 0))


def _facts_in_home(settings: Settings, digest: str) -> dict[str, Any]:
    for path in model_names([settings.models_dir]).values():
        try:
            model = describe_model(path)
        except ModelError:
            continue
        if model.digest == digest:
            return model.facts.model_dump(mode="json")
    return {}
