"""A Valkey of the module's own, that its tests may stop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from datagen.stack.programs import ServiceMissingError
from datagen.stack.servers import Valkey, prepare_valkey
from datagen.stack.supervisor import Supervisor
from tests.conftest import give_up
from tests.servers import temporary_folder


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as supervisor:
        yield supervisor


@pytest.fixture
def valkey(supervisor: Supervisor) -> Iterator[Valkey]:
    """Supervised as `valkey`."""
    folder = temporary_folder("valkey")
    try:
        server = prepare_valkey(folder)
        supervisor.start(server.program)
        yield server
    except ServiceMissingError as error:
        give_up(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
