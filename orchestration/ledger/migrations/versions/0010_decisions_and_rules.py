"""What people decided about a delivery, how often it was sent again, and the rules by which a digest announces.

A ledger of an earlier version knows no rules: the first digest of this one notes them, and takes none of them for new.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("resends", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "delivery_decisions",
        sa.Column("key", sa.Text, sa.ForeignKey("deliveries.key"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state_before", sa.String(16), nullable=False),
        sa.Column("receipt_before", sa.Text),
    )
    op.create_table(
        "digest_rules",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivery_key", sa.Text, sa.ForeignKey("deliveries.key"), nullable=False),
    )
