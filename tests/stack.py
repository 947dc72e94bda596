"""The whole service for tests, on loopback: PostgreSQL, S3, Valkey, API, beat and workers, each a
real process that can be killed, with short leases.

    with open_stack(tmp_path) as stack:
        stack.start_worker("generate")
        stack.start_worker("cpu")
        with stack.client() as client: client.post("/jobs", ...)

Called by the fixture service_stack, the fault suite, the client's tests and benchmarks.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from datagen.catalog.catalog import Catalog
from datagen.catalog.keys import create_key
from datagen.catalog.schema import migrate
from datagen.settings import Settings, load_settings
from datagen.stack.local import LocalServers, start_servers, worker_program
from datagen.stack.programs import Program
from datagen.stack.servers import S3, SERVICE, Postgres, Valkey, free_ports
from datagen.stack.supervisor import Supervisor
from datagen.store import Store, open_store
from tests.servers import BUCKET, temporary_folder

if TYPE_CHECKING:
    import httpx

ROOT = Path(__file__).resolve().parent.parent
LEASE_S = 3.0
TENANT = "local"


@dataclass
class ServiceStack:
    """folder: short-lived, holds every log. settings: of the tenant, as the processes see them.

    environment: what the API and the workers get. api_key: with all scopes.
    """

    folder: Path
    supervisor: Supervisor
    servers: LocalServers
    settings: Settings
    environment: Mapping[str, str]
    api_key: str
    api_url: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def postgres(self) -> Postgres:
        return self.servers.postgres

    @property
    def s3(self) -> S3:
        return self.servers.s3

    @property
    def valkey(self) -> Valkey:
        return self.servers.valkey

    @property
    def keys(self) -> dict[str, str]:
        """What boto3 reads: keys that may do everything."""
        return self.s3.identity(SERVICE).environment

    # --- processes of datagen

    def start_api(self, env: Mapping[str, str] | None = None) -> str:
        """Returns its name. The address stays the same over restarts."""
        port = free_ports(1)[0]
        self.api_url = f"http://127.0.0.1:{port}"
        program = self._program("api", ("api", "--port", str(port)), env)
        self.supervisor.start(replace(program, probe=lambda: _get_ok(f"{self.api_url}/v1/healthz")))
        return "api"

    def start_worker(
        self, role: str, *, env: Mapping[str, str] | None = None, arguments: tuple[str, ...] = ()
    ) -> str:
        """role: generate, cpu or beat. Returns its name. Does not wait until it takes work. It is
        started again whenever it ends, until `stop`."""
        name = f"{role}-{next(self.numbers)}"
        self.supervisor.launch(self._program(name, (role, *arguments), env))
        return name

    def names(self, role: str) -> list[str]:
        return [name for name in self.supervisor.names() if name.startswith(role)]

    def pid(self, name: str) -> int | None:
        """None while it does not run."""
        return self.supervisor.pid(name)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> bool:
        """Returns False if it was not running."""
        pid = self.pid(name)
        if pid is None:
            return False
        os.kill(pid, number)
        return True

    def stop(self, *names: str) -> None:
        """Cleanly, side by side, and for good."""
        self.supervisor.stop(*names)

    # --- servers

    def restart_postgres(self) -> None:
        self.supervisor.restart("postgres")

    def restart_valkey(self) -> None:
        """It comes back empty: nothing of it is kept on disk."""
        self.supervisor.restart("valkey")

    def flush_valkey(self) -> None:
        import redis

        with redis.Redis.from_url(self.valkey.url) as client:
            client.flushall()

    # --- looking and asking

    @contextmanager
    def client(self, api_key: str | None = None) -> Iterator[httpx.Client]:
        """Paths are relative to /v1/."""
        import httpx

        headers = {"Authorization": f"Bearer {api_key or self.api_key}"}
        with httpx.Client(base_url=f"{self.api_url}/v1", headers=headers, timeout=30) as client:
            yield client

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        """The tenant's, straight from the database."""
        catalog = Catalog(self.settings.database_url, self.settings.tenant)
        try:
            yield catalog
        finally:
            catalog.close()

    def store(self) -> Store:
        """Needs `keys` in the environment."""
        return open_store(self.settings.store_url, endpoint_url=self.settings.s3_endpoint_url)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def logs(self) -> str:
        """The end of each worker's, for the message of a failed assertion."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {path.stem}\n{path.read_text()[-3000:]}" for path in logs)

    def wait(self, condition: Callable[[], object], what: str, *, seconds: float = 180.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s\n{self.logs()}"
            time.sleep(0.05)

    def _program(
        self, name: str, arguments: tuple[str, ...], env: Mapping[str, str] | None
    ) -> Program:
        environment = {**self.environment, **(env or {})}
        return worker_program(name, arguments, folder=self.folder, environment=environment)


@contextmanager
def open_stack(
    home: Path, *, env: Mapping[str, str] | None = None, api: bool = True
) -> Iterator[ServiceStack]:
    """Servers, schema, bucket, key and API; workers are the caller's to start.

    env: settings of every process. Raises ServiceMissingError if a wheel is not installed.
    """
    folder = temporary_folder("stack")
    stack = None
    try:
        with Supervisor() as supervisor:
            stack = _start(folder, home, supervisor, env or {})
            if api:
                stack.start_api()
            yield stack
    finally:
        if stack is not None:
            stack.s3.remove_sockets()
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    folder: Path, home: Path, supervisor: Supervisor, env: Mapping[str, str]
) -> ServiceStack:
    servers = start_servers(supervisor, folder, run=folder, bucket=BUCKET, durable=False)
    environment = {
        **_inherited(),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DATAGEN_LEASE_S": str(LEASE_S),
        "DATAGEN_HEARTBEAT_S": "0.5",
        "DATAGEN_SWEEP_S": "0.5",
        **servers.environment(home),
        **env,
    }
    settings = load_settings(environment, home=home)
    catalog = Catalog(settings.database_url)
    migrate(catalog)
    scopes = ("read", "submit", "admin")
    _, key = create_key(catalog, tenant=TENANT, name="tests", scopes=scopes, created_by=None)
    catalog.close()
    return ServiceStack(folder, supervisor, servers, settings, environment, key)


def _inherited() -> dict[str, str]:
    """Nothing that points at other servers, and no credentials."""
    strange = ("AWS_", "DATAGEN_", "PYTHON", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(strange)}


def _get_ok(url: str) -> None:
    import httpx

    httpx.get(url, timeout=5).raise_for_status()
