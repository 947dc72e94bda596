"""Trainings of models as jobs of the service.

Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "trainings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("recipe_digest", sa.String(length=64), nullable=False),
        sa.Column("num_images", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("owner", sa.String(length=64), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("woken_at", sa.Float(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("checkpoint_images_seen", sa.BigInteger(), nullable=True),
        sa.Column("model_digest", sa.String(length=64), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=False),
        sa.Column("created_by", sa.String(length=63), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("collected_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trainings")),
        sa.UniqueConstraint("uid", name=op.f("uq_trainings_uid")),
        sa.UniqueConstraint(
            "tenant", "idempotency_key", name=op.f("uq_trainings_tenant_idempotency_key")
        ),
    )
    live = sa.text("state IN ('QUEUED', 'RUNNING')")
    op.create_index(
        "uq_trainings_live_name",
        "trainings",
        ["tenant", "name"],
        unique=True,
        sqlite_where=live,
        postgresql_where=live,
    )
    op.create_index(op.f("ix_trainings_state"), "trainings", ["state"])
    op.create_index(op.f("ix_trainings_tenant_id"), "trainings", ["tenant", "id"])
    row_id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "training_events",
        sa.Column("id", row_id, nullable=False),
        sa.Column("training_id", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["training_id"], ["trainings.id"], name=op.f("fk_training_events_training_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_events")),
    )
    op.create_index(
        op.f("ix_training_events_training_id_id"), "training_events", ["training_id", "id"]
    )
