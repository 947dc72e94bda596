"""PostgreSQL that restarts under the workers, and commits whose reply is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url

from datagen.catalog.catalog import Catalog
from datagen.catalog.rows import ACTIVE_STATES, Job
from datagen.catalog.schema import migrate
from datagen.catalog.units import unit_totals
from datagen.errors import CatalogUnavailableError
from datagen.settings import load_settings
from datagen.stack.programs import launch, stop, wait_ready
from tests.faults.conftest import DigestOf
from tests.faults.fleet import PATIENCE_S, Fleet, open_fleet
from tests.faults.postgres_proxy import cutting_commits
from tests.faults.recipes import busy_recipe
from tests.servers import PostgresServer, S3Server, start_postgres

AFTER_COMMIT = (
    "generate.after_commit",
    "judge.after_commit",
    "pack.after_commit",
    "finish.after_commit",
)


@pytest.mark.parametrize("name", AFTER_COMMIT)
def test_work_whose_commit_got_no_reply_is_not_done_again(
    fleet: Fleet, digest_of: DigestOf, name: str
) -> None:
    job = fleet.submit(busy_recipe())
    fleet.start(job, failpoints=f"{name}=unavailable*1")
    fleet.wait_ended(job)
    assert fleet.num_fired(name) == 1
    fleet.assert_published(job, digest_of(busy_recipe()))
    totals = unit_totals(fleet.catalog, job.id)
    assert totals["claims"] == totals["units"]


def test_connections_cut_between_commits_and_their_replies_lose_nothing(
    fleet: Fleet, digest_of: DigestOf, postgres_server: PostgresServer
) -> None:
    """Of claims, renewals, commits of work and openings of stages alike: every seventh."""
    job = fleet.submit(busy_recipe())
    with cutting_commits(postgres_server.postgres.sockets / ".s.PGSQL.5432", every=7) as cutter:
        database = make_url(fleet.settings.database_url).database
        fleet.settings = replace(
            fleet.settings,
            database_url=f"postgresql+psycopg://postgres@127.0.0.1:{cutter.port}/{database}"
            "?sslmode=disable&gssencmode=disable",
        )
        processes = fleet.start(job, num_workers=2)
        fleet.wait_ended(job)
        assert fleet.wait_exits(*processes) == [0, 0]
    assert cutter.num_cut >= 5
    fleet.assert_published(job, digest_of(busy_recipe()))


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server that other tests do not need."""
    server = start_postgres()
    yield server
    server.stop()


@pytest.mark.soak  # connections are checked before use: restarts may all fall between two of them
@pytest.mark.slow
def test_a_database_that_restarts_again_and_again_loses_nothing(
    tmp_path: Path,
    digest_of: DigestOf,
    own_postgres: PostgresServer,
    s3_server: S3Server,
    s3_endpoint: str,
    s3_url: str,
) -> None:
    """In turn a clean stop and one that leaves a crash to recover from."""
    own_postgres.execute("CREATE DATABASE restarted")
    variables = {
        "DATAGEN_DATABASE_URL": own_postgres.url("restarted"),
        "DATAGEN_STORE_URL": s3_url,
        "DATAGEN_S3_ENDPOINT_URL": s3_endpoint,
    }
    settings = replace(load_settings(variables, home=tmp_path), lease_s=2.0, heartbeat_s=0.5)
    catalog = Catalog(settings.database_url)
    migrate(catalog)
    catalog.close()
    with open_fleet(settings, tmp_path, s3_server.environment) as fleet:
        job = fleet.submit(busy_recipe())
        slow = "generate.batch=sleep:0.3;pack.before_put=sleep:0.5"
        fleet.start(job, num_workers=2, failpoints=slow)
        num_restarts = _restart_until_ended(own_postgres, fleet, job)
        assert fleet.wait_exits() == [0, 0]
        assert num_restarts >= 4
        assert "CatalogUnavailableError" in fleet.logs()
        fleet.assert_published(job, digest_of(busy_recipe()))


def _restart_until_ended(server: PostgresServer, fleet: Fleet, job: Job) -> int:
    """Returns the number of restarts."""
    program = server.postgres.program
    deadline = time.monotonic() + PATIENCE_S
    num_restarts = 0
    while _is_active(fleet, job):
        assert time.monotonic() < deadline, fleet.logs()
        how = (signal.SIGINT, signal.SIGQUIT)[num_restarts % 2]
        stop(server.process, how)
        object.__setattr__(server, "process", launch(program))  # its fixture stops this one
        wait_ready(program, lambda: server.process.poll() is None)
        num_restarts += 1
        time.sleep(1.0)
    return num_restarts


def _is_active(fleet: Fleet, job: Job) -> bool:
    """This test's own connections are cut like any other."""
    try:
        return fleet.state_of(job) in ACTIVE_STATES
    except CatalogUnavailableError:
        return True
