"""Databases that have their tables already: migrated once in a process, and copied.

A migration from nothing takes 0.1 s of a core, and most tests start with a database. That
migrations do what they should is for tests/catalog/test_upgrade.py. Called by fixtures.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from datagen.catalog.catalog import Catalog
from datagen.catalog.schema import migrate


def lay_tables(database_url: str) -> None:
    """Of the newest schema. What exists is brought to it, as `migrate` does."""
    path = Path(database_url.removeprefix("sqlite:///"))
    if database_url.startswith("sqlite") and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_migrated_file())
        return
    migrate_url(database_url)


def migrate_url(database_url: str) -> None:
    catalog = Catalog(database_url, tenant=None)
    migrate(catalog)
    catalog.close()


@cache
def _migrated_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "catalog.sqlite3")
        migrate_url(f"sqlite:///{path}")
        return path.read_bytes()
