"""Registered sources of real images, and which models were trained on them; models in versions.

Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sources",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("class_digests", sa.Text(), nullable=False),
        sa.Column("num_images", sa.BigInteger(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("licence", sa.String(length=200), nullable=False),
        sa.Column("description", sa.String(length=1000), nullable=False),
        sa.Column("permitted_use", sa.String(length=500), nullable=False),
        sa.Column("permitted_uses", sa.Text(), nullable=False),
        sa.Column("consent", sa.String(length=500), nullable=False),
        sa.Column("contact", sa.String(length=200), nullable=False),
        sa.Column("expires_on", sa.String(length=10), nullable=True),
        sa.Column("location", sa.String(length=2048), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("profile", sa.String(length=127), nullable=True),
        sa.Column("created_by", sa.String(length=63), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("withdrawn_at", sa.Float(), nullable=True),
        sa.Column("withdrawn_reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name=op.f("pk_sources")),
    )
    op.create_index(op.f("ix_sources_tenant_digest"), "sources", ["tenant", "digest"])
    op.create_table(
        "source_uses",
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("source_name", sa.String(length=63), nullable=False),
        sa.Column("source_version", sa.Integer(), nullable=False),
        sa.Column("model_name", sa.String(length=80), nullable=False),
        sa.Column("data_sha256", sa.String(length=64), nullable=False),
        sa.Column("trained_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant",
            "model_digest",
            "source_name",
            "source_version",
            name=op.f("pk_source_uses"),
        ),
    )
    op.create_index(
        op.f("ix_source_uses_tenant_source_name_source_version"),
        "source_uses",
        ["tenant", "source_name", "source_version"],
    )
    _number_models()


def _number_models() -> None:
    """What is registered is version 1 of its name. Names of models grow by @VERSION."""
    with op.batch_alter_table("models") as batch:
        batch.alter_column("name", existing_type=sa.String(63), type_=sa.String(80))
    with op.batch_alter_table("registered_models") as batch:
        batch.drop_constraint("pk_registered_models", type_="primary")
        batch.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
        batch.create_primary_key(op.f("pk_registered_models"), ["tenant", "name", "version"])
