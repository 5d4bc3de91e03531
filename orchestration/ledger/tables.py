"""The ledger's tables. Changes go through a migration in `migrations/versions/`; the README says what rows mean."""

import sqlalchemy as sa

from orchestration.ledger.columns import Choice, EpochHour, EpochTime, Identifier, Text, UtcDateTime

metadata = sa.MetaData()

landed_files = sa.Table(
    "landed_files",
    metadata,
    sa.Column("path", Text, primary_key=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("origin", Text, nullable=False),
    sa.Column("read_bytes", sa.BigInteger, nullable=False),
    sa.Column("read_lines", sa.BigInteger, nullable=False),
    sa.Column("is_complete", sa.Boolean, nullable=False),
    sa.Column("copy_of", Text),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("stored_bytes", sa.BigInteger, nullable=False),
    sa.Column("damage", Text),
    sa.Column("format", Text),
    sa.Column("rows_sha256", sa.String(64)),
    sa.Column("head_sha256", sa.String(64)),
    sa.Column("gone_at", UtcDateTime),
    *(
        sa.Index(f"landed_files_by_{column}", column)
        for column in ("sha256", "inode", "origin", "head_sha256", "gone_at", "damage", "is_complete", "format")
    ),
)
messages = sa.Table(
    "messages",
    metadata,
    sa.Column("key", Text, primary_key=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    sa.Index("messages_by_kind", "kind", "decided_at"),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("key", Text, primary_key=True),
    sa.Column("channel", Text, nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("attempted_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("receipt", Text),
    sa.Column("error", Text),
    sa.Column("parent", Text),
    sa.Column("address", Text),
    sa.Column("permalink", Text),
    sa.Column("resends", sa.Integer, nullable=False, server_default="0"),
    sa.Column("message", Text),
    sa.Column("route", Text, nullable=False, server_default="slack"),
    sa.Column("doubts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("not_before", UtcDateTime),
    sa.Index("deliveries_by_message", "message"),
    sa.Index("deliveries_by_parent", "parent"),
)

delivery_decisions = sa.Table(
    "delivery_decisions",
    metadata,
    sa.Column("key", Text, sa.ForeignKey("deliveries.key"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("decision", sa.String(16), nullable=False),
    sa.Column("note", Text, nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    sa.Column("state_before", sa.String(16), nullable=False),
    sa.Column("receipt_before", Text),
)

channel_users = sa.Table(
    "channel_users",
    metadata,
    sa.Column("channel", Text, primary_key=True),
    sa.Column("email", Text, primary_key=True),
    sa.Column("user_id", Text, nullable=False),
    sa.Column("found_at", UtcDateTime, nullable=False),
)

announced_crossings = sa.Table(
    "announced_crossings",
    metadata,
    sa.Column("env", Text, primary_key=True),
    sa.Column("account_id", Text, primary_key=True),
    sa.Column("meter", Text, primary_key=True),
    sa.Column("period_start", UtcDateTime, primary_key=True),
    sa.Column("quota", sa.BigInteger, primary_key=True),
    sa.Column("threshold", Text, primary_key=True),
    sa.Column("crossed_at", UtcDateTime, nullable=False),
    sa.Column("detected_at", UtcDateTime, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("message_key", Text, sa.ForeignKey("messages.key"), nullable=False),
    sa.Column("withdrawn_by", Text),
)

routed_crossings = sa.Table(
    "routed_crossings",
    metadata,
    sa.Column("env", Text, primary_key=True),
    sa.Column("route", Text, primary_key=True),
    sa.Column("account_id", Text, primary_key=True),
    sa.Column("meter", Text, primary_key=True),
    sa.Column("period_start", UtcDateTime, primary_key=True),
    sa.Column("quota", sa.BigInteger, primary_key=True),
    sa.Column("threshold", Text, primary_key=True),
    sa.Column("outcome", sa.String(32), nullable=False),
    sa.Column("decided_at", UtcDateTime, nullable=False),
    sa.Column("message_key", Text, sa.ForeignKey("messages.key")),
)
route_starts = sa.Table(
    "route_starts",
    metadata,
    sa.Column("env", Text, primary_key=True),
    sa.Column("route", Text, primary_key=True),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("terms", Text, nullable=False),
)
unsubscribed = sa.Table(
    "unsubscribed",
    metadata,
    sa.Column("address", Text, primary_key=True),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("note", Text, nullable=False),
)

dispositions = sa.Table(
    "dispositions",
    metadata,
    sa.Column("delivery_key", Text, sa.ForeignKey("deliveries.key"), primary_key=True),
    sa.Column("source", Text, primary_key=True),
    sa.Column("account_id", Text, primary_key=True),
    sa.Column("meter", Text, primary_key=True),
    sa.Column("env", Text, nullable=False),
    sa.Column("message_key", Text, sa.ForeignKey("messages.key"), nullable=False),
    sa.Column("disposition", sa.String(16), nullable=False),
    sa.Column("by_user", Text, nullable=False),
    sa.Column("said_at", UtcDateTime, nullable=False),
    sa.Column("withdrawn_at", UtcDateTime),
)

page_keys = sa.Table(
    "page_keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", Text, nullable=False),
    sa.Column("audience", sa.String(16), nullable=False),
    sa.Column("account_id", Text),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("granted_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("revoked_at", UtcDateTime),
)
# A row for each hour in which somebody saw an account, however often: a machine may ask every second.
page_views = sa.Table(
    "page_views",
    metadata,
    sa.Column("visitor", Text, primary_key=True),
    sa.Column("account_id", Text, primary_key=True),
    sa.Column("page", sa.String(16), primary_key=True),
    sa.Column("hour_start", EpochHour, primary_key=True, autoincrement=False),
    sa.Column("first_at", UtcDateTime, nullable=False),
    sa.Index("page_views_by_hour", "hour_start"),
)

digest_rules = sa.Table(
    "digest_rules",
    metadata,
    sa.Column("env", Text, primary_key=True),
    sa.Column("rule", Text, primary_key=True),
    sa.Column("terms", Text, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("message_key", Text, sa.ForeignKey("messages.key"), nullable=False),
)

report_meters = sa.Table(
    "report_meters",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("env", Text, nullable=False),
    sa.Column("meter", Text, nullable=False),
    sa.UniqueConstraint("env", "meter"),
)
report_customers = sa.Table(
    "report_customers",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("stripe_customer_id", Text, nullable=False, unique=True),
)
REPORT_STATES = (
    *("previewed", "waiting", "prepared", "sending", "sent", "confirmed"),
    *("superseded", "refused", "lost", "mismatch", "held", "settled"),
)
# The table that grows by the hour and customer: numbers for names, and no index of the identifiers, which are made of
# the key. By hours first: what is planned, sent and copied together is on the same pages.
meter_reports = sa.Table(
    "meter_reports",
    metadata,
    sa.Column("hour_start", EpochHour, primary_key=True, autoincrement=False),
    sa.Column("customer_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("meter_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("value", sa.BigInteger, nullable=False),
    sa.Column("identifier", Identifier, nullable=False),
    sa.Column("state", Choice(*REPORT_STATES), nullable=False),
    sa.Column("created_at", EpochTime, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("answered_errors", sa.Integer, nullable=False),
    sa.Column("first_attempt_at", EpochTime),
    sa.Column("attempted_at", EpochTime),
    sa.Column("finished_at", EpochTime),
    sa.Column("error", Text),
    sa.Column("stripe_units", sa.BigInteger),
    sa.Column("checks", sa.Integer, nullable=False),
    sa.Column("checked_at", EpochTime),
    sa.Index("meter_reports_by_state", "meter_id", "state", "hour_start"),
    sa.Index("meter_reports_by_customer", "customer_id", "hour_start"),
    sqlite_with_rowid=False,
)
marks = sa.Table(
    "marks",
    metadata,
    sa.Column("name", Text, primary_key=True),
    sa.Column("value", Text, nullable=False),
)

meter_certificates = sa.Table(
    "meter_certificates",
    metadata,
    sa.Column("env", Text, primary_key=True),
    sa.Column("meter", Text, primary_key=True),
    sa.Column("stripe_customer_id", Text, primary_key=True),
    sa.Column("period_start", UtcDateTime, primary_key=True),
    sa.Column("period_end", UtcDateTime, nullable=False),
    sa.Column("final_at", UtcDateTime, nullable=False),
    sa.Column("hours", sa.Integer, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("reported_units", sa.BigInteger, nullable=False),
    sa.Column("stripe_units", sa.BigInteger),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("difference", Text),
    sa.Column("certified_at", UtcDateTime, nullable=False),
    sa.Column("subscription_id", Text),
    sa.Column("invoice_ids", Text),
    sa.Column("line_ids", Text),
    sa.Column("invoice_units", sa.BigInteger),
    sa.Column("invoice_amount", sa.BigInteger),
    sa.Column("expected_amount", sa.BigInteger),
    sa.Column("currency", Text),
)
subscription_periods = sa.Table(
    "subscription_periods",
    metadata,
    sa.Column("env", Text, primary_key=True),
    sa.Column("meter", Text, primary_key=True),
    sa.Column("subscription_item_id", Text, primary_key=True),
    sa.Column("period_start", UtcDateTime, primary_key=True),
    sa.Column("period_end", UtcDateTime, nullable=False),
    sa.Column("subscription_id", Text, nullable=False),
    sa.Column("stripe_customer_id", Text, nullable=False),
    sa.Column("price_id", Text, nullable=False),
    sa.Column("currency", Text, nullable=False),
    sa.Column("status", Text, nullable=False),
    sa.Column("is_trial", sa.Boolean, nullable=False),
    sa.Column("has_threshold", sa.Boolean, nullable=False),
    sa.Column("ends_at", UtcDateTime),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)
invoice_lines = sa.Table(
    "invoice_lines",
    metadata,
    sa.Column("env", Text, primary_key=True),
    sa.Column("meter", Text, primary_key=True),
    sa.Column("line_id", Text, primary_key=True),
    sa.Column("invoice_id", Text, nullable=False),
    sa.Column("invoice_status", Text, nullable=False),
    sa.Column("subscription_item_id", Text, nullable=False),
    sa.Column("stripe_customer_id", Text, nullable=False),
    sa.Column("period_start", UtcDateTime, nullable=False),
    sa.Column("period_end", UtcDateTime, nullable=False),
    sa.Column("quantity", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("currency", Text, nullable=False),
    sa.Column("finalizes_at", UtcDateTime),
    sa.Column("finalized_at", UtcDateTime),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)
