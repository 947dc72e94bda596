"""The service as a real server on a loopback port, with keys of two tenants; and a worker to step
its jobs, since no fleet runs here."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from datagen.api.app import create_app
from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job_by_uid
from datagen.catalog.keys import create_key
from datagen.catalog.rows import ACTIVE_STATES, Job
from datagen.engine import Worker
from datagen.settings import Settings, load_settings
from datagen.store import Store, open_store
from tests.recipes import noise_recipe
from tests.schema import lay_tables

ACME, OTHER = "acme", "other"


@dataclass(frozen=True)
class Api:
    """catalog: of all tenants. acme, other: clients with an admin key of either tenant, whose
    base_url ends in /v1. wakes: (queue, job id, messages) as workers were told."""

    url: str
    app: FastAPI
    settings: Settings
    catalog: Catalog
    store: Store
    acme: httpx.Client
    other: httpx.Client
    wakes: list[tuple[str, int, int]] = field(default_factory=list)

    def key(
        self,
        *scopes: str,
        tenant: str = ACME,
        name: str = "test",
        expires_in_s: float | None = None,
    ) -> str:
        _, key = create_key(
            self.catalog,
            tenant=tenant,
            name=name,
            scopes=scopes or ("admin",),
            created_by=None,
            expires_in_s=expires_in_s,
        )
        return key

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return http_client(f"{self.url}/v1", headers)

    def submit(
        self, changes: dict[str, Any] | None = None, *, key: str = "k", client: Any = None
    ) -> dict[str, Any]:
        """A noise recipe of 100 images; see tests/recipes.py."""
        response = (client or self.acme).post(
            "/jobs", json={"recipe": recipe(changes)}, headers={"Idempotency-Key": key}
        )
        assert response.status_code in (200, 201), response.text
        found: dict[str, Any] = response.json()
        return found

    def job(self, uid: str) -> Job:
        job = get_job_by_uid(self.catalog, uid)
        assert job is not None
        return job

    def work(self, uid: str, *, max_steps: int = 10_000) -> Job:
        """Steps the job in this process until it has ended."""
        worker = Worker(self.catalog, self.store, self.settings, owner="test-worker")
        for _ in range(max_steps):
            stepped = worker.step(self.job(uid).id)
            if not stepped and self.job(uid).state not in ACTIVE_STATES:
                break
        return self.job(uid)

    def publish(self, changes: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Submits and works; returns the published job as the API shows it."""
        uid = self.submit(changes, key=f"publish-{len(self.wakes)}", **options)["id"]
        assert self.work(uid).state == "PUBLISHED"
        client = options.get("client") or self.acme
        found: dict[str, Any] = client.get(f"/jobs/{uid}").json()
        return found


def recipe(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """A body's recipe: noise_recipe with changes, which may be faults."""
    content: dict[str, Any] = noise_recipe().recipe.model_dump(mode="json", exclude_none=True)
    return content | (changes or {})


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """Over SQLite and a directory."""
    with run_api(settings) as running:
        yield running


@pytest.fixture
def server_settings(
    settings: Settings, postgres_url: str, s3_url: str, s3_endpoint: str
) -> Settings:
    environ = {
        "DATAGEN_DATABASE_URL": postgres_url,
        "DATAGEN_STORE_URL": s3_url,
        "DATAGEN_S3_ENDPOINT_URL": s3_endpoint,
    }
    return load_settings(environ, home=settings.home)


@pytest.fixture
def server_api(server_settings: Settings) -> Iterator[Api]:
    """Over PostgreSQL and S3."""
    with run_api(server_settings) as running:
        yield running


@pytest.fixture(params=["embedded", "servers"])
def any_api(request: pytest.FixtureRequest) -> Api:
    """Both in turn: SQLite and a directory, PostgreSQL and S3."""
    found = request.getfixturevalue("api" if request.param == "embedded" else "server_api")
    assert isinstance(found, Api)
    return found


@contextmanager
def run_api(settings: Settings, **options: Any) -> Iterator[Api]:
    """options: of create_app."""
    lay_tables(settings.database_url)
    catalog = Catalog(settings.database_url, tenant=None)
    wakes: list[tuple[str, int, int]] = []

    def wake(queue: str, job_id: int, num_messages: int) -> None:
        wakes.append((queue, job_id, num_messages))

    app = create_app(settings, wake=wake, **{"ping_broker": lambda: None, **options})
    with serve(app) as url:
        store = open_store(settings.store_url, endpoint_url=settings.s3_endpoint_url)
        clients = [_admin_client(catalog, url, tenant) for tenant in (ACME, OTHER)]
        try:
            yield Api(url, app, settings, catalog, store, *clients, wakes)
        finally:
            for client in clients:
                client.close()
            catalog.close()


def _admin_client(catalog: Catalog, url: str, tenant: str) -> httpx.Client:
    _, key = create_key(catalog, tenant=tenant, name="admin", scopes=("admin",), created_by=None)
    headers = {"Authorization": f"Bearer {key}"}
    return http_client(f"{url}/v1", headers)


def http_client(base_url: str, headers: dict[str, str]) -> httpx.Client:
    """For http alone: to read the certificates of https takes 17 ms a client."""
    return httpx.Client(
        base_url=base_url, headers=headers, timeout=30, trust_env=False, verify=False
    )


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """A uvicorn server in a thread; yields its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        _wait_until_ready(address, thread)
        yield address
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def _wait_until_ready(address: str, thread: threading.Thread) -> None:
    with http_client(address, {}) as client:
        while thread.is_alive():
            try:
                client.get("/v1/healthz")
            except httpx.TransportError:
                time.sleep(0.002)
                continue
            return
    raise AssertionError("the server ended before it was ready")
