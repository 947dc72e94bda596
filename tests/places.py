"""Where a service keeps things, twice: SQLite and a folder, PostgreSQL and S3."""

from __future__ import annotations

from dataclasses import replace

import pytest

from datagen.settings import Settings

PLACES = ["embedded", "servers"]


def place_of(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """request.param: of PLACES."""
    if request.param == "embedded":
        return settings
    return replace(
        settings,
        database_url=str(request.getfixturevalue("postgres_url")),
        store_url=str(request.getfixturevalue("s3_url")),
        s3_endpoint_url=str(request.getfixturevalue("s3_endpoint")),
    )
