"""An empty catalog of each kind of database, of all tenants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import NewJob, PinnedModel, create_job
from datagen.catalog.rows import FINISH, NewUnit, VersionRow
from datagen.catalog.units import claim_unit
from datagen.catalog.versions import commit_published, get_version
from tests.schema import lay_tables


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """Without tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
    else:
        url = request.getfixturevalue("empty_postgres_url")
    opened = Catalog(url, tenant=None)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """With tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
        lay_tables(url)
    else:
        url = request.getfixturevalue("postgres_url")
    opened = Catalog(url, tenant=None)
    yield opened
    opened.close()


def published_row(catalog: Catalog, *, seed: str = "a") -> VersionRow:
    """A version of the data set small, of the catalog's tenant: rows alone, no objects."""
    new = NewJob(
        name="small",
        recipe_digest=seed * 64,
        recipe_body="{}",
        model=PinnedModel("b" * 64, "noise", "noise", "{}"),
        context_digest="c" * 64,
        context_body="{}",
        fingerprint="{}",
        unit_size=2,
        batch_size=2,
    )
    job = create_job(catalog, new, [NewUnit(FINISH, 0, 0, None)])
    unit = claim_unit(catalog, job_id=job.id, owner="me", lease_s=60, max_tries=3)
    assert unit is not None
    commit_published(
        catalog,
        unit,
        digest="d" * 64,
        manifest_sha256="e" * 64,
        num_samples=1,
        size_bytes=1,
        stored=[],
        seconds=0.1,
    )
    row = get_version(catalog, "small", job.version)
    assert row is not None
    return row
