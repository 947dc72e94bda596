"""Registered sources of real images, and what was trained on them. Called by datagen/sources.py."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, func, insert, literal, or_, select, tuple_, union, update
from sqlalchemy.exc import IntegrityError

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import now_s
from datagen.catalog.tables import (
    contexts,
    jobs,
    models,
    registered_models,
    samples,
    source_uses,
    sources,
    uses_model,
)
from datagen.catalog.tombstones import Ref, registered_name
from datagen.errors import ConflictError

_ROWS_AT_ONCE = 10_000
_NUM_TRIES = 5


class Terms(NamedTuple):
    """Under which images were given. description: where they come from. consent: or another legal
    basis. expires_on: the last day, as 2027-01-31; None if they may be used for ever."""

    licence: str
    description: str
    permitted_use: str
    permitted_uses: tuple[str, ...]
    consent: str
    contact: str
    expires_on: str | None


@dataclass(frozen=True)
class NewSource:
    """digest: of pixels and classes, from class_digests (see real_images/reading.py). depth: of
    generation, 0 for real images. profile: of the AWS configuration that may read the location."""

    name: str
    digest: str
    class_digests: tuple[str, ...]
    num_images: int
    depth: int
    terms: Terms
    location: str
    format: str
    profile: str | None
    created_by: str | None


@dataclass(frozen=True)
class Source(NewSource):
    tenant: str
    version: int
    created_at: float
    withdrawn_at: float | None
    withdrawn_reason: str | None

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class SourceUse:
    """data_sha256: of the images as the training read them; empty if it read none of the source,
    whose images trained the model that its weights began from."""

    source_name: str
    source_version: int
    model_name: str
    model_digest: str
    data_sha256: str
    trained_at: float


def insert_source(catalog: Catalog, new: NewSource) -> Source:
    """The next version of its name. Raises ConflictError if others keep registering it."""
    assert catalog.tenant is not None, "sources are registered for one tenant"
    own = (sources.c.tenant == catalog.tenant) & (sources.c.name == new.name)
    for _ in range(_NUM_TRIES):
        try:
            with catalog.transaction() as connection:
                newest = connection.execute(select(func.max(sources.c.version)).where(own))
                version = (newest.scalar_one_or_none() or 0) + 1
                connection.execute(
                    insert(sources).values(
                        tenant=catalog.tenant,
                        version=version,
                        created_at=now_s(connection),
                        **_columns(new),
                    )
                )
                row = connection.execute(
                    select(sources).where(own, sources.c.version == version)
                ).one()
                return _source(row)
        except IntegrityError:
            continue  # another registration took the number
    raise ConflictError(f"source {new.name!r} is being registered by others; try again")


def get_source(catalog: Catalog, name: str, version: int | None = None) -> Source | None:
    """version: None for the newest."""
    query = _select_sources(catalog).where(sources.c.name == name)
    if version is not None:
        query = query.where(sources.c.version == version)
    with catalog.reading() as connection:
        row = connection.execute(query.order_by(sources.c.version.desc()).limit(1)).first()
        return None if row is None else _source(row)


def sources_of_digests(catalog: Catalog, digests: Collection[str]) -> list[Source]:
    """Of these images, under whatever terms; the oldest first."""
    query = (
        _select_sources(catalog)
        .where(sources.c.digest.in_(digests))
        .order_by(sources.c.created_at, sources.c.name, sources.c.version)
    )
    with catalog.reading() as connection:
        return [_source(row) for row in connection.execute(query)]


def list_sources(
    catalog: Catalog,
    *,
    name: str | None = None,
    after: tuple[str, int] | None = None,
    limit: int = 200,
) -> list[Source]:
    """By name and version, withdrawn ones as well. after: the last one of the page before."""
    query = _select_sources(catalog).order_by(sources.c.name, sources.c.version).limit(limit)
    if name is not None:
        query = query.where(sources.c.name == name)
    if after is not None:
        query = query.where(tuple_(sources.c.name, sources.c.version) > tuple_(*after))
    with catalog.reading() as connection:
        return [_source(row) for row in connection.execute(query)]


def record_use(
    catalog: Catalog,
    *,
    source_name: str,
    source_version: int,
    model_name: str,
    model_digest: str,
    data_sha256: str,
) -> None:
    """That a model was trained on a source; once more changes nothing."""
    assert catalog.tenant is not None, "a tenant trains on its own sources"
    try:
        with catalog.transaction() as connection:
            connection.execute(
                insert(source_uses).values(
                    tenant=catalog.tenant,
                    model_digest=model_digest,
                    source_name=source_name,
                    source_version=source_version,
                    model_name=model_name,
                    data_sha256=data_sha256,
                    trained_at=now_s(connection),
                )
            )
    except IntegrityError:
        pass


def uses_of(catalog: Catalog, found: Sequence[Source]) -> list[SourceUse]:
    """What was trained on these sources here, by time."""
    query = (
        select(*(source_uses.c[name] for name in SourceUse.__dataclass_fields__))
        .where(catalog.owns(source_uses.c.tenant), _of_sources(found))
        .order_by(source_uses.c.trained_at, source_uses.c.model_name)
    )
    with catalog.reading() as connection:
        return [SourceUse(**row._mapping) for row in connection.execute(query)]


def models_derived(catalog: Catalog, found: Sequence[Source]) -> list[Ref]:
    """All models of the tenant that go back to these sources, in one query: trained here, private
    ones too; registered or used, if their config names the images."""
    digests = sorted({source.digest for source in found})
    here = catalog.owns(source_uses.c.tenant) & _of_sources(found)
    read_as = select(source_uses.c.data_sha256).where(here, source_uses.c.data_sha256 != "")
    trained = select(literal(2), source_uses.c.model_name, source_uses.c.model_digest).where(here)
    registered = select(literal(0), registered_name(), registered_models.c.digest).where(
        catalog.owns(registered_models.c.tenant),
        or_(
            registered_models.c.training_data_sha256.in_(read_as),
            *(registered_models.c.config.contains(digest) for digest in digests),
        ),
    )
    of_trained = models.c.digest.in_(select(source_uses.c.model_digest).where(here))
    used = (
        select(literal(1), models.c.name, models.c.digest)
        .join(contexts, uses_model(models.c.digest))
        .where(
            catalog.owns(contexts.c.tenant),
            or_(of_trained, *(models.c.config.contains(digest) for digest in digests)),
        )
    )
    with catalog.reading() as connection:
        rows = sorted(tuple(row) for row in connection.execute(union(trained, registered, used)))
    # A worker trained it before its version had a number: the registry knows better.
    names = {digest: name for _, name, digest in reversed(rows)}
    return sorted(Ref(str(name), str(digest)) for digest, name in names.items())


def mark_withdrawn(catalog: Catalog, found: Sequence[Source], *, reason: str) -> None:
    """Those that are not withdrawn yet: they train nothing from now on."""
    with catalog.transaction() as connection:
        connection.execute(
            update(sources)
            .where(
                catalog.owns(sources.c.tenant),
                tuple_(sources.c.name, sources.c.version).in_(_keys(found)),
                sources.c.withdrawn_at.is_(None),
            )
            .values(withdrawn_at=now_s(connection), withdrawn_reason=reason)
        )


def made_here(
    catalog: Catalog, *, attempt_keys: Collection[str], raw_sha256: Collection[str]
) -> list[tuple[str, str, str, str | None]]:
    """(attempt key, sha256 of the raw pixels, digest of the model, and of the one that drew its
    condition) of the tenant's published images that have one of the keys or pixels. Walks over all
    images ever made: a database without an index on either is read once, a million rows in
    seconds."""
    query = (
        select(
            samples.c.attempt_key,
            samples.c.raw_sha256,
            contexts.c.model_digest,
            contexts.c.conditioner_digest,
        )
        .join(jobs, jobs.c.id == samples.c.job_id)
        .join(contexts, contexts.c.id == jobs.c.context_id)
        .where(catalog.owns(jobs.c.tenant))
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    with catalog.reading() as connection:
        return [
            (str(key), str(raw), str(model), conditioner)
            for key, raw, model, conditioner in connection.execute(query)
            if raw in raw_sha256 or key in attempt_keys
        ]


def today(catalog: Catalog) -> str:
    """By the database's clock, in UTC, as 2027-01-31."""
    import datetime

    with catalog.reading() as connection:
        return datetime.datetime.fromtimestamp(now_s(connection), datetime.UTC).date().isoformat()


def _of_sources(found: Sequence[Source]) -> Any:
    return tuple_(source_uses.c.source_name, source_uses.c.source_version).in_(_keys(found))


def _keys(found: Iterable[Source]) -> list[tuple[str, int]]:
    return [(source.name, source.version) for source in found]


def _columns(new: NewSource) -> dict[str, Any]:
    return {
        **{name: getattr(new, name) for name in _PLAIN},
        **new.terms._asdict(),
        "permitted_uses": json.dumps(new.terms.permitted_uses),
        "class_digests": json.dumps(new.class_digests),
    }


_PLAIN = ("name", "digest", "num_images", "depth", "location", "format", "profile", "created_by")


def _source(row: Row[Any]) -> Source:
    content = dict(row._mapping)
    content["permitted_uses"] = tuple(json.loads(content["permitted_uses"]))
    content["class_digests"] = tuple(json.loads(content["class_digests"]))
    terms = Terms(**{name: content.pop(name) for name in Terms._fields})
    return Source(terms=terms, **content)


def _select_sources(catalog: Catalog) -> Select[Any]:
    return select(sources).where(catalog.owns(sources.c.tenant))
