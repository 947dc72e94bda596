"""The backup and restore of docs/operations.md: rows first and objects after, and back again."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import get_job
from datagen.catalog.rows import PUBLISHED
from datagen.catalog.versions import get_version
from datagen.embedded import run_recipe
from datagen.resolve import resolve
from datagen.settings import Settings
from datagen.store import open_store
from datagen.verify import verify_version
from tests.recipes import noise_recipe
from tests.servers import PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture
def service(
    settings: Settings, postgres_url: str, s3_url: str, s3_endpoint: str, home: Path
) -> Settings:
    return replace(
        settings, database_url=postgres_url, store_url=s3_url, s3_endpoint_url=s3_endpoint
    )


def database_of(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


def objects_below(client: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    listed = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ())
    keys = [item["Key"] for item in listed]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def test_a_restored_service_has_every_byte_and_goes_on(
    service: Settings, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    published = run_recipe(resolve(noise_recipe(), [service.models_dir]), service)

    programs = Path(postgres_server.postgres.program.command[0]).parent
    server = f"--host={postgres_server.postgres.sockets}"
    dump = tmp_path / "catalog.dump"
    name = database_of(service.database_url)
    command = [programs / "pg_dump", server, "--username=postgres", "--format=custom"]
    with dump.open("wb") as file:
        subprocess.run([*command, name], check=True, stdout=file)
    client = boto3.client("s3", endpoint_url=service.s3_endpoint_url)
    bucket, _, prefix = service.store_url.removeprefix("s3://").partition("/")
    backup = objects_below(client, bucket, prefix)

    for key in backup:  # the disaster
        client.delete_object(Bucket=bucket, Key=key)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    postgres_server.execute(f"CREATE DATABASE {name}")
    shutil.rmtree(service.home, ignore_errors=True)

    for key, data in backup.items():
        if "/attempts/" not in key:  # what is missing is made again
            client.put_object(Bucket=bucket, Key=key, Body=data)
    command = [programs / "pg_restore", server, "--username=postgres", f"--dbname={name}"]
    subprocess.run([*command, "--clean", "--if-exists", dump], check=True)

    catalog = Catalog(service.database_url)
    store = open_store(service.store_url, endpoint_url=service.s3_endpoint_url)
    try:
        version = get_version(catalog, published.name, published.version)
        assert version is not None
        assert version.digest == published.digest
        job = get_job(catalog, version.job_id)
        assert job is not None
        assert job.state == PUBLISHED
        assert verify_version(catalog, store, version, tenant=service.tenant).findings == []
    finally:
        catalog.close()
    grown = noise_recipe({"classes": [{"name": "cat", "count": 70}, {"name": "dog", "count": 40}]})
    assert run_recipe(resolve(grown, [service.models_dir]), service).version == 2
