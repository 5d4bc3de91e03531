"""The ledger: landing files, deliveries, announced crossings, meter reports."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "landed_files",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("inode", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("read_bytes", sa.BigInteger, nullable=False),
        sa.Column("read_lines", sa.BigInteger, nullable=False),
        sa.Column("is_complete", sa.Boolean, nullable=False),
        sa.Column("copy_of", sa.Text),
        sa.Column("batch", sa.Integer, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("attempted_at", MOMENT),
        sa.Column("finished_at", MOMENT),
        sa.Column("receipt", sa.Text),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "announced_crossings",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("account_id", sa.Text, primary_key=True),
        sa.Column("period_start", MOMENT, primary_key=True),
        sa.Column("quota", sa.BigInteger, primary_key=True),
        sa.Column("threshold_pct", sa.Integer, primary_key=True),
        sa.Column("crossed_at", MOMENT, nullable=False),
        sa.Column("detected_at", MOMENT, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("delivery_key", sa.Text, sa.ForeignKey("deliveries.key"), nullable=False),
    )
    op.create_table(
        "meter_reports",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("meter", sa.Text, primary_key=True),
        sa.Column("stripe_customer_id", sa.Text, primary_key=True),
        sa.Column("hour_start", MOMENT, primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("identifier", sa.String(100), nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
    )
