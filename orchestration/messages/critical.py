"""Critical crossings of hard caps, which do not wait for the morning: whose calls are, or will be today, refused.

Words only. Which of them are news is told by the digest's own rule and memory, so that each is told once by either.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.account_wording import hits_cap, threshold_name
from orchestration.messages.crossings import CrossingKey
from orchestration.messages.message import LINES, Line, Message, Section, account_name
from orchestration.usage.formatting import counted, format_pct


def candidates(crossings: Sequence[Mapping[str, Any]], caps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The crossings of running periods, of those accounts and meters that `caps` has as critical and hard."""
    actions = {(row["account_id"], row["meter"]): row["recommended_action"] for row in caps}
    return [
        {**row, "recommended_action": actions[row["account_id"], row["meter"]]}
        for row in crossings
        if row["is_current_period"] and (row["account_id"], row["meter"]) in actions
    ]


def critical_message(news: Sequence[Mapping[str, Any]], as_of: datetime, zone: ZoneInfo) -> Message:
    """The notice of crossings, most urgent first, found at `as_of`."""
    at = as_of.astimezone(zone)
    first, others = news[0], f" and {counted(len(news) - 1, 'other')}" if len(news) > 1 else ""
    return Message(
        key=f"critical|{as_of:%Y-%m-%dT%H:%M:%SZ}",
        audience="sales",
        title="Hard quota, critical",
        headline=f"{account_name(first)}{others}: {_state(first, at.date())}. {first['recommended_action'] or 'Call'}.",
        sections=[Section("", [Line(_line(row, at.date(), zone), row["owner"] or "") for row in news])],
        footer=[f"as of {at:%d %b %H:%M %Z}", "the next digest lists them as told"],
        table=[{name: row[name] for name in ("account_id", "account_name", "owner", "used", "quota")} for row in news]
        if len(news) > LINES
        else [],
    )


def told(
    crossings: Sequence[Mapping[str, Any]], notices: Sequence[tuple[CrossingKey, datetime | None]], zone: ZoneInfo
) -> list[str]:
    """What a digest says of crossings that were told before, each with the moment when its notice had arrived."""
    rows = {
        (row["account_id"], row["meter"], row["period_start"], row["quota"], row["threshold"]): row for row in crossings
    }
    return [
        f"{account_name(rows[key])}, {_used(rows[key])}: "
        + (f"told {at.astimezone(zone):%d %b %H:%M}" if at else "its message has still to be sent")
        for key, at in notices
        if key in rows
    ]


def _line(row: Mapping[str, Any], on: date, zone: ZoneInfo) -> str:
    facts = [f"{account_name(row)}: {_state(row, on)}", _used(row)]
    facts += [f"{threshold_name(row)} crossed {row['crossed_at'].astimezone(zone):%d %b %H:%M}"]
    facts += [row["recommended_action"]] if row["recommended_action"] else []
    facts += [f"MRR {row['mrr']:,.2f}"] if row["mrr"] else []
    return " · ".join([*facts, row["owner"] or "no owner"])


def _state(row: Mapping[str, Any], on: date) -> str:
    when = hits_cap(row, on)
    return (
        "its quota is used up, more is refused" if when == "over quota" else f"calls will be refused, hits cap {when}"
    )


def _used(row: Mapping[str, Any]) -> str:
    return f"{row['used']:,} / {row['quota']:,} {row['unit']} ({format_pct(row['pct_of_cap'], row['ci95_pct'])})"
