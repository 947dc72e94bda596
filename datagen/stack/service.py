"""The whole service on this machine: servers, schema, keys, API, workers and beat, supervised.

Called by `datagen up`. What it keeps lies below `{home}/service/`; what it says of itself is in two
files there that only their owner can read: environment, to be sourced, and aws_credentials.
"""

from __future__ import annotations

import fcntl
import re
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.request import urlopen

from datagen.catalog.catalog import Catalog
from datagen.catalog.keys import create_key, find_key
from datagen.catalog.schema import migrate
from datagen.errors import ConflictError, InputError
from datagen.settings import Settings
from datagen.stack.local import LocalServers, start_servers, worker_program
from datagen.stack.servers import free_ports, write_secret
from datagen.stack.supervisor import Supervisor

BUCKET = "datagen"
_S3_PORT = 8333
_SCOPES = ("read", "submit", "admin")


@dataclass(frozen=True)
class Plan:
    """port, s3_port: 0 takes one that is free. generate, cpu: numbers of workers."""

    port: int = 8000
    s3_port: int = 0
    generate: int = 1
    cpu: int = 1


@dataclass(frozen=True)
class LocalService:
    """api_key: of an administrator of the tenant. environment_file: sets all of this in a shell."""

    api_url: str
    api_key: str
    s3_endpoint_url: str
    database_url: str
    bucket: str
    environment_file: Path
    credentials_file: Path
    logs: Path


@contextmanager
def run_service(
    supervisor: Supervisor, settings: Settings, plan: Plan, environ: Mapping[str, str]
) -> Iterator[LocalService]:
    """Everything answers when this yields; the supervisor stops it. environ: for datagen's own
    processes, with no credentials in it.

    Raises ConflictError if the home's service runs already, ServiceMissingError, InputError.
    """
    folder = settings.home / "service"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    with _only_one(folder), _run_folder(folder / "run") as run:
        port = _port("--port", plan.port)
        servers = start_servers(
            supervisor,
            folder,
            run=run,
            bucket=BUCKET,
            durable=True,
            tenants=(settings.tenant,),
            s3_port=_s3_port(plan.s3_port),
        )
        try:
            yield _start(supervisor, settings, plan, servers, folder, port, environ)
        finally:
            servers.s3.remove_sockets()


def _start(
    supervisor: Supervisor,
    settings: Settings,
    plan: Plan,
    servers: LocalServers,
    folder: Path,
    port: int,
    environ: Mapping[str, str],
) -> LocalService:
    environment = {**environ, **servers.environment(settings.home)}
    database_url = environment["DATAGEN_DATABASE_URL"]
    api_url = f"http://127.0.0.1:{port}"
    service = LocalService(
        api_url=api_url,
        api_key=_first_key(database_url, settings.tenant, folder / "environment"),
        s3_endpoint_url=servers.s3.endpoint_url,
        database_url=database_url,
        bucket=BUCKET,
        environment_file=folder / "environment",
        credentials_file=folder / "aws_credentials",
        logs=folder / "logs",
    )
    _write_files(service, servers, settings.tenant)
    for name, arguments, own in _processes(plan, settings.device, port):
        program = worker_program(
            name, arguments, folder=folder / "logs", environment={**environment, **own}
        )
        supervisor.launch(
            replace(program, probe=lambda: _answers(api_url)) if name == "api" else program
        )
    supervisor.await_ready("api")
    return service


def _processes(
    plan: Plan, device: str, port: int
) -> Iterator[tuple[str, tuple[str, ...], dict[str, str]]]:
    """Name, arguments, and what its environment has of its own."""
    yield "api", ("api", "--port", str(port)), {}
    for number in range(plan.generate):
        # One process per GPU; each sees its own as the first.
        own = (
            {"CUDA_VISIBLE_DEVICES": str(number)} if device == "cuda" and plan.generate > 1 else {}
        )
        yield f"generate-{number}", ("generate",), own
    for number in range(plan.cpu):
        yield f"cpu-{number}", ("cpu",), {}
    yield "beat", ("beat",), {}


def _first_key(database_url: str, tenant: str, environment_file: Path) -> str:
    """The one of the last start, or a new one. Brings the schema up to date."""
    catalog = Catalog(database_url, tenant)
    try:
        migrate(catalog)
        key = _key_of(environment_file)
        row = find_key(catalog, key.split("_")[1]) if key else None
        if key and row is not None and row.revoked_at is None and not row.is_expired:
            return key
        _, key = create_key(
            catalog, tenant=tenant, name="datagen up", scopes=_SCOPES, created_by=None
        )
        return key
    finally:
        catalog.close()


def _key_of(environment_file: Path) -> str | None:
    try:
        text = environment_file.read_text()
    except FileNotFoundError:
        return None
    match = re.search(r"^export DATAGEN_API_KEY=(dg_[0-9a-f]+_[\w-]+)$", text, re.MULTILINE)
    return match[1] if match else None


def _write_files(service: LocalService, servers: LocalServers, tenant: str) -> None:
    keys = servers.s3.identity(tenant)
    variables = {
        "DATAGEN_API_URL": service.api_url,
        "DATAGEN_API_KEY": service.api_key,
        "AWS_ENDPOINT_URL_S3": service.s3_endpoint_url,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    write_secret(service.environment_file, "".join(lines))
    write_secret(
        service.credentials_file,
        f"[default]\naws_access_key_id = {keys.access_key}\n"
        f"aws_secret_access_key = {keys.secret_key}\n",
    )


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(
                f"the service of {folder.parent} is up already; stop it, or name another --home"
            ) from None
        yield


@contextmanager
def _run_folder(link: Path) -> Iterator[Path]:
    """A folder with a short path, for sockets; link: finds it again after a crash."""
    if link.is_symlink():
        shutil.rmtree(link.readlink(), ignore_errors=True)
        link.unlink()
    run = Path(tempfile.mkdtemp(prefix="datagen-up-", dir="/tmp"))
    run.chmod(0o711)  # as root, PostgreSQL runs as another user and must get through
    link.symlink_to(run)
    try:
        yield run
    finally:
        shutil.rmtree(run, ignore_errors=True)
        link.unlink(missing_ok=True)


def _s3_port(wanted: int) -> int:
    """The usual one where it is free, so that addresses stay over restarts."""
    if wanted:
        return _port("--s3-port", wanted)
    return _S3_PORT if _is_free(_S3_PORT) else free_ports(1)[0]


def _port(option: str, wanted: int) -> int:
    if wanted and not _is_free(wanted):
        raise InputError(f"{option} {wanted} is taken by another program; name a free port, or 0")
    return wanted or free_ports(1)[0]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(api_url: str) -> None:
    with urlopen(f"{api_url}/v1/healthz", timeout=5):
        return
