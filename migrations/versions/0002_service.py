"""The service: tenants, keys, schedules, webhooks, audit, workers; jobs that can be cancelled.

Revises: 0001
"""

import json
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _widen_contexts()
    _widen_jobs()
    _widen_versions()
    op.create_index(
        op.f("ix_samples_job_id_split_class_name_ordinal"),
        "samples",
        ["job_id", "split", "class_name", "ordinal"],
    )
    op.drop_index(op.f("ix_units_job_id_state"), "units")
    op.create_index(op.f("ix_units_job_id_state_id"), "units", ["job_id", "state", "id"])
    _create_tables()


def _tenant() -> sa.Column:
    return sa.Column("tenant", sa.String(63), nullable=False, server_default="local")


def _widen_contexts() -> None:
    with op.batch_alter_table("contexts") as batch:
        batch.add_column(_tenant())
        batch.drop_constraint("uq_contexts_digest", type_="unique")
        batch.create_unique_constraint(op.f("uq_contexts_tenant_digest"), ["tenant", "digest"])


def _widen_jobs() -> None:
    added = [
        sa.Column("uid", sa.String(32), nullable=True),
        _tenant(),
        sa.Column("kind", sa.String(16), nullable=False, server_default="dataset"),
        sa.Column("priority", sa.String(16), nullable=False, server_default="batch"),
        sa.Column("num_images", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("generate_queue", sa.String(96), nullable=True),
        sa.Column("cpu_queue", sa.String(96), nullable=True),
        sa.Column("woken_at", sa.Float(), nullable=True),
        sa.Column("created_by", sa.String(63), nullable=True),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("publication", sa.Text(), nullable=True),
        sa.Column("collected_at", sa.Float(), nullable=True),
    ]
    for column in added:
        op.add_column("jobs", column)
    _fill_jobs(op.get_bind())
    with op.batch_alter_table("jobs") as batch:
        batch.alter_column("uid", existing_type=sa.String(32), nullable=False)
        batch.alter_column("name", existing_type=sa.String(63), type_=sa.String(80))
        batch.drop_constraint("uq_jobs_name_version", type_="unique")
        batch.drop_constraint("uq_jobs_name_recipe_digest", type_="unique")
        batch.create_unique_constraint(op.f("uq_jobs_uid"), ["uid"])
        batch.create_unique_constraint(
            op.f("uq_jobs_tenant_name_version"), ["tenant", "name", "version"]
        )
    live = sa.text("state != 'CANCELLED'")
    op.create_index(
        "uq_jobs_live_recipe",
        "jobs",
        ["tenant", "name", "recipe_digest"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_index(op.f("ix_jobs_state"), "jobs", ["state"])
    op.create_index(op.f("ix_jobs_tenant_id"), "jobs", ["tenant", "id"])


def _fill_jobs(connection: sa.Connection) -> None:
    names = ("id", "uid", "recipe_digest", "num_images")
    jobs = sa.table("jobs", *(sa.column(name) for name in names))
    recipes = sa.table("recipes", sa.column("digest"), sa.column("body"))
    query = sa.select(jobs.c.id, recipes.c.body).join(
        recipes, recipes.c.digest == jobs.c.recipe_digest
    )
    for job_id, body in connection.execute(query).all():
        asked = sum(each["count"] for each in json.loads(body)["classes"])
        filled = jobs.update().where(jobs.c.id == job_id)
        connection.execute(filled.values(uid=uuid.uuid4().hex, num_images=asked))


def _widen_versions() -> None:
    with op.batch_alter_table("dataset_versions") as batch:
        batch.drop_constraint("pk_dataset_versions", type_="primary")
        batch.add_column(_tenant())
        batch.add_column(sa.Column("deprecated_at", sa.Float(), nullable=True))
        batch.add_column(sa.Column("deprecated_reason", sa.Text(), nullable=True))
        batch.add_column(sa.Column("revoked_at", sa.Float(), nullable=True))
        batch.add_column(sa.Column("revoked_reason", sa.Text(), nullable=True))
        batch.add_column(sa.Column("erased_at", sa.Float(), nullable=True))
        batch.alter_column("name", existing_type=sa.String(63), type_=sa.String(80))
        batch.create_primary_key(op.f("pk_dataset_versions"), ["tenant", "name", "version"])


def _create_tables() -> None:
    op.create_table(
        "job_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_events_job_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job_events")),
    )
    op.create_index(op.f("ix_job_events_job_id_id"), "job_events", ["job_id", "id"], unique=False)
    op.create_table(
        "tenants",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("max_running_jobs", sa.Integer(), nullable=True),
        sa.Column("max_images_per_day", sa.BigInteger(), nullable=True),
        sa.Column("max_bytes", sa.BigInteger(), nullable=True),
        sa.Column("attempt_retention_days", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.String(length=63), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_tenant"), "api_keys", ["tenant"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("locked_until", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_idempotency_keys_job_id")),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "audit_log",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(length=63), nullable=False),
        sa.Column("action", sa.String(length=63), nullable=False),
        sa.Column("target", sa.String(length=255), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "seq", name=op.f("pk_audit_log")),
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("cron", sa.String(length=255), nullable=False),
        sa.Column("timezone", sa.String(length=63), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("new_seed", sa.Integer(), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("paused", sa.Integer(), nullable=False),
        sa.Column("next_fire_at", sa.Float(), nullable=True),
        sa.Column("created_by", sa.String(length=63), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_schedules_tenant_name")),
    )
    op.create_index(op.f("ix_schedules_next_fire_at"), "schedules", ["next_fire_at"], unique=False)
    op.create_table(
        "schedule_fires",
        sa.Column("schedule_id", sa.String(length=32), nullable=False),
        sa.Column("fire_at", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("locked_until", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_schedule_fires_job_id")),
        sa.ForeignKeyConstraint(
            ["schedule_id"], ["schedules.id"], name=op.f("fk_schedule_fires_schedule_id")
        ),
        sa.PrimaryKeyConstraint("schedule_id", "fire_at", name=op.f("pk_schedule_fires")),
    )
    unfinished = sa.text("job_id IS NULL AND error IS NULL")
    op.create_index(
        "ix_schedule_fires_open",
        "schedule_fires",
        ["locked_until"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("secret", sa.String(length=128), nullable=False),
        sa.Column("events", sa.String(length=255), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("disabled_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_tenant"), "webhooks", ["tenant"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("webhook_id", sa.String(length=32), nullable=False),
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("event_type", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("delivered_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        sa.UniqueConstraint(
            "webhook_id", "event_id", name=op.f("uq_webhook_deliveries_webhook_id_event_id")
        ),
    )
    op.create_index(
        op.f("ix_webhook_deliveries_state_next_at"),
        "webhook_deliveries",
        ["state", "next_at"],
        unique=False,
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("claimed_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.create_table(
        "registered_models",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("training_data_sha256", sa.String(length=64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("deprecated_at", sa.Float(), nullable=True),
        sa.Column("deprecated_reason", sa.Text(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("revoked_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_registered_models")),
    )
    op.create_index(
        op.f("ix_registered_models_digest"), "registered_models", ["digest"], unique=False
    )
    op.create_table(
        "tombstones",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=63), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("erased_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tombstones")),
        sa.UniqueConstraint(
            "tenant", "kind", "subject", name=op.f("uq_tombstones_tenant_kind_subject")
        ),
    )
