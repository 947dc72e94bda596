"""Real servers and fresh places for tests. A server starts when the first test asks for it.

A missing server skips the test on a developer's machine and fails it where CI is set.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar
from uuid import uuid4

import pytest

from datagen.settings import Settings, load_settings
from tests.schema import migrate_url
from tests.servers import (
    PostgresServer,
    S3Server,
    ServiceMissingError,
    start_postgres,
    start_s3,
)
from tests.stack import ServiceStack, open_stack

# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

Server = TypeVar("Server", PostgresServer, S3Server)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that processes that share the files end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder for an embedded home, not made yet."""
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    """Of the embedded home: SQLite and a directory, whatever the environment says."""
    return load_settings({}, home=home)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = _start(start_postgres)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    """The name of a database with the tables of the newest schema; nobody is connected to it."""
    postgres_server.execute("CREATE DATABASE tables_alone")
    migrate_url(postgres_server.url("tables_alone"))
    return "tables_alone"


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, postgres_template: str) -> Iterator[str]:
    """A database of this test's own, with tables and no rows: postgresql+psycopg://..."""
    with _database(postgres_server, f"TEMPLATE {postgres_template}") as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The same without tables."""
    with _database(postgres_server) as url:
        yield url


@contextmanager
def _database(server: PostgresServer, options: str = "") -> Iterator[str]:
    name = f"test_{uuid4().hex[:16]}"
    server.execute(f"CREATE DATABASE {name} {options}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = _start(start_s3)
    yield server
    server.stop()


@pytest.fixture
def s3_endpoint(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server's http address; its keys are in the environment while the test runs."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.endpoint_url


@pytest.fixture
def s3_url(s3_server: S3Server, s3_endpoint: str) -> str:
    """s3://bucket/prefix with a prefix of this test's own; to be opened with s3_endpoint."""
    return f"s3://{s3_server.bucket}/{uuid4().hex[:16]}"


@pytest.fixture(scope="module")
def service_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceStack]:
    """A service of the module's own: API and servers run, workers are for the tests to start.
    The S3 keys are in the environment meanwhile."""
    try:
        with (
            pytest.MonkeyPatch.context() as environment,
            open_stack(tmp_path_factory.mktemp("service")) as stack,
        ):
            for name, value in stack.keys.items():
                environment.setenv(name, value)
            yield stack
    except ServiceMissingError as error:
        give_up(str(error))


def _start(start: Callable[[], Server]) -> Server:
    try:
        return start()
    except ServiceMissingError as error:
        give_up(str(error))


def give_up(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
