"""Deliveries of several parts: what a part is a reply to, and where an attempt went."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("parent", sa.Text))
    op.add_column("deliveries", sa.Column("address", sa.Text))
