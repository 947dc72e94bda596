"""The open catalog: one transaction at a time, with the database's errors made readable."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import ColumnElement, Connection, Engine, true
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from datagen.catalog.connection import create_database_engine
from datagen.errors import CatalogError, CatalogUnavailableError


class Catalog:
    """Passed to every function of this package. Safe to share between threads, not processes.

    tenant: whose rows the queries see and make. None sees those of all, for workers.
    """

    def __init__(self, url: str, tenant: str | None = "local") -> None:
        self.engine: Engine = create_database_engine(url)
        self.tenant = tenant

    def of(self, tenant: str | None) -> Catalog:
        """The same database, as another tenant sees it."""
        other = copy.copy(self)
        other.tenant = tenant
        return other

    def owns(self, tenant: ColumnElement[str]) -> ColumnElement[bool]:
        """The condition that a row's tenant column is this catalog's tenant."""
        return true() if self.tenant is None else tenant == self.tenant

    @contextmanager
    def transaction(self, *, keep_references: bool = True) -> Iterator[Connection]:
        """keep_references: False while the schema changes: foreign keys are not checked on SQLite.

        Raises CatalogUnavailableError for a passing fault, IntegrityError where a unique row
        exists, CatalogError for any other.
        """
        try:
            with self.engine.connect() as raw:
                connection = raw.execution_options(keep_references=keep_references)
                with connection.begin():
                    yield connection
            if not keep_references:
                self.engine.dispose()  # SQLite: the connection must not be used on
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise _readable(error) from error
        except PoolTimeoutError as error:
            raise CatalogUnavailableError(
                "every connection to the catalog database is in use; try again in a moment"
            ) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only transaction; on SQLite it waits for no writer."""
        try:
            with self.engine.connect().execution_options(read_only=True) as connection:
                yield connection
        except DBAPIError as error:
            raise _readable(error) from error
        except PoolTimeoutError as error:
            raise CatalogUnavailableError(
                "every connection to the catalog database is in use; try again in a moment"
            ) from error

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
