from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from datagen.catalog import connection
from datagen.catalog.connection import create_database_engine


def test_locks_of_a_process_that_froze_within_a_transaction_are_released(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "MAX_IDLE_IN_TRANSACTION_S", 1)
    engine = create_database_engine(empty_postgres_url)
    with engine.begin() as setup:
        setup.execute(text("CREATE TABLE jobs (id integer)"))
        setup.execute(text("INSERT INTO jobs VALUES (1)"))
    frozen = engine.connect()
    frozen.execute(text("SELECT id FROM jobs FOR UPDATE"))
    started = time.monotonic()
    with engine.begin() as other:
        other.execute(text("UPDATE jobs SET id = 2"))
    assert time.monotonic() - started < 10
    frozen.invalidate()
    frozen.close()
    engine.dispose()
