"""Critical crossings of hard caps, which do not wait for the morning: whose calls are, or will be today, refused.

Words only. The digest's own rule and memory decide which of them are news, so that either announces each once.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.account_wording import hits_cap, name_of, short_of_quota, threshold_name
from orchestration.messages.crossings import CrossingKey
from orchestration.messages.figures import money, percent, person
from orchestration.messages.items import account_url
from orchestration.messages.message import LINES, Line, Message, Section
from orchestration.usage import units
from orchestration.usage.formatting import counted

TABLE = ("account_id", "account_name", "owner", "meter", "unit", "used", "quota")
"""Columns of the file that a long notice has."""


def candidates(crossings: Sequence[Mapping[str, Any]], caps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The crossings of running periods, of those accounts and meters that `caps` has as critical and hard."""
    actions = {(row["account_id"], row["meter"]): row["recommended_action"] for row in caps}
    return [
        {**row, "recommended_action": actions[row["account_id"], row["meter"]]}
        for row in crossings
        if row["is_current_period"] and (row["account_id"], row["meter"]) in actions
    ]


def critical_message(
    news: Sequence[Mapping[str, Any]], as_of: datetime, zone: ZoneInfo, crm_url: str | None = None
) -> Message:
    """The notice of crossings, most urgent first, found at `as_of`."""
    at = as_of.astimezone(zone)
    first, others = news[0], f", and {counted(len(news) - 1, 'other')}" if len(news) > 1 else ""
    step = _step(first)
    return Message(
        key=f"critical|{as_of:%Y-%m-%dT%H:%M:%SZ}",
        audience="sales",
        title=f"Hard quota alert · {at:%a %d %b %H:%M %Z}",
        headline=f"{name_of(first)}: {_state(first, at.date())}{others}{f'. {step}' if step else ''}",
        sections=[Section("", [_line(row, at.date(), zone, crm_url) for row in news])],
        footer=["The next digest marks them as alerted"],
        table=[{name: row[name] for name in TABLE} for row in news] if len(news) > LINES else [],
    )


def alerted(
    crossings: Sequence[Mapping[str, Any]], notices: Sequence[tuple[CrossingKey, datetime | None]], zone: ZoneInfo
) -> list[str]:
    """What a digest says of crossings that were alerted before, each with the moment when its alert had arrived."""
    rows = {
        (row["account_id"], row["meter"], row["period_start"], row["quota"], row["threshold"]): row for row in crossings
    }
    return [
        f"{name_of(rows[key])} {percent(rows[key]['pct_of_cap'], rows[key]['ci95_pct'])}, "
        + (f"alerted {at.astimezone(zone):%a %H:%M}" if at else "its alert waits to be sent")
        for key, at in notices
        if key in rows
    ]


def _line(row: Mapping[str, Any], on: date, zone: ZoneInfo, crm_url: str | None) -> Line:
    crossed = f"crossed {threshold_name(row)} {row['crossed_at'].astimezone(zone):%a %H:%M}"
    used = f"{short_of_quota(row)} ({percent(row['pct_of_cap'], row['ci95_pct'])})"
    facts = [f"{used}, {crossed}", _state(row, on)]
    facts += [_step(row)] if _step(row) else []
    facts += [f"MRR {money(row['mrr'], row.get('currency'))}"] if row["mrr"] else []
    owner = row["owner"] or ""
    name, url = name_of(row), account_url(row, crm_url)
    return Line(" · ".join(facts), owner, person(owner) or "no owner", name, url, row["account_id"], row["meter"])


def _step(row: Mapping[str, Any]) -> str:
    return (row["recommended_action"] or "").rstrip(".")


def _state(row: Mapping[str, Any], on: date) -> str:
    noun = units.name(row["unit"])
    if row["used"] >= row["quota"]:
        return f"out of quota, {noun} are refused"
    return f"runs out {hits_cap(row, on)}, then {noun} are refused"
