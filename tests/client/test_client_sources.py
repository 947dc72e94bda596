"""Sources through the client, against the real service."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from datagen.catalog.sources import record_use
from datagen.client import AsyncClient, Client
from datagen.client.results import Derived, Source
from datagen.errors import ForbiddenError, InputError, NotFoundError, RevokedError
from datagen.settings import Settings
from tests.api.conftest import Api
from tests.test_sources import write_images

TERMS: dict[str, Any] = {
    "licence": "CC-BY-4.0",
    "permitted_use": "research on wards",
    "permitted_uses": ["research"],
    "consent": "broad consent, version 2",
    "contact": "data@example.org",
}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    write_images(tmp_path / "images" / "wards")
    return replace(settings, training_data_dir=tmp_path / "images")


def test_a_source_is_registered_listed_shown_and_withdrawn(api: Api, client: Client) -> None:
    first = client.register_source(
        "wards", "wards", **TERMS, expires_on=datetime.date(2100, 1, 31), description="Two wards"
    )
    assert (first.name, first.version, first.num_images) == ("wards", 1, 12)
    assert (first.expires_on, first.description) == ("2100-01-31", "Two wards")
    assert first.permitted_uses == ("research",)
    second = client.register_source("wards", "wards", **TERMS)
    assert (second.version, second.expires_on, second.description) == (2, None, "wards")
    assert client.register_source("wards", "wards", **TERMS) == second
    assert list(client.sources()) == [first, second]

    made = api.publish({"name": "toys"})
    noise = client.model("noise").digest
    record_use(
        api.catalog.of("acme"),
        source_name="wards",
        source_version=1,
        model_name="noise",
        model_digest=noise,
        data_sha256="a" * 64,
    )
    shown = client.source("wards@1")
    derived = shown.derived
    assert derived is not None
    assert replace(shown, derived=None) == first
    assert derived.sources == ("wards@1", "wards@2")
    assert [(m.name, m.digest) for m in derived.models] == [("noise", noise)]
    assert [v.digest for v in derived.versions] == [made["digest"]]
    assert [use.data_sha256 for use in derived.trainings] == ["a" * 64]

    planned = client.withdraw_source("wards", "no consent", dry_run=True)
    assert planned == replace(derived, dry_run=True)
    done = client.withdraw_source("wards", "no consent")
    assert (done.versions, done.dry_run) == (derived.versions, False)
    assert client.source("wards").withdrawn_reason == "no consent"
    with pytest.raises(RevokedError, match="no consent"):
        client.register_source("others", "wards", **TERMS)


def test_what_is_wrong_is_told_as_elsewhere(api: Api, client: Client) -> None:
    with pytest.raises(NotFoundError, match="wards"):
        client.source("wards")
    with pytest.raises(InputError, match="nowhere"):
        client.register_source("wards", "nowhere", **TERMS)
    with pytest.raises(InputError, match="consent"):
        client.register_source("wards", "wards", **(TERMS | {"consent": ""}))
    with Client(api.url, api.key("submit")) as submitter:
        submitter.register_source("wards", "wards", **TERMS)
        with pytest.raises(ForbiddenError):
            submitter.withdraw_source("wards", "x")


def test_the_async_client_does_the_same(api: Api) -> None:
    key = api.key()

    async def work() -> tuple[Source, list[Source], Source, Derived]:
        async with AsyncClient(api.url, key) as client:
            made = await client.register_source("wards", "wards", **TERMS)
            listed = [source async for source in client.sources()]
            shown = await client.source("wards")
            return made, listed, shown, await client.withdraw_source("wards", "no consent")

    made, listed, shown, withdrawn = anyio.run(work)
    assert listed == [made] == [replace(shown, derived=None)]
    assert withdrawn.sources == ("wards@1",)
