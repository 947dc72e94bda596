"""What the benchmarks of the running service share: the stack with the leases of production, jobs
submitted and waited for. Called by service_throughput.py, scaling.py and preview.py.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.stack import ServiceStack, open_stack

PRODUCTION = {"DATAGEN_LEASE_S": "90", "DATAGEN_HEARTBEAT_S": "15", "DATAGEN_SWEEP_S": "5"}
_POLL_S = 0.5
_GIVE_UP_S = 900.0


@contextmanager
def started_stack(env: Mapping[str, str] | None = None) -> Iterator[ServiceStack]:
    """PostgreSQL, S3, Valkey and the API; workers are the caller's to start."""
    with (
        tempfile.TemporaryDirectory(prefix="datagen-bench-") as home,
        open_stack(Path(home), env={**PRODUCTION, **(env or {})}) as stack,
    ):
        yield stack


def submit(client: httpx.Client, recipe: Mapping[str, Any]) -> str:
    answer = client.post(
        "/jobs", json={"recipe": recipe}, headers={"Idempotency-Key": uuid.uuid4().hex}
    )
    answer.raise_for_status()
    return str(answer.json()["id"])


def wait(client: httpx.Client, job_id: str) -> float:
    """Returns seconds from the job's creation to its publication, by the database's clock."""
    deadline = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < deadline:
        job = client.get(f"/jobs/{job_id}").raise_for_status().json()
        if job["state"] == "PUBLISHED":
            took = datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(
                job["created_at"]
            )
            return took.total_seconds()
        if job["state"] in ("FAILED", "CANCELLED"):
            raise SystemExit(f"job {job_id} is {job['state']}: {job['error']}")
        time.sleep(_POLL_S)
    raise SystemExit(f"job {job_id} took longer than {_GIVE_UP_S:.0f} s")
