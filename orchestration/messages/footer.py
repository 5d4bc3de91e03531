"""What the figures of a digest lack, in its last lines.

Nothing vanishes: each rejected line, unknown account and unbilled account is counted here. What is zero is left out.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.message import account_name
from orchestration.usage.formatting import counted, format_pct, printable
from orchestration.usage.standing import Standing

PRODUCER_CHARACTERS = 80
NAMED = 5
"""Snoozed accounts with a name; the others are counted."""
_COUNTS = (
    ("subjects_unmapped", "id", "used the API without an account"),
    ("accounts_without_quota", "account", "used the API without a quota"),
    ("accounts_without_owner", "account", "at a threshold without an owner"),
    ("accounts_blocked_with_usage", "account", "called in spite of quota 0"),
    ("events_of_unknown_meter", "event", "of a meter that is not in meters.csv"),
    ("values_refused", "value", "of the last 30 days not counted (refused_values)"),
)
"""Columns of data_quality, what they count, and what is wrong with it."""


def footer(quality: Mapping[str, Any], zone: ZoneInfo) -> list[str]:
    """How old the figures are, then what is missing from them."""
    through = quality["data_through"]
    lines = [f"Data through {through.astimezone(zone):%a %d %b %H:%M}" if through else "No usage yet"]
    if quality["rejected_lines"]:
        lines.append(_rejected(quality))
    lines += [f"{counted(quality[column], noun)} {what}" for column, noun, what in _COUNTS if quality.get(column)]
    if quality.get("events_ahead"):
        lines.append(ahead_of_clock(quality))
    if quality["accounts_sampled"]:
        billed = "billed by the estimate" if quality.get("bills_sampled") else "never billed"
        lines.append(f"{counted(quality['accounts_sampled'], 'account')} estimated from sampled calls, {billed}")
    if quality["accounts_without_customer"]:
        unbilled = counted(quality["accounts_without_customer"], "account")
        verb = "is" if quality["accounts_without_customer"] == 1 else "are"
        lines.append(f"{unbilled} with usage {verb} not billed: no Stripe customer")
    return lines


def snoozed(accounts: Iterable[Mapping[str, Any]], on: date) -> str:
    """Who is at a threshold and is not announced, because of a snooze that holds on that UTC day; empty: nobody.

    `accounts` are rows of utilization_mtd that have reached one.
    """
    names = {
        row["account_id"]: account_name(row)
        for row in accounts
        if row["snoozed_until"] and row["snoozed_until"] > on and not (row["is_internal"] or row["is_test"])
    }
    if not names:
        return ""
    named, more = ", ".join(list(names.values())[:NAMED]), len(names) - NAMED
    verb = "is" if len(names) == 1 else "are"
    others = f" and {more:,} more" if more > 0 else ""
    return f"{counted(len(names), 'account')} at a threshold {verb} snoozed: {named}{others}"


def _rejected(quality: Mapping[str, Any]) -> str:
    lines, events, complete = quality["rejected_lines"], quality.get("lost_events") or 0, quality["complete_pct"]
    lost = f", about {counted(events, 'event')}" if events > lines else ""
    accepted = f" ({format_pct(complete, decimals=2)} of lines accepted)" if complete is not None else ""
    return f"{counted(lines, 'line')} rejected{lost}{accepted}"


def ahead_of_clock(quality: Mapping[str, Any]) -> str:
    """How many events wait for their time, and whose is the furthest; `quality` counts at least one."""
    count, hours = quality["events_ahead"], quality["hours_ahead"]
    distance = counted(hours, "hour") if hours < 48 else counted(hours // 24, "day")
    producer = printable(quality["furthest_ahead_producer"] or "")[:PRODUCER_CHARACTERS]
    furthest = f"the furthest by {distance if hours else 'minutes'}"
    return (
        f"{counted(count, 'event')} {'is' if count == 1 else 'are'} ahead of the clock, {furthest}: producer {producer}"
    )


def parity(standing: Standing | None, zone: ZoneInfo) -> str:
    """Whether Stripe bills what was counted; empty where nothing was ever sent there."""
    if standing is None:
        return ""
    parts = [
        (standing.misbilled, "not billed as counted", None, ""),
        (standing.for_approval, "waiting for approval", standing.for_approval_since, "since"),
        (standing.unsent, "not sent yet", standing.unsent_since, "since"),
        (standing.unconfirmed, "not confirmed yet", standing.unconfirmed_since, "sent since"),
    ]
    said = [
        f"{counted(hours, 'customer-hour')} {what}"
        + (f" ({verb} {moment.astimezone(zone):%d %b %H:%M %Z})" if moment else "")
        for hours, what, moment, verb in parts
        if hours
    ]
    if standing.periods:
        said.insert(0, f"{counted(standing.periods, 'billing period')} not invoiced as counted")
    if not said:
        return "Stripe: confirmed as counted"
    needs_decision = standing.periods or standing.misbilled or standing.for_approval
    # what is not confirmed yet, or not sent yet, needs no decision
    command = " (`headroom stripe problems`)" if needs_decision else ""
    return f"Stripe: {', '.join(said)}{command}"
