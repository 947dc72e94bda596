"""Brings a database to the newest schema. Called once by each command that may write."""

from __future__ import annotations

from sqlalchemy import inspect, text

from datagen.catalog.catalog import Catalog
from datagen.errors import CatalogError
from datagen.resources import migrations_dir

HEAD_REVISION = "0006"


def has_schema(catalog: Catalog) -> bool:
    """Whether the database is at HEAD_REVISION. Raises CatalogError if it is newer than us."""
    with catalog.reading() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if revision is not None and revision > HEAD_REVISION:
        raise CatalogError(
            f"the catalog is at schema {revision}, newer than this datagen knows "
            f"({HEAD_REVISION}); upgrade datagen"
        )
    return revision == HEAD_REVISION


def migrate(catalog: Catalog) -> None:
    """Applies what is missing; concurrent callers wait for each other. Alembic is imported only
    where there is something to do."""
    if has_schema(catalog):
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    with catalog.transaction(keep_references=False) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7303014)"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
