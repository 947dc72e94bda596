"""Published noise versions for the tests of the commands, and damage done to them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import SampleRow, VersionRow
from datagen.catalog.samples import iterate_samples
from datagen.embedded import RunResult, run_recipe
from datagen.manifest import Manifest
from datagen.resolve import resolve
from datagen.settings import Settings, load_settings
from datagen.store import Store, open_store
from datagen.versions import find_version
from tests.recipes import noise_recipe
from tests.schema import lay_tables


def publish(settings: Settings, changes: dict[str, Any] | None = None) -> RunResult:
    lay_tables(settings.database_url)
    return run_recipe(resolve(noise_recipe(changes), [settings.models_dir]), settings)


@dataclass(frozen=True)
class Home:
    """An open home whose files may be changed behind datagen's back."""

    settings: Settings
    catalog: Catalog
    store: Store

    def version(self, text: str) -> VersionRow:
        return find_version(self.catalog, text)

    def version_fingerprint(self, text: str) -> str:
        job = get_job(self.catalog, self.version(text).job_id)
        assert job is not None
        return job.fingerprint

    def folder(self, name: str = "small", version: int = 1) -> Path:
        return self.settings.home / "objects" / "local" / "datasets" / name / str(version)

    def manifest(self) -> Manifest:
        return Manifest.from_bytes((self.folder() / "manifest.json").read_bytes())

    def rows(self, class_name: str) -> list[SampleRow]:
        return list(iterate_samples(self.catalog, 1, class_name))

    def shard(self, row: SampleRow) -> Path:
        return self.folder() / self.manifest().shards[row.shard].path

    def execute(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.settings.home / "catalog.sqlite3")) as connection:
            changed = connection.execute(statement, values)
            connection.commit()
            assert changed.rowcount > 0


@contextmanager
def open_home(folder: Path) -> Iterator[Home]:
    settings = load_settings({}, home=folder)
    catalog = Catalog(settings.database_url)
    try:
        yield Home(settings, catalog, open_store(settings.store_url))
    finally:
        catalog.close()


@contextmanager
def copied_home(source: Path, target: Path) -> Iterator[Home]:
    """For tests that damage it."""
    shutil.copytree(source, target)
    with open_home(target) as home:
        yield home


def flip_byte(path: Path, offset: int) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x20
    path.write_bytes(bytes(data))
