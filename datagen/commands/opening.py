"""Settings, catalog and store, as a command opens them. Reading creates nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from datagen.errors import NotFoundError, StoreError
from datagen.settings import Settings, load_settings

if TYPE_CHECKING:
    from datagen.catalog.catalog import Catalog
    from datagen.store import Store

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Library:
    """An open home: what was published, and where."""

    settings: Settings
    catalog: Catalog
    store: Store


def open_settings(home: Path | None) -> Settings:
    return load_settings(home=home)


def pin_threads(settings: Settings) -> None:
    """Before numpy is loaded: sums in matrix code depend on the number of threads, and so would
    the images' bits on the machine's cores."""
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(settings.threads_per_worker)
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"


@contextmanager
def open_library(settings: Settings) -> Iterator[Library]:
    """Raises NotFoundError if there is no catalog yet."""
    if not has_catalog(settings):
        raise NotFoundError(
            f"there is no data set in {settings.home}; make one with `datagen run RECIPE`, or name "
            "another home with --home"
        )
    from datagen.catalog.catalog import Catalog
    from datagen.catalog.schema import migrate
    from datagen.store import open_store

    store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)
    catalog = Catalog(settings.database_url, settings.tenant)
    try:
        migrate(catalog)
        yield Library(settings, catalog, store)
    finally:
        catalog.close()


@contextmanager
def open_catalog(settings: Settings) -> Iterator[Catalog]:
    """Made if there is none yet. Raises StoreError if the home cannot be."""
    from datagen.catalog.catalog import Catalog
    from datagen.catalog.schema import migrate

    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"home {settings.home} cannot be made: {error.strerror}; name another with --home"
        ) from None
    catalog = Catalog(settings.database_url, settings.tenant)
    try:
        migrate(catalog)
        yield catalog
    finally:
        catalog.close()


def has_catalog(settings: Settings) -> bool:
    """False if the catalog is a SQLite file that does not exist."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]*)", settings.database_url)
    return match is None or Path(match[1]).is_file()


def address_text(url: str) -> str:
    """A plain path where the store is a folder."""
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "file" else url
