"""The whole service on this machine: servers, schema, keys, API, workers and beat, supervised.

Called by `datagen up`. What it keeps lies below `{home}/service/`; what it says of itself is in two
files there that only their owner can read: environment, to be sourced, and aws_credentials.
"""

from __future__ import annotations

import fcntl
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from datagen.catalog.catalog import Catalog
from datagen.catalog.keys import create_key, find_key
from datagen.catalog.schema import migrate
from datagen.errors import ConflictError, InputError
from datagen.settings import Settings
from datagen.stack.local import LocalServers, start_servers, worker_program
from datagen.stack.servers import Identity, free_ports, write_secret
from datagen.stack.supervisor import Supervisor

BUCKET = "datagen"
_S3_PORT = 8333
_API_GRACE_S = 3.0
_SCOPES = ("read", "submit", "admin")


@dataclass(frozen=True)
class Plan:
    """port, s3_port: 0 takes that of the last start, or a free one. generate, cpu, train: numbers
    of workers."""

    port: int = 8000
    s3_port: int = 0
    generate: int = 1
    cpu: int = 1
    train: int = 1


@dataclass(frozen=True)
class LocalService:
    """api_key: of an administrator of the tenant. database_url: as psql and psycopg take it.
    store_url: of the tenant's objects. environment_file: sets all of this in a shell."""

    api_url: str
    api_key: str
    s3_endpoint_url: str
    database_url: str
    store_url: str
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
        told = _variables(folder / "environment")
        port = _port("--port", plan.port, told.get("DATAGEN_API_URL"))
        servers = start_servers(
            supervisor,
            folder,
            run=run,
            bucket=BUCKET,
            durable=True,
            tenants=(settings.tenant,),
            s3_port=_port("--s3-port", plan.s3_port, told.get("AWS_ENDPOINT_URL"), _S3_PORT),
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
        database_url=database_url.replace("postgresql+psycopg://", "postgresql://"),
        store_url=f"{environment['DATAGEN_STORE_URL']}/{settings.tenant}",
        bucket=BUCKET,
        environment_file=folder / "environment",
        credentials_file=folder / "aws_credentials",
        logs=folder / "logs",
    )
    _write_files(service, servers.s3.identity(settings.tenant))
    for name, arguments, own in _processes(plan, settings.device, port):
        program = worker_program(
            name, arguments, folder=folder / "logs", environment={**environment, **own}
        )
        if name == "api":
            # Event streams end with it: nothing is lost, and clients come again.
            program = replace(program, probe=lambda: _answers(api_url), grace_s=_API_GRACE_S)
        supervisor.launch(program)
    supervisor.await_ready("api")
    return service


def _processes(
    plan: Plan, device: str, port: int
) -> Iterator[tuple[str, tuple[str, ...], dict[str, str]]]:
    """Name, arguments, and what its environment has of its own."""
    yield "api", ("api", "--port", str(port)), {}
    on_gpu = [("generate", number) for number in range(plan.generate)]
    on_gpu += [("train", number) for number in range(plan.train)]
    # One process per GPU, each of which sees its own as the first; one of each kind share one.
    apart = device == "cuda" and max(plan.generate, plan.train) > 1
    for place, (role, number) in enumerate(on_gpu):
        own = {"CUDA_VISIBLE_DEVICES": str(place)} if apart else {}
        yield f"{role}-{number}", (role,), own
    for number in range(plan.cpu):
        yield f"cpu-{number}", ("cpu",), {}
    yield "beat", ("beat",), {}


def _first_key(database_url: str, tenant: str, environment_file: Path) -> str:
    """The one of the last start, or a new one. Brings the schema up to date."""
    catalog = Catalog(database_url, tenant)
    try:
        migrate(catalog)
        key = _variables(environment_file).get("DATAGEN_API_KEY", "")
        row = find_key(catalog, key.split("_")[1]) if key.count("_") >= 2 else None
        if key and row is not None and row.revoked_at is None and not row.is_expired:
            return key
        _, key = create_key(
            catalog, tenant=tenant, name="datagen up", scopes=_SCOPES, created_by=None
        )
        return key
    finally:
        catalog.close()


def _variables(environment_file: Path) -> dict[str, str]:
    """What the last start wrote; nothing before the first."""
    try:
        lines = shlex.split(environment_file.read_text())
    except FileNotFoundError:
        return {}
    return dict(word.split("=", 1) for word in lines if "=" in word)


def shell_lines(service: LocalService, keys: Identity) -> str:
    """What a shell sources to use the service: see docs/pulling.md. keys: of the tenant."""
    variables = {
        "DATAGEN_API_URL": service.api_url,
        "DATAGEN_API_KEY": service.api_key,
        "AWS_ENDPOINT_URL": service.s3_endpoint_url,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "TENANT": keys.name,
        "STORE": service.store_url,
        "CATALOG": service.database_url,
    }
    return "".join(f"export {name}={shlex.quote(text)}\n" for name, text in variables.items())


def _write_files(service: LocalService, keys: Identity) -> None:
    write_secret(service.environment_file, shell_lines(service, keys))
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


def _port(option: str, wanted: int, last_url: str | None, usual: int | None = None) -> int:
    """0: that of the last start or the usual one, so that addresses stay, or any that is free."""
    if wanted:
        if not _is_free(wanted):
            raise InputError(
                f"{option} {wanted} is taken by another program; name a free port, or 0"
            )
        return wanted
    last = urlsplit(last_url).port if last_url else None
    known = [port for port in (last, usual) if port and _is_free(port)]
    return known[0] if known else free_ports(1)[0]


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
