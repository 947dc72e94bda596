"""Alembic's entry point: runs on the connection that datagen.catalog.schema passes in, or, from
the `alembic` command, on DATAGEN_DATABASE_URL."""

from alembic import context

from datagen.catalog.catalog import Catalog
from datagen.catalog.tables import metadata
from datagen.settings import load_settings


def run_on(connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run_on(given)
else:
    with Catalog(load_settings().database_url).transaction() as connection:
        run_on(connection)
