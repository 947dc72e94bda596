"""A database of the release before, with what is in it, is brought to this release's schema."""

from __future__ import annotations

from alembic import command
from alembic.config import Config

from datagen.catalog.catalog import Catalog
from datagen.catalog.jobs import list_jobs
from datagen.catalog.registry import list_models
from datagen.catalog.schema import migrate
from datagen.catalog.versions import list_versions
from datagen.resources import migrations_dir

# As the release before wrote them.
ROWS = (
    "INSERT INTO models (digest, name, generator, config, created_at) "
    "VALUES ('m', 'noise', 'noise', '{}', 1)",
    "INSERT INTO recipes (digest, name, body, created_at) "
    """VALUES ('r', 'small', '{"classes":[{"count":60},{"count":40}]}', 1)""",
    "INSERT INTO contexts (id, digest, model_digest, body) VALUES (1, 'c', 'm', '{}')",
    "INSERT INTO jobs (id, name, version, recipe_digest, context_id, fingerprint, unit_size, "
    "batch_size, state, created_at) VALUES (1, 'small', 1, 'r', 1, '{}', 32, 16, 'PUBLISHED', 1)",
    "INSERT INTO dataset_versions (name, version, job_id, digest, manifest_sha256, num_samples, "
    "size_bytes, seconds, published_at) VALUES ('small', 1, 1, 'd', 's', 100, 9, 1, 2)",
)


def test_jobs_and_versions_of_the_first_schema_are_those_of_the_local_tenant(
    empty_catalog: Catalog,
) -> None:
    _to_first_schema(empty_catalog)
    migrate(empty_catalog)
    [job] = list_jobs(empty_catalog.of("local"), limit=10)
    assert (job.kind, job.priority, job.num_images) == ("dataset", "batch", 100)
    assert len(job.uid) == 32
    [version] = list_versions(empty_catalog.of("local"))
    assert (version.name, version.num_samples, version.revoked_at) == ("small", 100, None)


def test_models_registered_before_there_were_versions_are_the_first(
    empty_catalog: Catalog,
) -> None:
    _to_schema(
        empty_catalog,
        "0003",
        "INSERT INTO registered_models (tenant, name, digest, config, size_bytes, created_at) "
        "VALUES ('local', 'xray', 'd', '{}', 1, 1)",
    )
    migrate(empty_catalog)
    [model] = list_models(empty_catalog.of("local"))
    assert (model.name, model.version, model.exact_name) == ("xray", 1, "xray")


def _to_first_schema(catalog: Catalog) -> None:
    _to_schema(catalog, "0001", *ROWS)


def _to_schema(catalog: Catalog, revision: str, *rows: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()))
    with catalog.transaction(keep_references=False) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for row in rows:
            connection.exec_driver_sql(row)
