"""Deliveries of several parts: what a part is a reply to, and where an attempt went. Who an e-mail address is."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("parent", sa.Text))
    op.add_column("deliveries", sa.Column("address", sa.Text))
    op.create_table(
        "channel_users",
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("email", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
    )
