"""The servers of one service together, and how datagen's own processes reach them.

Called by `datagen up` and by the tests.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datagen.stack.programs import Program, ServiceMissingError
from datagen.stack.servers import S3, Postgres, Valkey, prepare_postgres, prepare_s3, prepare_valkey
from datagen.stack.supervisor import Supervisor

DATABASE = "datagen"
# Of the store's address: s3://bucket/data holds {tenant}/...
STORE_PREFIX = "data/"


@dataclass(frozen=True)
class LocalServers:
    postgres: Postgres
    s3: S3
    valkey: Valkey

    def environment(self, home: Path) -> dict[str, str]:
        """Of the processes of datagen, with every credential."""
        return {
            "DATAGEN_HOME": str(home),
            "DATAGEN_DATABASE_URL": self.postgres.url(DATABASE),
            "DATAGEN_STORE_URL": f"s3://{self.s3.bucket}/{STORE_PREFIX.rstrip('/')}",
            "DATAGEN_S3_ENDPOINT_URL": self.s3.endpoint_url,
            "DATAGEN_BROKER_URL": self.valkey.url,
            **self.s3.identity("service").environment,
        }


def start_servers(
    supervisor: Supervisor,
    folder: Path,
    *,
    run: Path,
    bucket: str,
    durable: bool,
    tenants: Sequence[str] = (),
    s3_port: int = 0,
) -> LocalServers:
    """All three, side by side, until each can do its work. folder: of what they keep. run: a
    short-lived folder with a short path. Raises ServiceMissingError."""
    folder.mkdir(parents=True, exist_ok=True)
    postgres = prepare_postgres(folder / "postgres", run=run, durable=durable)
    supervisor.launch(postgres.program)
    valkey = prepare_valkey(folder / "valkey")
    supervisor.launch(valkey.program)
    s3 = _start_s3(supervisor, folder / "s3", run=run, bucket=bucket, tenants=tenants, port=s3_port)
    supervisor.await_ready("valkey")
    supervisor.await_ready("postgres")
    postgres.ensure_database(DATABASE)
    return LocalServers(postgres, s3, valkey)


def worker_program(
    name: str, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str]
) -> Program:
    """One process of datagen's own: python -m workers ARGUMENTS. folder: of its log."""
    return Program(
        name=name,
        command=(sys.executable, "-m", "workers", *arguments),
        folder=folder,
        log=folder / f"{name}.log",
        environment=environment,
    )


def _start_s3(
    supervisor: Supervisor,
    folder: Path,
    *,
    run: Path,
    bucket: str,
    tenants: Sequence[str],
    port: int,
) -> S3:
    for is_last in (False, False, True):  # a port can be taken between the look and the start
        s3 = prepare_s3(
            folder, run=run, bucket=bucket, port=port, tenants=tenants, prefix=STORE_PREFIX
        )
        try:
            supervisor.start(s3.program)
            return s3
        except ServiceMissingError:
            supervisor.stop("s3")
            if is_last:
                raise
    raise AssertionError("unreachable")
