"""The monthly digest: what became of the accounts that hit their cap. Words only; the figures are cap_hit_outcomes'."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.account_wording import last_use, short_of_quota
from orchestration.messages.figures import money, person, short
from orchestration.messages.items import account_url
from orchestration.messages.message import Line, Message, Section, account_name, by_account, sections
from orchestration.usage.formatting import counted
from orchestration.usage.periods import digest_due_at, last_calendar_month, latest_digest_date

HEADINGS = {
    "absorbed": "Stayed, calls were refused",
    "as before": "Stayed as before",
    "churned": "Stopped using it",
    "downgraded": "Downgraded",
    "upgraded": "Upgraded",
}
"""By the outcome of the mart, in the order of the message: first whom to call."""
COLUMNS = [
    *("account_id", "account_name", "owner", "outcome", "period_start", "period_end", "meter", "unit", "quota", "used"),
    *(
        "overage_units",
        "hit_at",
        "plan",
        "plan_now",
        "plan_delta_mrr",
        "mrr",
        "throttled_calls",
        "calls_from_hit_day",
        "last_call_at",
    ),
    "recommended_action",
]


def monthly_message(
    outcomes: Sequence[Mapping[str, Any]],
    as_of: datetime,
    zone: ZoneInfo,
    crm_url: str | None = None,
    alerts: Sequence[Mapping[str, Any]] = (),
) -> Message:
    """The notice of the calendar month (UTC) before the last 8am.

    It is about the accounts whose last period ended in that month or since: the 1st ends a calendar month's. The clock
    is that of the marts. A late one says what is true by then.
    """
    eight = digest_due_at(latest_digest_date(as_of, zone), zone)
    first, end = last_calendar_month(eight.date())
    rows = [row for row in outcomes if row["period_end"].date() > first and row["period_end"] <= eight]
    accounts = by_account(rows, "outcome", list(HEADINGS))
    groups = {word: [found for found in accounts if found[0]["outcome"] == word] for word in HEADINGS}
    counts = [f"{len(found):,} {HEADINGS[word].lower()}" for word, found in groups.items() if found]
    month = f"{first:%B %Y}"
    headline = f"{month}: no account hit its quota."
    if rows:
        gained = sum((_plan_delta(found) for found in accounts), Decimal(0))
        changed = f" Plan changes: {money(gained, None, is_signed=True)} MRR." if gained else ""
        headline = f"{month}: {counted(len(accounts), 'account')} hit the quota: {', '.join(counts)}.{changed}"
    funnel = _funnel([row for row in alerts if first <= row["alerted_at"].date() < end])
    return Message(
        key=f"monthly|{first:%Y-%m}",
        audience="sales",
        title=f"Accounts that hit their quota · {month}",
        headline=headline,
        sections=[
            *([Section("", [Line(funnel)])] if funnel else []),
            *sections({HEADINGS[word]: [_line(each, crm_url) for each in found] for word, found in groups.items()}),
        ],
        footer=[
            f"Accounts whose usage period ended since {first:%d %b}",
            f"Data as of {as_of.astimezone(zone):%a %d %b %H:%M %Z}",
        ],
        table=[{column: row[column] for column in COLUMNS} for row in rows],
    )


def _funnel(alerts: Sequence[Mapping[str, Any]]) -> str:
    """What came of the alerts: 41 alerts, 19 calls, 7 upgrades, +3,150 MRR; empty without an alert.

    `alerts` are rows of alert_outcomes. A won account was called. A change of plan that raised several
    quotas of an account is one upgrade.
    """
    if not alerts:
        return ""
    calls = sum(row["disposition"] in ("contacted", "won") for row in alerts)
    raises = [row for row in alerts if row["quota_raised_at"]]
    upgrades = {(row["account_id"], row["plan"], row["new_plan"]): row["mrr_delta"] or Decimal(0) for row in raises}
    gained = sum(upgrades.values(), Decimal(0))
    said = [counted(len(alerts), "alert"), counted(calls, "call"), counted(len(upgrades), "upgrade")]
    return ", ".join([*said, *([f"{money(gained, None, is_signed=True)} MRR"] if gained else [])])


def _line(rows: Sequence[Mapping[str, Any]], crm_url: str | None) -> Line:
    """An account with what became of each quota that it hit. Plan and revenue are the account's, and said once."""
    row, delta = rows[0], _plan_delta(rows)
    facts = [fact for each in rows for fact in _facts(each)]
    if row["plan_now"] != row["plan"]:
        facts += [f"{row['plan'] or 'no plan'} to {row['plan_now'] or 'no plan'}"]
    facts += [f"{money(delta, None, is_signed=True)} MRR"] if delta else []
    facts += [f"MRR {money(row['mrr'], None)}"] if row["mrr"] else []
    owner = row["owner"] or ""
    name, url = account_name(row), account_url(row, crm_url)
    return Line(" · ".join(facts), owner, person(owner) or "no owner", name, url, row["account_id"], row["meter"])


def _plan_delta(rows: Sequence[Mapping[str, Any]]) -> Decimal:
    """What the account's change of plan brings, whichever of its quotas it hit."""
    return next((Decimal(row["plan_delta_mrr"]) for row in rows if row["plan_delta_mrr"]), Decimal(0))


def _facts(row: Mapping[str, Any]) -> list[str]:
    """How far a quota was used, and how many calls were refused."""
    over = f", {short(row['overage_units'], row['unit'])} over" if row["overage_units"] else ""
    facts = [f"{short_of_quota(row)}{over}, hit {row['hit_at']:%a %d %b}"]
    if row["outcome"] == "absorbed":
        refused, calls = row["throttled_calls"], row["calls_from_hit_day"]
        facts += [f"{short(refused)} of {short(calls)} call{'' if calls == 1 else 's'} refused (429)"]
    facts += [f"{last_use(row['unit'])} {row['last_call_at']:%a %d %b}"] if row["outcome"] == "churned" else []
    return facts
