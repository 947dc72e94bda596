"""The local stack's servers for tests: each in a short-lived folder of its own, gone afterwards.

Called by the fixtures of conftest.py. Each stop ends the process that the start began, so that
several test processes can have servers side by side.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from datagen.stack.programs import Program, ServiceMissingError, launch, stop, wait_ready
from datagen.stack.servers import S3, SERVICE, Postgres, prepare_postgres, prepare_s3

__all__ = ["BUCKET", "PostgresServer", "S3Server", "ServiceMissingError", "temporary_folder"]

BUCKET = "datagen-test"


@dataclass(frozen=True)
class S3Server:
    s3: S3
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def endpoint_url(self) -> str:
        return self.s3.endpoint_url

    @property
    def access_key(self) -> str:
        return self.s3.identity(SERVICE).access_key

    @property
    def secret_key(self) -> str:
        return self.s3.identity(SERVICE).secret_key

    @property
    def bucket(self) -> str:
        return self.s3.bucket

    @property
    def environment(self) -> dict[str, str]:
        return self.s3.identity(SERVICE).environment

    def stop(self) -> None:
        stop(self.process, self.s3.program.stop)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.s3.remove_sockets()


@dataclass(frozen=True)
class PostgresServer:
    postgres: Postgres
    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, database: str) -> str:
        return self.postgres.url(database)

    def execute(self, statement: str) -> None:
        self.postgres.execute(statement)

    def stop(self) -> None:
        stop(self.process, self.postgres.program.stop)
        shutil.rmtree(self.folder, ignore_errors=True)


def start_s3() -> S3Server:
    """Raises ServiceMissingError."""
    for is_last in (False, False, True):  # a port can be taken between the look and the start
        folder = temporary_folder("s3")
        s3 = prepare_s3(folder, run=folder, bucket=BUCKET)
        try:
            return S3Server(s3, folder, _start(s3.program))
        except ServiceMissingError:
            shutil.rmtree(folder, ignore_errors=True)
            if is_last:
                raise
    raise AssertionError("unreachable")


def start_postgres() -> PostgresServer:
    """Raises ServiceMissingError."""
    folder = temporary_folder("pg")
    # No fsync: the tests kill processes, not the machine.
    postgres = prepare_postgres(folder, run=folder, durable=False)
    return PostgresServer(postgres, folder, _start(postgres.program))


def temporary_folder(name: str) -> Path:
    """Below /tmp whatever TMPDIR says: the paths of sockets must be short."""
    folder = Path(tempfile.mkdtemp(prefix=f"datagen-{name}-", dir="/tmp"))
    folder.chmod(0o711)  # as root, PostgreSQL runs as another user and must get through
    return folder


def _start(program: Program) -> subprocess.Popen[bytes]:
    process = launch(program)
    try:
        wait_ready(program, lambda: process.poll() is None)
    except ServiceMissingError:
        stop(process, program.stop)
        raise
    return process
