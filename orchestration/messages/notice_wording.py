"""What an alert of one account says to colleagues: who, how far, what the limit does, when it resets, who acts."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.account_notice import LIMIT_HIT, Row
from orchestration.messages.account_wording import DigestDay, name_of, of_quota, short_of_quota, threshold_name
from orchestration.messages.figures import one_line, percent, person
from orchestration.messages.items import NO_OWNER, account_url
from orchestration.messages.message import Line, Message, Section
from orchestration.messages.outlook import outlook
from orchestration.usage import units
from orchestration.usage.formatting import format_pct

ENDLESS = 9999
"""The year of the end of a period without one."""


def of_account(crossing: Row, account: Row) -> dict[str, Any]:
    """A crossing with all that is known of its account: `account` is a row of `notice_query.NOTICE_ACCOUNTS`."""
    return {**account, **crossing, "is_calls": account["unit"] == "calls"}


def notice(
    key: str, kind: str, row: Row, as_of: datetime, zone: ZoneInfo, crm_url: str | None = None, *, is_shared: bool
) -> Message:
    """The message about one account: `row` is one of `of_account`.

    `is_shared`: customers may read it, as in a channel of their own. It has no advice then.
    """
    at, name = as_of.astimezone(zone), name_of(row)
    day = DigestDay(at.date(), zone, as_of)
    is_current, owner = row["is_current_period"], one_line(row["advice_owner"] or row["owner"])
    said = short_of_quota(row) if row["used"] is not None else of_quota(None, row["quota"], row["unit"])
    used = f"{said} ({percent(row['pct_of_cap'], row['ci95_pct'] if is_current else None)})"
    ahead = "period ended" if not is_current else outlook(row, day) if row["used"] is not None else "no reading yet"
    headline = f"{name} {_what(kind, row, day)}: {used}, {ahead}"
    step = one_line(row["next_step"], 200).rstrip(".") if is_current and not is_shared else ""
    facts = [_exact(row), _resets(row, zone), step]
    line = Line(
        " · ".join(filter(None, facts)),
        owner,
        person(owner) or NO_OWNER,
        name,
        account_url(row, crm_url),
        row["account_id"],
        row["meter"],
    )
    title = "Limit reached" if kind == LIMIT_HIT else "Quota alert"
    return Message(
        key=key,
        audience="sales",
        title=f"{title} · {at:%a %d %b %H:%M %Z}",
        headline=headline,
        sections=[Section("", [line])],
        severity=row["severity"] if is_current else "",
    )


def _what(kind: str, row: Row, day: DigestDay) -> str:
    when = day.moment(row["crossed_at"])
    if row["is_reported"]:
        return f"reached its limit {when}, by its own system"
    return f"reached its quota {when}" if kind == LIMIT_HIT else f"crossed {threshold_name(row)} {when}"


def _exact(row: Row) -> str:
    """Used, quota and percentage of the crossing's period, to the unit."""
    pct = format_pct(row["pct_of_cap"], row["ci95_pct"] if row["is_current_period"] else None)
    counted = "counted here: " if row["is_reported"] else ""
    return f"{counted}{of_quota(row['used'], row['quota'], row['unit'])} ({pct})"


def _resets(row: Row, zone: ZoneInfo) -> str:
    """When usage starts again at zero; what does not add up never does."""
    if not row["is_current_period"] or row["period_end"].year >= ENDLESS or not units.adds_up(row["aggregation"]):
        return ""
    return f"resets {row['period_end'].astimezone(zone):%a %d %b %H:%M}"
