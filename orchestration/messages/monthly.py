"""The monthly digest: what became of the accounts that hit their cap. Words only; the figures are cap_hit_outcomes'."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.figures import money, person, short
from orchestration.messages.items import account_url
from orchestration.messages.message import Line, Message, account_name, sections
from orchestration.usage.formatting import counted
from orchestration.usage.periods import digest_due_at, last_calendar_month, latest_digest_date

HEADINGS = {
    "absorbed": "Stayed, calls were refused",
    "as before": "Stayed as before",
    "churned": "Stopped calling",
    "downgraded": "Downgraded",
    "upgraded": "Upgraded",
}
"""By the outcome of the mart, in the order of the message: first whom to call."""
COLUMNS = [
    *("account_id", "account_name", "owner", "outcome", "period_start", "period_end", "quota", "used", "overage_units"),
    *("hit_at", "plan", "plan_now", "plan_delta_mrr", "mrr", "throttled_calls", "calls_from_hit_day", "last_call_at"),
    "recommended_action",
]


def monthly_message(
    outcomes: Sequence[Mapping[str, Any]], as_of: datetime, zone: ZoneInfo, crm_url: str | None = None
) -> Message:
    """The notice of the calendar month (UTC) before the last 8am.

    It is about the accounts whose last period ended in that month or since: the 1st ends a calendar month's. The clock
    is that of the marts. A late one says what is true by then.
    """
    eight = digest_due_at(latest_digest_date(as_of, zone), zone)
    first, _ = last_calendar_month(eight.date())
    rows = [row for row in outcomes if row["period_end"].date() > first and row["period_end"] <= eight]
    groups = {word: [row for row in rows if row["outcome"] == word] for word in HEADINGS}
    counts = [f"{len(found):,} {HEADINGS[word].lower()}" for word, found in groups.items() if found]
    month = f"{first:%B %Y}"
    headline = f"{month}: no account hit its quota."
    if rows:
        gained = sum((row["plan_delta_mrr"] or Decimal(0) for row in rows), Decimal(0))
        changed = f" Plan changes: {money(gained, None, is_signed=True)} MRR." if gained else ""
        headline = f"{month}: {counted(len(rows), 'account')} hit the quota: {', '.join(counts)}.{changed}"
    return Message(
        key=f"monthly|{first:%Y-%m}",
        audience="sales",
        title=f"Accounts that hit their quota · {month}",
        headline=headline,
        sections=sections({HEADINGS[word]: [_line(row, crm_url) for row in found] for word, found in groups.items()}),
        footer=[
            f"Accounts whose usage period ended since {first:%d %b}",
            f"Data as of {as_of.astimezone(zone):%a %d %b %H:%M %Z}",
        ],
        table=[{column: row[column] for column in COLUMNS} for row in rows],
    )


def _line(row: Mapping[str, Any], crm_url: str | None) -> Line:
    over = f", {short(row['overage_units'])} over" if row["overage_units"] else ""
    facts = [f"{short(row['used'])} / {short(row['quota'])}{over}, hit {row['hit_at']:%a %d %b}"]
    if row["outcome"] == "absorbed":
        refused, calls = row["throttled_calls"], row["calls_from_hit_day"]
        facts += [f"{short(refused)} of {short(calls)} call{'' if calls == 1 else 's'} refused (429)"]
    if row["plan_now"] != row["plan"]:
        facts += [f"{row['plan'] or 'no plan'} to {row['plan_now'] or 'no plan'}"]
    facts += [f"{money(row['plan_delta_mrr'], None, is_signed=True)} MRR"] if row["plan_delta_mrr"] else []
    facts += [f"last call {row['last_call_at']:%a %d %b}"] if row["outcome"] == "churned" else []
    facts += [f"MRR {money(row['mrr'], None)}"] if row["mrr"] else []
    owner = row["owner"] or ""
    return Line(" · ".join(facts), owner, person(owner) or "no owner", account_name(row), account_url(row, crm_url))
