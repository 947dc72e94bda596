"""Opening the database, its clock, its bulk insert: what differs between SQLite and PostgreSQL.

Called by the other modules of catalog alone.
"""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from datagen.errors import CatalogError, InputError

Row = Sequence[Any]

MAX_IDLE_IN_TRANSACTION_S = 20
_CHUNK_ROWS = 2_000
_FEW_ROWS = 16  # a temporary table costs as much as inserting these one by one


def create_database_engine(url: str) -> Engine:
    """SQLite in WAL mode with BEGIN IMMEDIATE, or PostgreSQL through psycopg 3."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise ArgumentError(backend)
    except (ArgumentError, NoSuchModuleError):
        raise InputError(
            f"DATAGEN_DATABASE_URL {url.split('@')[-1]!r}: expected sqlite:///FILE or "
            "postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if backend == "postgresql":
        engine = create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        event.listen(engine, "connect", _configure_postgresql)
        return engine
    if not parsed.database or parsed.database == ":memory:":
        raise InputError(
            f"DATAGEN_DATABASE_URL {url!r}: a database in memory is gone with its process; name a "
            "file, such as sqlite:////var/lib/datagen/catalog.sqlite3"
        )
    _make_parent(Path(parsed.database))
    # Pooled: the last connection to close would write the whole log back, every time.
    engine = create_engine(parsed, connect_args={"timeout": 60})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CatalogError(
            f"folder {path.parent} cannot be made ({error.strerror}); choose another home"
        ) from None


def _configure_postgresql(connection: Any, _record: object) -> None:
    """A process that is frozen within a transaction must not keep its locks: the server ends it.
    Not among the options of the connection, which poolers such as PgBouncer refuse."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{MAX_IDLE_IN_TRANSACTION_S}s'")
    connection.commit()


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves
    connection.execute("PRAGMA journal_mode=WAL")
    # A power cut may lose the last commits, never the file's integrity; lost units are redone.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA wal_autocheckpoint=8000")  # pages: fewer, larger write-backs


def _begin_immediate(connection: Connection) -> None:
    """A transaction that upgrades from reading to writing would fail instead of wait."""
    options = connection.get_execution_options()
    if not options.get("keep_references", True):
        # A table that is rebuilt is dropped first; the pragma has no effect inside a transaction.
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    read_only = options.get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def now_s(connection: Connection) -> float:
    """Seconds since the epoch, by the database's clock: hosts' clocks may differ."""
    if connection.dialect.name == "sqlite":
        query = "SELECT (julianday('now') - 2440587.5) * 86400.0"
    else:
        query = "SELECT extract(epoch FROM clock_timestamp())"
    return float(connection.execute(text(query)).scalar_one())


def lock_name(connection: Connection, name: str) -> None:
    """Whoever asks for the same name waits until our transaction ends. SQLite has one writer at a
    time anyway."""
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
        connection.execute(select(func.pg_advisory_xact_lock(key)))


def bulk_insert(
    connection: Connection,
    table: Table,
    columns: Sequence[str],
    rows: Iterable[Row],
    *,
    ignore_existing: bool = False,
) -> None:
    """Inserts rows as fast as the database can: one prepared statement, or COPY."""
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        verb = "INSERT OR IGNORE" if ignore_existing else "INSERT"
        statement = f"{verb} INTO {table.name} ({_names(columns)}) VALUES ({marks})"
        remaining = iter(rows)
        while chunk := [tuple(row) for row in itertools.islice(remaining, _CHUNK_ROWS)]:
            connection.exec_driver_sql(statement, chunk)
    elif ignore_existing:
        remaining = iter(rows)
        first = [tuple(row) for row in itertools.islice(remaining, _FEW_ROWS)]
        if len(first) < _FEW_ROWS:
            _insert_few(connection, table, columns, first)
        else:
            _copy_ignoring(connection, table, columns, itertools.chain(first, remaining))
    else:
        _copy(connection, table.name, columns, rows)


def _insert_few(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Row]
) -> None:
    names, marks = _names(columns), ", ".join(["%s"] * len(columns))
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"
    if rows:
        connection.exec_driver_sql(statement, list(rows))


def _copy_ignoring(
    connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[Row]
) -> None:
    """COPY knows no ON CONFLICT: it goes through a temporary table."""
    names, target = _names(columns), f"incoming_{table.name}"
    connection.exec_driver_sql(
        f"CREATE TEMPORARY TABLE {target} ON COMMIT DROP AS "
        f"SELECT {names} FROM {table.name} WITH NO DATA"
    )
    _copy(connection, target, columns, rows)
    connection.exec_driver_sql(
        f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {target} ON CONFLICT DO NOTHING"
    )


def _copy(connection: Connection, target: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
    import psycopg

    driver: Any = connection.connection.driver_connection
    statement = f"COPY {target} ({_names(columns)}) FROM STDIN"
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as error:  # the driver's own, since SQLAlchemy knows no COPY
        raise DBAPIError.instance(statement, None, error, psycopg.Error) from error


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
