"""The open catalog: one transaction at a time, with the database's errors made readable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from datagen.catalog.connection import create_database_engine
from datagen.errors import CatalogError, CatalogUnavailableError


class Catalog:
    """Passed to every function of this package. Safe to share between threads, not processes."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = create_database_engine(url)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Raises CatalogUnavailableError for a passing fault, IntegrityError where a unique row
        exists, CatalogError for any other."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise _readable(error) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only transaction; on SQLite it waits for no writer."""
        try:
            with self.engine.connect().execution_options(read_only=True) as connection:
                yield connection
        except DBAPIError as error:
            raise _readable(error) from error

    def close(self) -> None:
        self.engine.dispose()


def _readable(error: DBAPIError) -> CatalogError:
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else str(error)
    if "disk is full" in reason or "No space left" in reason or "disk I/O" in reason:
        return CatalogUnavailableError(
            f"the catalog database cannot grow ({reason}); free disk space, then run the same "
            "command again"
        )
    if "readonly" in reason or "unable to open" in reason:
        return CatalogError(f"the catalog database cannot be written ({reason}); check its folder")
    if isinstance(error, OperationalError):
        return CatalogUnavailableError(
            f"the catalog database does not answer ({reason}); check DATAGEN_DATABASE_URL and the "
            "server, then run the same command again"
        )
    return CatalogError(f"the catalog database refused a statement: {reason}")
