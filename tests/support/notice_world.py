"""A published copy with crossings and limit hits of some accounts, and a letter box in place of a mail server."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from orchestration.channels import vendors
from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import InDoubtError, Promise
from orchestration.messages.message import Message
from orchestration.messages.vendor import Drawn, Target, Vendor
from orchestration.settings import Settings
from tests.support.builders import QUALITY, make_crossing, make_standing
from tests.support.duckdb_file import opened

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
CROSSING = (
    *("account_id", "meter", "period_start", "period_end", "threshold", "threshold_pct", "crossed_at", "is_in_digest"),
    *("pace_matters", "quota", "used", "pct_of_cap", "severity", "cause"),
)
ADVICE = ("advice", "situation", "reasons", "next_step")
OVERAGE = ("currency", "cost_of_waiting", "is_refused_on_next_plan")
JOINED = (
    *("previous_quota", "quota_since", "used_since", "is_calls", "next_plan_delta", "projected_overage_value"),
    *("is_refused", "is_retry_storm", "momentum_word", "by_when", "advice_owner", "value", "is_announced"),
    *ADVICE,
    *OVERAGE,
)
"""Of an account's standing, the columns that utilization_mtd has not."""
EXAMPLE: dict[str, Any] = {
    **make_standing(),
    **dict.fromkeys(("account_name", "owner", "csm", "contact_email", "slack_channel", "segment", "plan"), ""),
    **dict.fromkeys(("limit_kind", "next_plan", "cost_of_waiting", "currency", "advice_owner"), ""),
    **dict.fromkeys(("mrr", "overage_value", "next_plan_delta_mrr", "error_ratio_7d", "momentum_7d"), Decimal("1.5")),
    **dict.fromkeys(("projected_low", "projected_high", "used_same_point_last_period"), 1),
    **dict.fromkeys(("is_staying_cheaper", "is_refused_on_next_plan", "is_internal", "is_test"), False),
    **dict.fromkeys(("renewal_on", "snoozed_until"), date(2026, 1, 1)),
    "as_of": NOON,
}
"""A value in each column, so that each has its type."""
PLAIN = {
    **{name: None for name in EXAMPLE if name not in make_standing()},
    "owner": "dana.reyes@example.com",
    "segment": "smb",
    "contact_email": "anna.smith@acme.example",
    "slack_channel": None,
    "is_internal": False,
    "is_test": False,
}
HIT = {"account_id": "acme", "meter": "api-calls", "reached_at": NOON, "quota": 1_000_000}
THRESHOLDS = (80, 95, 100, 120)


def make_notice_crossing(account: str = "acme", threshold: str = "80%", **fields: Any) -> dict[str, Any]:
    """A crossing with its account, of 20 November 2026 at 11:00 UTC; `fields` replace."""
    pct = int(threshold.removesuffix("%")) if threshold.endswith("%") else None
    used = fields.get("used", (pct or 80) * 10_000 + 1_234)
    crossed = {"threshold_pct": pct, "crossed_at": NOON.replace(hour=11), "is_in_digest": True}
    about = {"used": used, "used_mtd": used, "pct_of_cap": Decimal(used) / 10_000, "is_reported": False}
    return {**make_crossing(account, threshold, **fields), **PLAIN, **crossed, **about, "advice_owner": None, **fields}


def publish(
    data: Path,
    crossings: Sequence[Mapping[str, Any]] = (),
    hits: Sequence[Mapping[str, Any]] = (),
    others: Sequence[Mapping[str, Any]] = (),
    as_of: datetime = NOON,
    thresholds: Iterable[int] = THRESHOLDS,
) -> None:
    """Publish figures of that moment: these crossings with their accounts, other accounts, and reported limit hits."""
    accounts = {(row["account_id"], row["meter"]): {**row, "as_of": as_of} for row in (*others, *crossings)}
    standings = [row for row in accounts.values() if row.get("is_current_period", True)]
    rules = [
        {"plan": None, "meter": None, "threshold_pct": pct, "threshold_units": None, "is_in_digest": pct != 90}
        for pct in thresholds
    ]
    quality = {**QUALITY, "as_of": as_of, "accounts": len(accounts)}
    storms = [row for row in standings if row["is_retry_storm"]]
    tables: dict[str, tuple[Sequence[Mapping[str, Any]], Mapping[str, Any], Sequence[str]]] = {
        "data_quality": ([quality], quality, list(quality)),
        "threshold_crossings": (crossings, {**make_notice_crossing(), "threshold_pct": 80}, CROSSING),
        "utilization_mtd": (standings, EXAMPLE, [name for name in EXAMPLE if name not in JOINED]),
        "account_advice": (standings, EXAMPLE, ["account_id", "meter", *ADVICE, "advice_owner"]),
        "overage": (standings, EXAMPLE, ["account_id", "meter", *OVERAGE]),
        "retry_storms": (storms, EXAMPLE, ["account_id", "is_retry_storm"]),
        "period_quotas": (standings, EXAMPLE, ["account_id", "meter", "quota_since"]),
        "usage_limit_hits": ([{**HIT, **hit} for hit in hits], HIT, list(HIT)),
        "thresholds": (rules, {**rules[0], "plan": "", "meter": "", "threshold_units": 1}, list(rules[0])),
    }
    path = data / "new.duckdb"
    path.unlink(missing_ok=True)
    with opened(path) as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name, (rows, example, columns) in tables.items():
            table = [{column: _plain(row[column]) for column in columns} for row in (*rows, example)]
            relation = pa.Table.from_pylist(table)  # noqa: F841 - DuckDB finds it by its name
            connection.execute(f"create table {name} as select * from relation limit {len(rows)}")
        connection.execute("alter table account_advice rename advice_owner to owner")
        connection.execute("alter table period_quotas rename quota_since to effective_at")
        connection.execute("alter table period_quotas add column is_current boolean default true")
    path.replace(data / "published.duckdb")


def write_routes(data: Path, text: str) -> None:
    (data / "routes.toml").write_text(text, encoding="utf-8")


def _plain(value: object) -> object:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


class Letterbox:
    """A channel that writes letters into a file, each once by its mark."""

    is_preview = False
    promise = Promise.EXACTLY_ONCE
    name = "E-mail"

    def __init__(self, file: Path) -> None:
        self.file = file
        self.is_lost = False
        """The answer to the next letter is lost."""

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        return str(delivery.payload["to"])

    def send(self, delivery: Delivery) -> str:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"mark": delivery.mark, "at": delivery.address, **delivery.payload}) + "\n")
        if self.is_lost:
            self.is_lost = False
            raise InDoubtError("no answer")
        return delivery.mark

    def find(self, delivery: Delivery) -> str | None:
        return next((letter["mark"] for letter in self.letters if letter["mark"] == delivery.mark), None)

    @property
    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []


def open_letterbox(data: Path, monkeypatch: pytest.MonkeyPatch) -> Letterbox:
    """In place of the channel `email`."""
    box, real = Letterbox(data / "letters.jsonl"), vendors.vendor

    def draw(message: Message, env: str, mentions: Mapping[str, str]) -> Drawn:
        names = ("title", "body", "headline", "reply_to", "unsubscribe", "severity")
        return {name: getattr(message, name) for name in names}, []

    def opened(target: Target, config: Settings) -> Letterbox:
        return box

    letters = Vendor("E-mail", (Promise.EXACTLY_ONCE,), 1_000_000, opened, draw)
    monkeypatch.setattr(vendors, "vendor", lambda name: letters if name == "email" else real(name))
    return box
