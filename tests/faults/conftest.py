"""A fleet on PostgreSQL and S3 with short leases, and the digests of undisturbed runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.schema import migrate
from datagen.embedded import run_recipe
from datagen.recipe import RecipeDocument
from datagen.resolve import resolve
from datagen.settings import load_settings
from tests.faults.fleet import Fleet, open_fleet
from tests.servers import S3Server

DigestOf = Callable[[RecipeDocument], str]


@pytest.fixture(scope="session")
def digest_of(tmp_path_factory: pytest.TempPathFactory) -> DigestOf:
    """What an undisturbed run of a recipe publishes, by the embedded mode, once per recipe."""
    known: dict[str, str] = {}

    def digest(document: RecipeDocument) -> str:
        resolved = resolve(document, [])
        if resolved.digest not in known:
            settings = load_settings({}, home=tmp_path_factory.mktemp("calm"))
            known[resolved.digest] = run_recipe(resolved, settings).digest
        return known[resolved.digest]

    return digest


@pytest.fixture
def fleet(
    tmp_path: Path, postgres_url: str, s3_server: S3Server, s3_endpoint: str, s3_url: str
) -> Iterator[Fleet]:
    """Leases of one second."""
    variables = {
        "DATAGEN_DATABASE_URL": postgres_url,
        "DATAGEN_STORE_URL": s3_url,
        "DATAGEN_S3_ENDPOINT_URL": s3_endpoint,
    }
    settings = replace(
        load_settings(variables, home=tmp_path / "home"), lease_s=1.0, heartbeat_s=0.25
    )
    catalog = Catalog(postgres_url)
    migrate(catalog)
    catalog.close()
    with open_fleet(settings, tmp_path, s3_server.environment) as opened:
        yield opened
