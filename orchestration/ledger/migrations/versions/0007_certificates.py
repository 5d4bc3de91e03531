"""Whether a customer's usage period was billed as it was counted."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "meter_certificates",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("meter", sa.Text, primary_key=True),
        sa.Column("stripe_customer_id", sa.Text, primary_key=True),
        sa.Column("period_start", MOMENT, primary_key=True),
        sa.Column("period_end", MOMENT, nullable=False),
        sa.Column("final_at", MOMENT, nullable=False),
        sa.Column("hours", sa.Integer, nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("reported_units", sa.BigInteger, nullable=False),
        sa.Column("stripe_units", sa.BigInteger),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("difference", sa.Text),
        sa.Column("certified_at", MOMENT, nullable=False),
    )
