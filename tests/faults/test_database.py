"""PostgreSQL that restarts under the workers, and commits whose reply is lost."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from datagen.catalog.catalog import Catalog
from datagen.catalog.schema import migrate
from tests.faults.conftest import DigestOf
from tests.faults.fleet import Fleet
from tests.faults.postgres_proxy import cutting_commits
from tests.faults.recipes import busy_recipe
from tests.servers import PostgresServer, start_postgres

AFTER_COMMIT = (
    "generate.after_commit",
    "judge.after_commit",
    "pack.after_commit",
    "finish.after_commit",
)
