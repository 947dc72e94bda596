"""Withdrawing a source: all that goes back to its images is found, refused, then deleted.

The source trains nothing from then on, under any name; models that were trained on it and all that
they made are revoked as in revocation.py. Called by `datagen sources` and the API.
"""

from __future__ import annotations

from dataclasses import dataclass

from datagen.catalog.catalog import Catalog
from datagen.catalog.sources import (
    Source,
    SourceUse,
    mark_withdrawn,
    models_derived,
    sources_of_digests,
    uses_of,
)
from datagen.catalog.tombstones import (
    SOURCE,
    Descent,
    Ref,
    commit_revoked,
    find_descent,
)
from datagen.errors import InputError
from datagen.revocation import find_source as find_models_of
from datagen.revocation import with_descendants
from datagen.settings import Settings
from datagen.sources import each_source, find_source, parse_source

MAX_REASON_CHARS = 500


@dataclass(frozen=True)
class Derived:
    """sources: the images, under all terms. uses: trainings on them. descent: the models that go
    back to them, and what these made and is not revoked yet."""

    sources: list[Source]
    uses: list[SourceUse]
    descent: Descent


def derived_of(catalog: Catalog, settings: Settings, text: str) -> Derived:
    """Everything that was made from a source; nothing is changed. text: NAME for all of its
    versions, or NAME@VERSION. Raises InputError or NotFoundError."""
    found = _found(catalog, text)
    models = _models(catalog, settings, found)
    return Derived(found, uses_of(catalog, found), find_descent(catalog, models, None))


def withdraw(
    catalog: Catalog, settings: Settings, text: str, *, reason: str, actor: str
) -> Derived:
    """As derived_of, at once and for ever. Withdrawing again takes along what came since; so
    whoever dies in between does no harm."""
    if not 1 <= len(reason.strip()) <= MAX_REASON_CHARS:
        raise InputError(f"reason: expected 1 to {MAX_REASON_CHARS} characters")
    found = _found(catalog, text)
    mark_withdrawn(catalog, found, reason=reason)
    uses = uses_of(catalog, found)
    models = _models(catalog, settings, found)
    root = Ref(found[0].label, found[0].digest)
    descent = commit_revoked(
        catalog,
        root,
        kind=SOURCE,
        models_found=models,
        version=None,
        reason=reason,
        actor=actor,
    )
    # By these a model of another home is known that was trained on the same images.
    for digest in sorted(_digests(found, uses)):
        commit_revoked(
            catalog,
            Ref(digest, digest),
            kind=SOURCE,
            models_found=[],
            version=None,
            reason=reason,
            actor=actor,
        )
    return Derived(_found(catalog, text), uses, descent)


def _found(catalog: Catalog, text: str) -> list[Source]:
    """The source, and the same images under other terms."""
    name, version = parse_source(text)
    asked = [find_source(catalog, text)]
    if version is None:
        asked = [each for each in each_source(catalog) if each.name == name]
    return sources_of_digests(catalog, {source.digest for source in asked})


def _models(catalog: Catalog, settings: Settings, found: list[Source]) -> list[Ref]:
    """In the catalog and in the folders of the home, used or not."""
    models = set(models_derived(catalog, found))
    for sha256 in _digests(found, uses_of(catalog, found)):
        models.update(find_models_of(catalog, settings, sha256))
    return with_descendants(catalog, settings, models)


def _digests(found: list[Source], uses: list[SourceUse]) -> set[str]:
    """Of the images as they were registered, and as trainings read them."""
    read = {use.data_sha256 for use in uses if use.data_sha256}
    return read | {source.digest for source in found}
