"""Labels beside the class, and the model that drew the conditions of an image.

Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("samples", sa.Column("labels", sa.Text(), server_default="{}", nullable=False))
    op.add_column("contexts", sa.Column("conditioner_digest", sa.String(64), nullable=True))
