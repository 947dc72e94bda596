"""Worker processes on one catalog and store, and what a job left when it ended.

Called by the tests of this folder: start workers with faults, wait, and compare with a calm run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import ACTIVE_STATES, PUBLISHED, Job
from datagen.catalog.versions import get_version
from datagen.recipe import RecipeDocument
from datagen.resolve import resolve
from datagen.settings import Settings
from datagen.store import Store, open_store
from datagen.submission import Request, submit
from datagen.verify import verify_version
from datagen.versions import MANIFEST, version_prefix

PATIENCE_S = 180.0  # an undisturbed machine needs a few seconds
_PROGRAM = Path(__file__).with_name("engine_process.py")
_ROOT = _PROGRAM.parents[2]


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        time.sleep(0.02)


@dataclass
class Fleet:
    """settings: of the workers. The catalog and store here are opened past every proxy."""

    settings: Settings
    catalog: Catalog
    store: Store
    folder: Path
    environment: Mapping[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def marks(self) -> Path:
        """Where failpoints leave their files."""
        return self.folder / "failpoints"

    def submit(self, document: RecipeDocument) -> Job:
        resolved = resolve(document, [self.settings.models_dir])
        return submit(self.catalog, resolved, self.settings, Request())

    def start(
        self,
        *jobs: Job,
        num_workers: int = 1,
        failpoints: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> list[subprocess.Popen[bytes]]:
        """Workers on these jobs, with what they say in logs."""
        settings = self.settings
        variables = {
            **os.environ,
            "PYTHONPATH": str(_ROOT),
            "OMP_NUM_THREADS": "1",
            "DATAGEN_HOME": str(settings.home),
            "DATAGEN_DATABASE_URL": settings.database_url,
            "DATAGEN_STORE_URL": settings.store_url,
            "DATAGEN_S3_ENDPOINT_URL": settings.s3_endpoint_url or "",
            "DATAGEN_LEASE_S": str(settings.lease_s),
            "DATAGEN_HEARTBEAT_S": str(settings.heartbeat_s),
            "DATAGEN_FAILPOINTS": failpoints,
            "DATAGEN_FAILPOINTS_DIR": str(self.marks),
            **self.environment,
            **(environment or {}),
        }
        command = [sys.executable, str(_PROGRAM), *(str(job.id) for job in jobs)]
        started = []
        for _ in range(num_workers):
            log = self.folder / f"worker-{len(self.processes)}.log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, env=variables, stdout=output, stderr=subprocess.STDOUT
                )
            self.processes.append(process)
            started.append(process)
        return started

    def num_fired(self, name: str) -> int:
        return len(list(self.marks.glob(f"{name}.[0-9]*")))

    def wait_fired(self, name: str, times: int = 1) -> None:
        wait_until(lambda: self.num_fired(name) >= times, f"{name} fired {times} times")

    def state_of(self, job: Job) -> str:
        return self.job(job).state

    def job(self, job: Job) -> Job:
        found = get_job(self.catalog, job.id)
        assert found is not None
        return found

    def wait_ended(self, *jobs: Job, seconds: float = PATIENCE_S) -> None:
        """Until no job is active; a fleet whose workers all died would never end them."""

        def ended() -> bool:
            return all(self.state_of(job) not in ACTIVE_STATES for job in jobs)

        wait_until(ended, f"jobs ended\n{self.logs()}", seconds=seconds)

    def wait_exits(self, *processes: subprocess.Popen[bytes]) -> list[int]:
        """Exit codes, of all workers if none is named."""
        return [p.wait(timeout=PATIENCE_S) for p in processes or self.processes]

    def logs(self) -> str:
        texts = [path.read_text()[-3000:] for path in sorted(self.folder.glob("worker-*.log"))]
        return "\n---\n".join(filter(None, texts))

    def manifests(self, job: Job) -> list[str]:
        prefix = version_prefix(job.tenant, job.name, job.version)
        return [o.key for o in self.store.list(prefix) if o.key.endswith(MANIFEST)]

    def assert_published(self, job: Job, digest: str) -> None:
        """One version, of this digest, every byte of it sound, and nothing lies beside it."""
        ended = self.job(job)
        assert ended.state == PUBLISHED, f"{ended.state}: {ended.error}\n{self.logs()}"
        row = get_version(self.catalog, job.name, job.version)
        assert row is not None
        assert row.digest == digest
        verified = verify_version(self.catalog, self.store, row, tenant=job.tenant)
        assert verified.findings == []
        assert verified.num_samples == row.num_samples
        assert len(self.manifests(job)) == 1

    def assert_nothing_published(self, job: Job) -> None:
        assert self.manifests(job) == []
        assert get_version(self.catalog, job.name, job.version) is None

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()  # a stopped process dies of it, too
            process.wait()


@contextmanager
def open_fleet(settings: Settings, folder: Path, environment: Mapping[str, str]) -> Iterator[Fleet]:
    catalog = Catalog(settings.database_url, settings.tenant)
    store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)
    fleet = Fleet(settings, catalog, store, folder, environment)
    try:
        yield fleet
    finally:
        fleet.end()
        catalog.close()


def signal_to(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    os.kill(process.pid, number)
