"""Pages of data sets, versions, samples and objects. Page N costs what page 1 costs: each goes on
after the last key of the page before, along an index. Called by the API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    case,
    cast,
    func,
    literal,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import NewObject, SampleRow, VersionRow
from datagen.catalog.tables import dataset_versions, objects, samples
from datagen.catalog.versions import select_versions

# A filter on scores has no index: a page looks at so many rows, and may come back short.
WINDOW_ROWS = 10_000

_STORED_KINDS = ("document", "index", "shard")


class DatasetRow(NamedTuple):
    """published_at: of the version published last."""

    name: str
    num_versions: int
    newest_version: int
    published_at: float


@dataclass(frozen=True)
class SampleFilter:
    """min_scores, max_scores: filter name -> bound, both inclusive."""

    class_name: str | None = None
    split: str | None = None
    min_scores: Mapping[str, float] = field(default_factory=dict)
    max_scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_bounds(self) -> bool:
        return bool(self.min_scores or self.max_scores)


class SamplePage(NamedTuple):
    """last: key to go on after, None at the end. Pages before the end may be short, even empty."""

    rows: list[SampleRow]
    last: tuple[str, int] | None


def list_datasets(catalog: Catalog, *, after: str | None, limit: int) -> list[DatasetRow]:
    """By name; those whose versions were all revoked as well. after: the last name before."""
    query = (
        select(
            dataset_versions.c.name,
            func.count(),
            func.max(dataset_versions.c.version),
            func.max(dataset_versions.c.published_at),
        )
        .where(
            catalog.owns(dataset_versions.c.tenant),
            dataset_versions.c.name.not_like("preview.%"),
        )
        .group_by(dataset_versions.c.name)
        .order_by(dataset_versions.c.name)
        .limit(limit)
    )
    if after is not None:
        query = query.where(dataset_versions.c.name > after)
    with catalog.reading() as connection:
        return [DatasetRow(*row) for row in connection.execute(query)]


def page_versions(
    catalog: Catalog, name: str, *, before: int | None, limit: int
) -> list[VersionRow]:
    """Newest first. before: the last version of the page before."""
    query = (
        select_versions(catalog)
        .where(dataset_versions.c.name == name)
        .order_by(dataset_versions.c.version.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(dataset_versions.c.version < before)
    with catalog.reading() as connection:
        return [VersionRow(**row._mapping) for row in connection.execute(query)]


def page_samples(
    catalog: Catalog,
    job_id: int,
    wanted: SampleFilter,
    *,
    after: tuple[str, int] | None,
    limit: int,
) -> SamplePage:
    """By class name and ordinal. after: `last` of the page before."""
    sqlite = catalog.engine.dialect.name == "sqlite"
    window = _window(job_id, wanted, after=after)
    if not wanted.has_bounds:
        with catalog.reading() as connection:
            rows = [SampleRow(*row) for row in connection.execute(window.limit(limit + 1))]
        more = len(rows) > limit
        return SamplePage(rows[:limit], _key(rows[limit - 1]) if more else None)
    looked = window.limit(WINDOW_ROWS).subquery()
    matching = (
        select(looked)
        .where(*_bounds(looked.c.scores, wanted, sqlite=sqlite))
        .order_by(looked.c.class_name, looked.c.ordinal)
        .limit(limit + 1)
    )
    end = (
        select(looked.c.class_name, looked.c.ordinal)
        .order_by(looked.c.class_name.desc(), looked.c.ordinal.desc())
        .limit(1)
    )
    with catalog.reading() as connection:
        rows = [SampleRow(*row) for row in connection.execute(matching)]
        if len(rows) > limit:
            return SamplePage(rows[:limit], _key(rows[limit - 1]))
        last = connection.execute(end).first()
        if last is None:
            return SamplePage(rows, None)
        key = (str(last[0]), int(last[1]))
        beyond = connection.execute(_window(job_id, wanted, after=key).limit(1)).first()
        return SamplePage(rows, None if beyond is None else key)


def page_objects(
    catalog: Catalog, job_id: int, *, after: tuple[str, int] | None, limit: int
) -> list[NewObject]:
    """What the manifest of a published version names, by kind and position."""
    place = tuple_(objects.c.kind, objects.c.position)
    query = (
        _select_objects()
        .where(objects.c.job_id == job_id, objects.c.kind.in_(_STORED_KINDS))
        .order_by(objects.c.kind, objects.c.position)
        .limit(limit)
    )
    if after is not None:
        query = query.where(place > tuple_(literal(after[0]), literal(after[1])))
    with catalog.reading() as connection:
        return [NewObject(*row) for row in connection.execute(query)]


def shard_keys(catalog: Catalog, job_id: int, positions: Collection[int]) -> dict[int, str]:
    """Position -> key of the store."""
    query = select(objects.c.position, objects.c.key).where(
        objects.c.job_id == job_id,
        objects.c.kind == "shard",
        objects.c.position.in_(sorted(positions)),
    )
    with catalog.reading() as connection:
        return {int(position): str(key) for position, key in connection.execute(query)}


def find_object(catalog: Catalog, job_id: int, key: str) -> NewObject | None:
    """An object that the manifest of a published version names."""
    query = _select_objects().where(
        objects.c.key == key, objects.c.job_id == job_id, objects.c.kind.in_(_STORED_KINDS)
    )
    with catalog.reading() as connection:
        row = connection.execute(query).first()
        return None if row is None else NewObject(*row)


def _window(job_id: int, wanted: SampleFilter, *, after: tuple[str, int] | None) -> Select[Any]:
    """Along the primary key or, of one split, along its index."""
    columns = [samples.c[name] for name in SampleRow._fields]
    query = (
        select(*columns)
        .where(samples.c.job_id == job_id)
        .order_by(samples.c.class_name, samples.c.ordinal)
    )
    if wanted.split is not None:
        query = query.where(samples.c.split == wanted.split)
    if wanted.class_name is not None:
        query = query.where(samples.c.class_name == wanted.class_name)
        if after is not None:
            query = query.where(samples.c.ordinal > after[1])
    elif after is not None:
        place = tuple_(samples.c.class_name, samples.c.ordinal)
        query = query.where(place > tuple_(literal(after[0]), literal(after[1])))
    return query


def _bounds(
    scores: ColumnElement[str], wanted: SampleFilter, *, sqlite: bool
) -> list[ColumnElement[bool]]:
    """A sample without the score, or whose score is no number, is not within its bounds."""
    found = []
    for name, bound in wanted.min_scores.items():
        found.append(_number(scores, name, sqlite=sqlite) >= bound)
    for name, bound in wanted.max_scores.items():
        found.append(_number(scores, name, sqlite=sqlite) <= bound)
    return found


def _number(scores: ColumnElement[str], name: str, *, sqlite: bool) -> ColumnElement[float]:
    """name: of a filter: letters, digits, '_' and '-'."""
    if sqlite:
        path = f'$."{name}"'
        is_number = func.json_type(scores, path).in_(("integer", "real"))
        return func.iif(is_number, func.json_extract(scores, path), None)
    value = cast(scores, JSONB)[name]
    has_number = func.jsonb_typeof(value) == "number"
    return case((has_number, cast(value.astext, Float)), else_=None)


def _select_objects() -> Select[Any]:
    return select(*[objects.c[name] for name in NewObject._fields])


def _key(row: SampleRow) -> tuple[str, int]:
    return row.class_name, row.ordinal
