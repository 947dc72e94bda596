"""One row per delivered image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Select, func, select

from datagen.catalog.catalog import Catalog
from datagen.catalog.connection import bulk_insert
from datagen.catalog.rows import NewObject, SampleRow, Unit
from datagen.catalog.tables import objects, samples
from datagen.catalog.units import finish_unit, insert_objects

_STREAM_ROWS = 1_000
_ASKED_AT_ONCE = 500


def commit_packed(
    catalog: Catalog, unit: Unit, shard: NewObject, rows: Iterable[SampleRow], *, seconds: float
) -> None:
    """The shard's object and its samples, in bulk, with the unit: all or nothing."""
    with catalog.transaction() as connection:
        finish_unit(connection, unit, seconds=seconds)
        insert_objects(connection, unit.job_id, [shard])
        columns = ("job_id", *SampleRow._fields)
        bulk_insert(connection, samples, columns, ((unit.job_id, *row) for row in rows))


def iterate_samples(catalog: Catalog, job_id: int, class_name: str) -> Iterator[SampleRow]:
    """The samples of one class by ordinal, streaming."""
    query = _select_samples(job_id, class_name)
    with (
        catalog.reading() as connection,
        connection.execution_options(yield_per=_STREAM_ROWS).execute(query) as result,
    ):
        for row in result:
            yield SampleRow(*row)


def first_samples(catalog: Catalog, job_id: int, class_name: str, *, limit: int) -> list[SampleRow]:
    """The samples of the lowest ordinals of one class."""
    with catalog.reading() as connection:
        rows = connection.execute(_select_samples(job_id, class_name).limit(limit))
        return [SampleRow(*row) for row in rows]


def get_sample(catalog: Catalog, job_id: int, class_name: str, ordinal: int) -> SampleRow | None:
    columns = [samples.c[name] for name in SampleRow._fields]
    query = select(*columns).where(
        samples.c.job_id == job_id,
        samples.c.class_name == class_name,
        samples.c.ordinal == ordinal,
    )
    with catalog.reading() as connection:
        row = connection.execute(query).first()
        return None if row is None else SampleRow(*row)


def raw_digests(catalog: Catalog, job_id: int, keys: Iterable[str]) -> dict[str, str]:
    """Sample key -> sha256 of its raw image; keys that the job has no sample of are left out."""
    by_class: dict[str, list[int]] = {}
    for key in keys:
        class_name, _, ordinal = key.rpartition("-")
        if re.fullmatch(r"[0-9]{8,9}", ordinal):
            by_class.setdefault(class_name, []).append(int(ordinal))
    found = {}
    with catalog.reading() as connection:
        for class_name, ordinals in by_class.items():
            for first in range(0, len(ordinals), _ASKED_AT_ONCE):
                query = select(samples.c.ordinal, samples.c.raw_sha256).where(
                    samples.c.job_id == job_id,
                    samples.c.class_name == class_name,
                    samples.c.ordinal.in_(ordinals[first : first + _ASKED_AT_ONCE]),
                )
                for ordinal, raw_sha256 in connection.execute(query):
                    found[f"{class_name}-{ordinal:08d}"] = str(raw_sha256)
    return found


def counts_by_split(catalog: Catalog, job_id: int) -> dict[str, dict[str, int]]:
    """class name -> split -> images packed."""
    query = (
        select(samples.c.class_name, samples.c.split, func.count())
        .where(samples.c.job_id == job_id)
        .group_by(samples.c.class_name, samples.c.split)
    )
    with catalog.reading() as connection:
        counts: dict[str, dict[str, int]] = {}
        for class_name, split, count in connection.execute(query):
            counts.setdefault(class_name, {})[split] = count
        return counts


def list_shards(catalog: Catalog, job_id: int) -> list[NewObject]:
    """The shards of a job in order."""
    columns = [objects.c[name] for name in NewObject._fields]
    query = (
        select(*columns)
        .where(objects.c.job_id == job_id, objects.c.kind == "shard")
        .order_by(objects.c.position)
    )
    with catalog.reading() as connection:
        return [NewObject(*row) for row in connection.execute(query)]


def _select_samples(job_id: int, class_name: str) -> Select[Any]:
    columns = [samples.c[name] for name in SampleRow._fields]
    return (
        select(*columns)
        .where(samples.c.job_id == job_id, samples.c.class_name == class_name)
        .order_by(samples.c.ordinal)
    )
