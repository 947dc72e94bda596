"""The service of the API's own tests, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datagen.client import Client
from tests.api.conftest import Api
from tests.api.conftest import any_api as any_api
from tests.api.conftest import api as api
from tests.api.conftest import server_api as server_api
from tests.api.conftest import server_settings as server_settings


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    """Of tenant acme, with an admin key."""
    with Client(api.url, api.key()) as client:
        yield client
