"""Crossings are of a meter, and of thresholds that may be a number of units: named, 80% where it was 80 before."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.rename_table("announced_crossings", "former_crossings")
    op.create_table(
        "announced_crossings",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("meter", sa.Text, primary_key=True),
        sa.Column("period_start", MOMENT, primary_key=True),
        sa.Column("quota", sa.BigInteger, primary_key=True),
        sa.Column("threshold", sa.Text, primary_key=True),
        sa.Column("crossed_at", MOMENT, nullable=False),
        sa.Column("detected_at", MOMENT, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("delivery_key", sa.Text, sa.ForeignKey("deliveries.key"), nullable=False),
    )
    op.execute(
        """insert into announced_crossings
           select env, account_id, 'api-calls', period_start, quota, cast(threshold_pct as varchar(11)) || '%',
               crossed_at, detected_at, outcome, delivery_key
           from former_crossings"""
    )
    op.drop_table("former_crossings")
