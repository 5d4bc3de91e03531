"""Messages are decided once and delivered by routes. What routes did with crossings, since when, and who wants no more.

Each delivery of before becomes a message of its key, on the route `slack`; its state, its mark and its replies stay.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

MOMENT = sa.DateTime(timezone=True)
CROSSING = (
    ("account_id", sa.Text),
    ("meter", sa.Text),
    ("period_start", MOMENT),
    ("quota", sa.BigInteger),
    ("threshold", sa.Text),
)


def upgrade() -> None:
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    after_env = "substr(key, instr(key, '|') + 1)"
    kind = f"substr({after_env}, 1, instr({after_env} || '|', '|') - 1)" if is_sqlite else "split_part(key, '|', 2)"
    op.create_table(
        "messages",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("decided_at", MOMENT, nullable=False),
    )
    op.create_index("messages_by_kind", "messages", ["kind", "decided_at"])
    op.execute(
        "insert into messages (key, kind, content, decided_at)"
        f" select key, substr({kind}, 1, 32), payload, created_at from deliveries where parent is null"
    )
    op.add_column("deliveries", sa.Column("message", sa.Text))
    op.add_column("deliveries", sa.Column("route", sa.Text, nullable=False, server_default="slack"))
    op.add_column("deliveries", sa.Column("doubts", sa.Integer, nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("not_before", MOMENT))
    op.execute("update deliveries set message = key where parent is null")
    op.create_index("deliveries_by_message", "deliveries", ["message"])
    op.create_index("deliveries_by_parent", "deliveries", ["parent"])
    _point_at_messages(
        "announced_crossings",
        [
            sa.Column("env", sa.Text, primary_key=True),
            *(sa.Column(name, kind, primary_key=True) for name, kind in CROSSING),
            sa.Column("crossed_at", MOMENT, nullable=False),
            sa.Column("detected_at", MOMENT, nullable=False),
            sa.Column("outcome", sa.String(16), nullable=False),
        ],
        [sa.Column("withdrawn_by", sa.Text)],
    )
    _point_at_messages(
        "digest_rules",
        [
            sa.Column("env", sa.Text, primary_key=True),
            sa.Column("rule", sa.Text, primary_key=True),
            sa.Column("terms", sa.Text, nullable=False),
            sa.Column("since", MOMENT, nullable=False),
        ],
        [],
    )
    op.create_table(
        "routed_crossings",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, primary_key=True),
        *(sa.Column(name, kind, primary_key=True) for name, kind in CROSSING),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("decided_at", MOMENT, nullable=False),
        sa.Column("message_key", sa.Text, sa.ForeignKey("messages.key")),
    )
    op.create_table(
        "route_starts",
        sa.Column("env", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
    )
    op.create_table(
        "unsubscribed",
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("since", MOMENT, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )


def _point_at_messages(table: str, before: list[sa.Column[Any]], after: list[sa.Column[Any]]) -> None:
    """Make `delivery_key` a `message_key`: the deliveries of before have the keys of their messages."""
    op.rename_table(table, f"former_{table}")
    key = sa.Column("message_key", sa.Text, sa.ForeignKey("messages.key"), nullable=False)
    op.create_table(table, *before, key, *after)
    first, last = (", ".join(column.name for column in columns) for columns in (before, after))
    rest = f", {last}" if last else ""
    op.execute(
        f"insert into {table} ({first}, message_key{rest}) select {first}, delivery_key{rest} from former_{table}"
    )
    op.drop_table(f"former_{table}")
