"""The examples of docs/pulling.md, run as they stand there: S3, PostgreSQL and the API are real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datagen.catalog.rows import SampleRow
from datagen.catalog.samples import iterate_samples
from datagen.manifest import Manifest
from datagen.stack.servers import Identity
from datagen.stack.service import LocalService, shell_lines
from tests.api.conftest import Api
from tests.api.conftest import server_api as server_api
from tests.api.conftest import server_settings as server_settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "pulling.md").read_text()
EXAMPLES = {
    name: (language, code)
    for name, language, code in re.findall(
        r"<!-- run: ([\w-]+) -->\n```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
    )
}
SOURCE, SET_VERSION = re.findall(r"^source .*$|^export VERSION=.*$", PAGE, re.MULTILINE)


@dataclass(frozen=True)
class Published:
    """rows: the catalog's samples, by key."""

    job: dict[str, Any]
    manifest: Manifest
    rows: dict[str, SampleRow]
    environment: dict[str, str]
    folder: Path

    def run(self, name: str) -> list[str]:
        """The lines that the example prints."""
        language, code = EXAMPLES[name]
        script = self.folder / f"example.{language}"
        script.write_text(code)
        program = {"python": sys.executable, "bash": "bash"}[language]
        shell = f"set -eu\nsource environment\n{SET_VERSION}\nexec {program} {script}\n"
        done = subprocess.run(
            ["bash", "-c", shell],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def local_service(
    *, api_url: str, api_key: str, s3_endpoint_url: str, database_url: str, store_url: str
) -> LocalService:
    """As `datagen up` knows its own; no program runs."""
    nowhere = Path(os.devnull)
    return LocalService(
        api_url=api_url,
        api_key=api_key,
        s3_endpoint_url=s3_endpoint_url,
        database_url=database_url,
        store_url=store_url,
        bucket="datagen",
        environment_file=nowhere,
        credentials_file=nowhere,
        logs=nowhere,
    )


@pytest.fixture
def published(server_api: Api, postgres_url: str, tmp_path: Path) -> Published:
    job = server_api.publish()
    manifest = Manifest.from_bytes(server_api.store.get("acme/datasets/small/1/manifest.json"))
    job_id = server_api.job(job["id"]).id
    rows = [
        row for name in ("cat", "dog") for row in iterate_samples(server_api.catalog, job_id, name)
    ]
    folder = tmp_path / "reader"
    folder.mkdir()
    tools = folder / "bin"
    tools.mkdir()
    (tools / "datagen").write_text(f'#!/bin/sh\nexec {sys.executable} -m datagen "$@"\n')
    (tools / "datagen").chmod(0o755)
    settings = server_api.settings
    service = local_service(
        api_url=server_api.url,
        api_key=server_api.key("read"),
        s3_endpoint_url=str(settings.s3_endpoint_url),
        database_url=postgres_url.replace("postgresql+psycopg://", "postgresql://"),
        store_url=f"{settings.store_url}/acme",
    )
    pair = (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
    (folder / "environment").write_text(shell_lines(service, Identity("acme", *pair)))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DATAGEN_", "AWS_"))}
    environment = {
        **kept,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    by_key = {f"{row.class_name}-{row.ordinal:08d}": row for row in rows}
    return Published(job, manifest, by_key, environment, folder)


def test_every_example_of_the_page_is_run() -> None:
    """A fenced program without a marker would be one that nobody tries."""
    blocks = re.findall(r"^```(\w+)$", PAGE, re.MULTILINE)
    assert len(blocks) == len(EXAMPLES)
    tests = [name for name in globals() if name.startswith("test_example_")]
    assert {name.removeprefix("test_example_").replace("_", "-") for name in tests} == set(EXAMPLES)


def test_what_the_examples_read_is_set_by_the_file_that_is_sourced() -> None:
    """But for VERSION, which the page sets in the next line; and each is in the page's table."""
    service = local_service(
        api_url="u", api_key="k", s3_endpoint_url="e", database_url="d", store_url="s"
    )
    exported = re.findall(
        r"^export (\w+)=", shell_lines(service, Identity("acme", "a", "b")), re.MULTILINE
    )
    code = "".join(code for _, code in EXAMPLES.values())
    read = set(re.findall(r"environ(?:\.get)?[\[(]\"(\w+)\"", code))
    assert read >= {"VERSION", "AWS_ENDPOINT_URL", "CATALOG", "TENANT"}
    assert read <= {"VERSION", *exported}
    assert set(re.findall(r"\$(\w+)", SET_VERSION)) <= set(exported)
    table = PAGE[PAGE.index("| variable |") : PAGE.index("| what you need |")]
    assert read <= set(re.findall(r"`(\w+)`", table))
    assert SOURCE.endswith("/service/environment")


def test_example_pull(published: Published) -> None:
    assert published.run("pull")[-1].strip() == "100"
    cats = list((published.folder / "small" / "train" / "cat").glob("*.png"))
    assert len(cats) == 48


def test_example_client(published: Published) -> None:
    first, *samples = published.run("client")
    assert first == f"{published.job['digest']} 100"
    assert samples == [
        f"{key} {row.image_sha256}"
        for key, row in published.rows.items()
        if (row.class_name, row.split) == ("cat", "test")
    ]
    assert len(samples) == 3


def test_example_boto3(published: Published) -> None:
    assert published.run("boto3") == [f"{published.job['digest']} 100"]


def test_example_range(published: Published) -> None:
    row = published.rows["cat-00000007"]
    assert published.run("range") == [f"cat-00000007 {row.split} {row.image_sha256}"]


def test_example_presigned(published: Published) -> None:
    assert published.run("presigned") == [
        f"{entry.path} {entry.size_bytes}" for entry in published.manifest.shards
    ]


def test_example_webdataset(published: Published) -> None:
    assert published.run("webdataset") == ["{'cat': 48, 'dog': 32}"]


def test_example_hugging_face(published: Published) -> None:
    [line] = published.run("hugging-face")
    assert json.loads(line.replace("'", '"')) == {"train": 80, "val": 15, "test": 5}


def test_example_index(published: Published) -> None:
    ordinals: dict[tuple[str, str], list[int]] = {}
    for row in published.rows.values():
        ordinals.setdefault((row.class_name, row.split), []).append(row.ordinal)
    assert published.run("index") == [
        "100 15",
        *(f"{c} {s} {len(found)} {min(found)}" for (c, s), found in sorted(ordinals.items())),
    ]


def test_example_torch(published: Published) -> None:
    assert published.run("torch") == ["[48, 32]"]


def test_example_sql(published: Published) -> None:
    assert published.run("sql") == ["small 1 cat 60", "small 1 dog 40"]
