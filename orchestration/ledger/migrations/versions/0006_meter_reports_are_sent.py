"""What became of a meter report at Stripe. Short texts that are remembered from one run to the next.

Versions before recorded reports as prepared and sent none: those were previews.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.rename_table("meter_reports", "former_reports")
    op.create_table(
        "meter_reports",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("meter", sa.Text, primary_key=True),
        sa.Column("stripe_customer_id", sa.Text, primary_key=True),
        sa.Column("hour_start", MOMENT, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("identifier", sa.String(100), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("answered_errors", sa.Integer, nullable=False),
        sa.Column("first_attempt_at", MOMENT),
        sa.Column("attempted_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.Column("error", sa.Text),
        sa.Column("stripe_units", sa.BigInteger),
        sa.Column("checks", sa.Integer, nullable=False),
        sa.Column("checked_at", MOMENT),
    )
    op.execute(
        """insert into meter_reports (
               env, meter, stripe_customer_id, hour_start, revision, units, value, identifier, state, created_at,
               attempts, answered_errors, checks
           )
           select env, meter, stripe_customer_id, hour_start, revision, units, units, identifier, 'previewed',
               created_at, 0, 0, 0
           from former_reports"""
    )
    op.drop_table("former_reports")
    op.create_index("meter_reports_by_state", "meter_reports", ["env", "meter", "state", "hour_start"])
    op.create_table(
        "marks",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
