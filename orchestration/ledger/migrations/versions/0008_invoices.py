"""What Stripe's subscriptions and invoices say: periods, and lines of usage."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "subscription_periods",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("meter", sa.Text, primary_key=True),
        sa.Column("subscription_item_id", sa.Text, primary_key=True),
        sa.Column("period_start", MOMENT, primary_key=True),
        sa.Column("period_end", MOMENT, nullable=False),
        sa.Column("subscription_id", sa.Text, nullable=False),
        sa.Column("stripe_customer_id", sa.Text, nullable=False),
        sa.Column("price_id", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("is_trial", sa.Boolean, nullable=False),
        sa.Column("has_threshold", sa.Boolean, nullable=False),
        sa.Column("ends_at", MOMENT),
        sa.Column("seen_at", MOMENT, nullable=False),
    )
    op.create_table(
        "invoice_lines",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("meter", sa.Text, primary_key=True),
        sa.Column("line_id", sa.Text, primary_key=True),
        sa.Column("invoice_id", sa.Text, nullable=False),
        sa.Column("invoice_status", sa.Text, nullable=False),
        sa.Column("subscription_item_id", sa.Text, nullable=False),
        sa.Column("stripe_customer_id", sa.Text, nullable=False),
        sa.Column("period_start", MOMENT, nullable=False),
        sa.Column("period_end", MOMENT, nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("finalizes_at", MOMENT),
        sa.Column("finalized_at", MOMENT),
        sa.Column("seen_at", MOMENT, nullable=False),
    )
    with op.batch_alter_table("meter_certificates") as table:
        table.add_column(sa.Column("subscription_id", sa.Text))
        table.add_column(sa.Column("invoice_ids", sa.Text))
        table.add_column(sa.Column("line_ids", sa.Text))
        table.add_column(sa.Column("invoice_units", sa.BigInteger))
        table.add_column(sa.Column("invoice_amount", sa.BigInteger))
        table.add_column(sa.Column("expected_amount", sa.BigInteger))
        table.add_column(sa.Column("currency", sa.Text))
