"""What people answered to alerts: contacted, won, false alarm, snoozed."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "dispositions",
        sa.Column("delivery_key", sa.Text, sa.ForeignKey("deliveries.key"), primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("meter", sa.Text, primary_key=True),
        sa.Column("env", sa.Text, nullable=False),
        sa.Column("message_key", sa.Text, sa.ForeignKey("messages.key"), nullable=False),
        sa.Column("disposition", sa.String(16), nullable=False),
        sa.Column("by_user", sa.Text, nullable=False),
        sa.Column("said_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True)),
    )
