"""An empty catalog of each kind of database, of all tenants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.schema import migrate


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """Without tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'catalog.sqlite3'}"
    else:
        url = request.getfixturevalue("postgres_url")
    opened = Catalog(url, tenant=None)
    yield opened
    opened.close()


@pytest.fixture
def any_catalog(empty_catalog: Catalog) -> Catalog:
    migrate(empty_catalog)
    return empty_catalog
