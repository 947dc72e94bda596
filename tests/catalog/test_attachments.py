"""Rows of attachments: on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from datagen.catalog.attachments import (
    NewAttachment,
    find_attachment,
    list_attachments,
    record_attachment,
)
from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import CANCELLED, VersionRow
from datagen.catalog.samples import raw_digests
from datagen.catalog.tables import dataset_versions, jobs
from datagen.errors import ConflictError, RevokedError
from tests.catalog.conftest import published_row


@pytest.fixture
def catalog(any_catalog: Catalog) -> Catalog:
    return any_catalog.of("local")


@pytest.fixture
def row(catalog: Catalog) -> VersionRow:
    return published_row(catalog)


def new(row: VersionRow, name: str = "a.json") -> NewAttachment:
    key = f"local/datasets/small/1/attachments/{name}"
    return NewAttachment(row.job_id, "evaluation", name, key, "f" * 64, 7, "{}", 1.5, "me")


def test_the_same_object_again_is_the_same_row_and_the_newest(
    catalog: Catalog, row: VersionRow
) -> None:
    first = record_attachment(catalog, new(row))
    second = record_attachment(catalog, new(row, "b.json"))
    assert [each.id for each in list_attachments(catalog, row.job_id)] == [second.id, first.id]
    again = record_attachment(catalog, replace(new(row), summary='{"fid": 2}'))
    assert (again.id, again.summary) == (first.id, '{"fid": 2}')
    assert [each.id for each in list_attachments(catalog, row.job_id)] == [first.id, second.id]


def test_they_are_found_by_kind_name_and_key_and_are_one_tenants(
    catalog: Catalog, row: VersionRow
) -> None:
    made = record_attachment(catalog, new(row))
    assert list_attachments(catalog, row.job_id, kind="report") == []
    assert list_attachments(catalog, row.job_id, kind="evaluation", file_name="a.json") == [made]
    assert find_attachment(catalog, row.job_id, made.key) == made
    other = catalog.of("other")
    assert find_attachment(other, row.job_id, made.key) is None
    assert list_attachments(other, row.job_id) == []


def test_nothing_is_attached_to_what_was_revoked_or_cancelled(
    catalog: Catalog, row: VersionRow
) -> None:
    with catalog.transaction() as connection:
        connection.execute(update(jobs).values(state=CANCELLED))
    with pytest.raises(ConflictError, match="cancelled"):
        record_attachment(catalog, new(row))
    with catalog.transaction() as connection:
        connection.execute(update(dataset_versions).values(revoked_at=1.0, revoked_reason="gone"))
    with pytest.raises(RevokedError, match="revoked: gone"):
        record_attachment(catalog, new(row))


def test_keys_of_no_sample_have_no_raw_image(catalog: Catalog, row: VersionRow) -> None:
    hostile = [
        "cat-00000001",
        "cat",
        "",
        "-00000001",
        "cat-1",
        "cat-99999999999",
        "x' OR 1-0000001",
    ]
    assert raw_digests(catalog, row.job_id, hostile) == {}
