"""What the digest says: the lead, an item for each piece of news, their groups, what was known before.

What is news, and in which order, was decided in crossings.py; the words about one account are in items.py and
outlook.py; the advice is a mart's. The result is plain data that is frozen as it is: who draws it computes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages import groups, items
from orchestration.messages import outlook as words
from orchestration.messages.account_wording import (
    DigestDay,
    Row,
    hits_cap_is_ahead,
    name_of,
    threshold_name,
    unit_after,
    when,
)
from orchestration.messages.crossings import CrossingKey, news_since, urgency
from orchestration.messages.figures import one_line, percent, person
from orchestration.messages.footer import footer
from orchestration.messages.groups import BY_KEY, GROUPS, group_of
from orchestration.usage.formatting import counted, figure

DETAILED = 3
"""Accounts with notes and a picture below the message."""
HELD = 200
"""Accounts of the news that a digest holds, the first of its order; all are in the file of the thread."""
LISTED = 5
"""Names in a line of names; the others are counted."""
KNOWN = 20
"""Lines of each list of what was known before; the others are counted."""


def digest_content(
    news: Sequence[Row],
    accounts: Sequence[Row],
    days: Mapping[tuple[str, str], Sequence[int]],
    quality: Mapping[str, Any],
    on: date,
    now: datetime,
    zone: ZoneInfo,
    previous_cutoff: datetime | None,
    links: Mapping[str, str],
    crm_url: str | None = None,
    dormant_through: datetime | None = None,
) -> dict[str, Any]:
    """The digest as JSON-ready data.

    `news` are rows as `judge` returns them, with the account's row of `accounts` in them where the crossing is of the
    running period; `accounts` are all accounts that may be spoken of, but for those that are `left_out` because others
    are named before them (see `queries.digest_accounts`), `days` is the usage of the last complete days by account and
    meter (see `queries.daily_usage`), `links` addresses by their words, `crm_url` the address of an account with
    {account_id} in it. `dormant_through` is up to where dormant accounts were named before:
    a quiet day names none, and leaves them to the next digest.
    """
    morning = DigestDay(on, zone, news_since(previous_cutoff, on, zone), is_first=previous_cutoff is None)
    grouped = {group.key: [row for row in news if group_of(row) is group] for group in GROUPS}
    ordered = [(key, row) for key, rows in grouped.items() for row in rows]
    spoken_of = {(row["account_id"], row["meter"]) for row in news}
    others = [row for row in accounts if (row["account_id"], row["meter"]) not in spoken_of]
    resolved = [row for row in others if _is_resolved(row, morning)]
    used_up = sorted((row for row in others if words.is_over(row)), key=urgency)
    left_out = {"csm_check_in": accounts[0].get("left_out", 0) if accounts else 0}
    named: dict[str, list[tuple[Row, str]]] = {"resolved": [(row, _resolved(row)) for row in resolved]}
    known: list[dict[str, Any]] = []
    # A quiet day is one line: what was true yesterday is no reason to read on.
    if news or resolved:
        named["will_not_run_out"] = [(row, percent(row["pct_of_cap"], row["ci95_pct"])) for row in _not_news(others)]
        dropping = sorted((row for row in others if _is_dropping(row)), key=_revenue)
        named["csm_check_in"] = [(row, _dropping(row)) for row in dropping]
        before_renewal = sorted((row for row in others if _hits_before_renewal(row)), key=urgency)
        known = [
            _known("Quota used up on an earlier day", used_up, morning),
            _known("Will run out before the renewal", before_renewal, morning),
        ]
    drawn = [
        _group(group.key, grouped[group.key], named.get(group.key, []), left_out.get(group.key, 0), crm_url)
        for group in GROUPS
        if grouped[group.key] or named.get(group.key)
    ]
    held = [
        items.item(row, days.get((row["account_id"], row["meter"]), ()), morning, key, crm_url)
        for key, row in ordered[:HELD]
    ]
    headline = _headline(news, used_up, morning)
    return {
        "date": on.isoformat(),
        "dormant_through": _iso(quality["data_through"] if news or resolved else dormant_through),
        "title": f"Usage digest · {on:%a %d %b}",
        "headline": headline,
        "notification": _notification(headline, held, ordered, on),
        "accounts": len(ordered),
        "items": held,
        "groups": drawn,
        "known": [each for each in known if each["lines"]],
        "footer": footer(quality, zone),
        "links": [{"text": text, "url": url} for text, url in links.items()],
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def is_stale(quality: Mapping[str, Any], stale_after_hours: int) -> bool:
    """Whether the newest usage event is so old that it says nothing if nobody crosses a threshold."""
    hours = quality["hours_since_call"]
    return hours is None or bool(hours >= stale_after_hours)


def stale_line(quality: Mapping[str, Any], stale_after_hours: int, on: date, zone: ZoneInfo) -> str | None:
    """What to say to the data team instead of deciding a digest; None where the data is fresh enough for one."""
    if not is_stale(quality, stale_after_hours):
        return None
    age = "no usage event has arrived yet"
    if (hours := quality["hours_since_call"]) is not None:
        through = f"{quality['data_through'].astimezone(zone):%a %d %b %H:%M %Z}"
        age = (
            f"the newest usage event is from {through}, {counted(hours, 'hour')} old (stale from {stale_after_hours:,})"
        )
    return (
        f"No usage digest for {on} yet: {age}. Check your producers, and what ingestion skipped"
        " (raw_events in Dagster). The digest follows when newer calls arrive."
    )


def withdrawal(keys: Collection[CrossingKey], used: Sequence[Row]) -> str:
    """The line about crossings that are withdrawn; empty where there are none. Each account is named once."""
    accounts = {key[:2] for key in keys}
    rows = [row for row in used if (row["account_id"], row["meter"]) in accounts]
    named = ", ".join(f"{_short(row)} ({percent(row['pct_of_cap'])})" for row in rows[:LISTED])
    more = f" and {len(rows) - LISTED:,} more" if len(rows) > LISTED else ""
    return f"Usage was corrected, below what was announced: {named}{more}" if rows else ""


def _headline(news: Sequence[Row], used_up: Sequence[Row], morning: DigestDay) -> str:
    """Which threshold was crossed by how many, and since when; the one place with the time zone."""
    since = f"{morning.since.astimezone(morning.zone):%a %d %b %H:%M %Z}"
    if not news:
        verb = "is" if len(used_up) == 1 else "are"
        still = f" {counted(len(used_up), 'account')} {verb} still at or over quota." if used_up else ""
        return f"No account crossed a threshold since {since}.{still}"
    thresholds = {threshold_name(row) for row in news}
    what = thresholds.pop() if len(thresholds) == 1 else "a threshold"
    return f"{counted(len({row['account_id'] for row in news}), 'account')} crossed {what} since {since}"


def _notification(
    headline: str, held: Sequence[Mapping[str, Any]], ordered: Sequence[tuple[str, Row]], on: date
) -> str:
    """The sentence on a locked phone: whom to call first, why, and what it is worth."""
    day = f"Usage {on:%a %d %b}"
    if not held:
        return f"{day}: {headline}"
    (key, row), first = ordered[0], held[0]
    crossed = headline.partition(" since ")[0]
    worth = words.worth(row) if row["is_current_period"] else ""
    said = ", ".join(filter(None, [_short(row), first["facts"][1], worth]))
    verb = "Call first" if key.startswith("call_") else "First"
    return f"{day}: {crossed}. {verb}: {said} ({first['owner_name']})"


def _group(
    key: str, rows: Sequence[Row], named: Sequence[tuple[Row, str]], left_out: int, crm_url: str | None
) -> dict[str, Any]:
    briefs = [] if BY_KEY[key].is_action else [items.brief(row, items.percent_of(row), crm_url) for row in rows]
    briefs += [items.brief(row, text, crm_url) for row, text in named]
    return groups.drawn(BY_KEY[key], rows, briefs, len(rows) + len(named) + left_out, LISTED, left_out)


def _known(title: str, rows: Sequence[Row], morning: DigestDay) -> dict[str, Any]:
    lines = [_known_line(row, morning) for row in rows[:KNOWN]]
    return {"title": f"{title} ({len(rows):,})", "lines": lines, "more": max(len(rows) - KNOWN, 0)}


def _known_line(row: Row, morning: DigestDay) -> str:
    """What is no news: how far the account is, and for a cap ahead, when it is hit and when the contract ends."""
    facts = [words.exact(row)]
    if hits_cap_is_ahead(row):
        facts += [f"runs out {when(row, morning.on)}", f"renews {row['renewal_on']:%d %b %Y}"]
    facts += [f"MRR {row['mrr']:,.2f}"] if row["mrr"] is not None else []
    return f"{_short(row)}: {' · '.join([*facts, *words.caveats(row, morning)])}"


def _resolved(row: Row) -> str:
    unit = row["unit"]
    quota = f"{figure(row['quota'], unit)}{unit_after(row)}" if row["quota"] is not None else row["quota_state"]
    now = f", now {percent(row['pct_of_cap'])}" if row["pct_of_cap"] is not None else ""
    before = f" from {figure(row['previous_quota'], unit)}" if row["previous_quota"] is not None else ""
    return f"quota raised{before} to {quota}{now}"


def _dropping(row: Row) -> str:
    name = person(row["csm"]) or person(row["owner"])
    return f"{words.momentum(row)}{f' ({name})' if name else ''}"


def _not_news(rows: Sequence[Row]) -> list[Row]:
    """Accounts at a threshold that is no news at their pace: listed, until the pace changes."""
    quiet = [row for row in rows if row["situation"] == "will_not_run_out" and row["is_announced"] is False]
    return sorted(quiet, key=urgency)


def _hits_before_renewal(row: Row) -> bool:
    return bool(hits_cap_is_ahead(row) and row["renewal_on"] and row["hits_cap_on"] < row["renewal_on"])


def _is_dropping(row: Row) -> bool:
    return bool(row["momentum_word"] == "dropping" or row["advice"] == "csm_check_in")


def _is_resolved(row: Row, morning: DigestDay) -> bool:
    """Whether a quota was raised since then that leaves behind what had been crossed in the period: the mart's word."""
    is_new = row["quota_since"] is not None and row["quota_since"] >= morning.since
    return bool(is_new and row["situation"] == "resolved")


def _revenue(row: Row) -> tuple[object, ...]:
    return (-(row["mrr"] or Decimal(0)), row["account_id"])


def _short(row: Row) -> str:
    return one_line(name_of(row))
