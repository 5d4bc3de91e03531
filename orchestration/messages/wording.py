"""What the digest says: the first line, an item for each piece of news, the lists below them, the footer.

What is news, and in which order, was decided in crossings.py; the words about one account are in account_wording.py.
The result is plain data that is frozen as it is: whoever draws it computes nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages import account_wording as words
from orchestration.messages.account_wording import DigestDay, Row, hits_cap, threshold_name
from orchestration.messages.crossings import CrossingKey, news_since, urgency
from orchestration.usage.formatting import counted, format_pct, printable, sparkline
from orchestration.usage.standing import Standing
from orchestration.usage.units import METER

PRODUCER_CHARACTERS = 80
DETAILED = 3
"""Accounts with notes and a picture below the message."""
LISTED = 5
"""Accounts of each list below the news; the others are counted, and in the file."""
NAME_CHARACTERS = 60
"""Of a name within a sentence, so that a long one does not push out the rest."""


def digest_content(
    news: Sequence[Row],
    accounts: Sequence[Row],
    announced: Collection[CrossingKey],
    calls: Mapping[str, Sequence[int]],
    quality: Mapping[str, Any],
    on: date,
    now: datetime,
    zone: ZoneInfo,
    previous_cutoff: datetime | None,
    links: Mapping[str, str],
) -> dict[str, Any]:
    """The digest as JSON-ready data.

    `news` are rows as `judge` returns them, with the account's row of `accounts` in them where the crossing is of the
    running period; `accounts` are all accounts that may be spoken of, `announced` the crossings that had a verdict
    before, `links` addresses by their words.
    """
    morning = DigestDay(on, zone, news_since(previous_cutoff, on, zone), is_first=previous_cutoff is None)
    told = {(row["account_id"], row["meter"]) for row in news}
    others = [row for row in accounts if (row["account_id"], row["meter"]) not in told]
    resolved = [row for row in others if _is_resolved(row, announced, morning)]
    used_up = sorted((row for row in others if _is_used_up(row)), key=urgency)
    # A quiet day is one line: what stands since yesterday is no reason to read on.
    lists = [_list("Resolved: the quota was raised", resolved, lambda row: _resolved(row, morning))]
    if news or resolved:
        before_renewal = sorted((row for row in others if _hits_before_renewal(row)), key=urgency)
        dropping = sorted((row for row in accounts if _is_dropping(row)), key=_revenue)
        lists = [
            _list("Already over the quota", used_up, lambda row: _known(row, morning)),
            _list("Will use up the quota before the renewal", before_renewal, lambda row: _known(row, morning)),
            *lists,
            _list("Dropping: less than half the calls of the week before", dropping, _dropping),
        ]
    return {
        "date": on.isoformat(),
        "headline": _headline(news, used_up, morning),
        "items": [_item(row, calls.get(row["account_id"], ()), morning) for row in news],
        "sections": [section for section in lists if section["lines"]],
        "footer": _footer(quality, now, zone),
        "links": [{"text": text, "url": url} for text, url in links.items()],
    }


def is_stale(quality: Mapping[str, Any], stale_after_hours: int) -> bool:
    """Whether the newest call is so old that it says nothing if nobody crosses a threshold."""
    hours = quality["hours_since_call"]
    return hours is None or bool(hours >= stale_after_hours)


def stale_line(quality: Mapping[str, Any], stale_after_hours: int, on: date, zone: ZoneInfo) -> str | None:
    """What to tell the data team instead of deciding a digest; None where the data is fresh enough for one."""
    if not is_stale(quality, stale_after_hours):
        return None
    age = "no call has come yet"
    if (hours := quality["hours_since_call"]) is not None:
        through = f"{quality['data_through'].astimezone(zone):%a %d %b %H:%M %Z}"
        age = f"the newest call is of {through}, {hours:,} hours old (stale from {stale_after_hours:,})"
    return (
        f"No usage digest for {on} yet: {age}. Look at what sends the events and at what ingestion skipped"
        " (raw_events in Dagster); the digest is made as soon as newer calls are in."
    )


def withdrawal(keys: Collection[CrossingKey], used: Sequence[Row]) -> str:
    """The line about crossings that are withdrawn; empty where there are none. Each account is named once."""
    accounts = {key[:2] for key in keys}
    rows = [row for row in used if (row["account_id"], row["meter"]) in accounts]
    named = ", ".join(f"{_short(row)} ({format_pct(row['pct_of_cap'])})" for row in rows[:LISTED])
    more = f" and {len(rows) - LISTED:,} more" if len(rows) > LISTED else ""
    return f"Corrected usage, below what was announced: {named}{more}" if rows else ""


def parity(standing: Standing | None, zone: ZoneInfo) -> str:
    """Whether Stripe bills what was counted, in the footer; None: nothing is sent to Stripe."""
    if standing is None:
        return "nothing is sent to Stripe"
    parts = [
        (standing.misbilled, "not billed as counted", None, ""),
        (standing.for_approval, "waiting for approval", standing.for_approval_since, "since"),
        (standing.unsent, "not sent yet", standing.unsent_since, "since"),
        (standing.unconfirmed, "not confirmed yet", standing.unconfirmed_since, "sent since"),
    ]
    told = [
        f"{counted(hours, 'customer-hour')} {what}"
        + (f" ({verb} {moment.astimezone(zone):%d %b %H:%M %Z})" if moment else "")
        for hours, what, moment, verb in parts
        if hours
    ]
    if standing.periods:
        told.insert(0, f"{counted(standing.periods, 'billing period')} not invoiced as counted")
    if not told:
        return "Stripe: confirmed as counted"
    needs_decision = standing.periods or standing.misbilled or standing.for_approval
    # what is not confirmed yet, or not sent yet, needs no decision
    command = " (`headroom stripe problems`)" if needs_decision else ""
    return f"Stripe: {', '.join(told)}{command}"


def _headline(news: Sequence[Row], used_up: Sequence[Row], morning: DigestDay) -> str:
    since = morning.moment(morning.since)
    if not news:
        still = f" {counted(len(used_up), 'account')} still over the quota." if used_up else ""
        return f"No account crossed a threshold since {since}.{still}"
    thresholds = {threshold_name(row) for row in news}
    what = thresholds.pop() if len(thresholds) == 1 else "a threshold"
    caps = [hits_cap(row, morning.on) for row in news]
    today = [_short(row) for row, cap in zip(news, caps, strict=True) if cap == "today"]
    parts = [f"{counted(len({row['account_id'] for row in news}), 'account')} crossed {what} since {since}"]
    if full := caps.count("over quota"):
        parts.append(f"{full} {'has' if full == 1 else 'have'} used up the quota")
    if today:
        names = ", ".join(today[:3]) + (", …" if len(today) > 3 else "")
        parts.append(f"{len(today)} will hit the cap today ({names})")
    return " ".join([f"{'; '.join(parts)}.", _first(news[0], morning.on), *_revenue_of_moving_up(news)])


def _first(row: Row, on: date) -> str:
    """Whom to call, when and why."""
    if not row["is_current_period"]:
        return f"First: {_short(row)}, whose period ended at {format_pct(row['pct_of_cap'])}."
    cap, waiting = words.when(row, on), words.waiting(row)
    why = {
        "over quota": "the quota is used up",
        "today": "hits the cap today",
        "not this period": "will not use up the quota in this period",
        "no forecast": "too early for a forecast",
    }.get(cap, f"hits the cap on {cap}")
    todo = f". {words.action(row)}:" if words.action(row) else ","
    return f"First: {_short(row)}{todo} {why}, {words.figures(row)}{f', {waiting}' if waiting else ''}."


def _revenue_of_moving_up(news: Sequence[Row]) -> list[str]:
    """What it comes to if all take the next plan, of those for which the catalogue knows it and who need no help."""
    offers = {
        row["account_id"]: row
        for row in news
        if row["is_current_period"] and row["next_plan_delta_mrr"] is not None and not row["is_retry_storm"]
    }
    sums: dict[str, Decimal] = {}
    for row in offers.values():
        sums[row["currency"]] = sums.get(row["currency"], Decimal(0)) + row["next_plan_delta_mrr"]
    if not sums:
        return []
    amounts = " and ".join(f"{amount:+,.2f} {currency}" for currency, amount in sorted(sums.items()))
    gain = sum(row["is_staying_cheaper"] is False for row in offers.values())
    return [f"{amounts} MRR if {_all(len(offers))} the next plan (cheaper for {gain or 'none'} of them)."]


def _all(count: int) -> str:
    return "the one with a known price takes" if count == 1 else f"all {count:,} with a known price take"


def _item(row: Row, calls: Sequence[int], morning: DigestDay) -> dict[str, Any]:
    is_calls, is_current = row["meter"] == METER, row["is_current_period"]
    lines = [words.progress(row, morning), [words.waiting(row), words.offer(row)]] if is_current else []
    return {
        "account_id": row["account_id"],
        "name": words.name_of(row),
        "owner": row["owner"] or "no owner",
        "plan": row["plan"] or "",
        "severity": row["severity"],
        "threshold": threshold_name(row),
        "used": f"{row['used']:,}",
        "quota": f"{row['quota']:,}" + ("" if is_calls else f" {row['unit']}"),
        "pct": format_pct(row["pct_of_cap"], row["ci95_pct"] if is_current else None),
        "crossed_at": f"{row['crossed_at'].astimezone(morning.zone):%d %b %H:%M}",
        "cause": row["cause"],
        "hits_cap": hits_cap(row, morning.on),
        "projected": words.projected(row) if is_current else f"{row['used']:,}",
        "mrr": f"{row['mrr']:,.2f}" if row["mrr"] is not None else "",
        "renewal": f"{row['renewal_on']:%d %b %Y}" if row["renewal_on"] else "",
        "action": words.action(row) if is_current else "",
        "details": [" · ".join(filter(None, line)) for line in lines if any(line)],
        "caveats": words.caveats(row, morning) if is_current else [],
        "sparkline": sparkline(calls) if is_calls else "",
        "calls": list(calls) if is_calls else [],
    }


def _list(title: str, rows: Sequence[Row], line: Callable[[Row], str]) -> dict[str, Any]:
    return {"title": title, "lines": [line(row) for row in rows[:LISTED]], "more": max(len(rows) - LISTED, 0)}


def _known(row: Row, morning: DigestDay) -> str:
    """What is no news: how far the account is, and for a cap ahead, when it is hit and when the contract ends."""
    facts = [words.figures(row)]
    if words.hits_cap_is_ahead(row):
        facts += [words.when(row, morning.on), f"renews {row['renewal_on']:%d %b %Y}"]
    return "; ".join([f"{_short(row)}: {', '.join(facts)}{_mrr(row)}", *words.caveats(row, morning)])


def _resolved(row: Row, morning: DigestDay) -> str:
    quota = f"{row['quota']:,}" if row["quota"] is not None else row["quota_state"]
    stands = f", now {format_pct(row['pct_of_cap'])}" if row["pct_of_cap"] is not None else ""
    before = f"{row['previous_quota']:,} to " if row["previous_quota"] is not None else ""
    return f"{_short(row)}: {before}{quota} on {morning.day(row['quota_since'])}{stands}{_mrr(row)}"


def _dropping(row: Row) -> str:
    csm = f", CSM {row['csm']}" if row["csm"] else ""
    return f"{_short(row)}: {format_pct(row['momentum_7d'])} in 7 days{_mrr(row)}{csm}"


def _is_used_up(row: Row) -> bool:
    # a gauge that has a quota may have no reading yet
    return row["quota_state"] == "limited" and row["used_mtd"] is not None and bool(row["used_mtd"] >= row["quota"])


def _hits_before_renewal(row: Row) -> bool:
    return bool(words.hits_cap_is_ahead(row) and row["renewal_on"] and row["hits_cap_on"] < row["renewal_on"])


def _is_dropping(row: Row) -> bool:
    return bool(row["momentum_word"] == "dropping")


def _is_resolved(row: Row, announced: Collection[CrossingKey], morning: DigestDay) -> bool:
    """Whether a quota that was raised since then left behind what had been crossed in the period."""
    is_new = row["quota_since"] is not None and row["quota_since"] >= morning.since
    if not is_new or row["severity"] not in (None, "ok", "watch"):
        return False
    subject = (row["account_id"], row["meter"], row["period_start"])
    return any(key[:3] == subject and (row["quota"] is None or key[3] < row["quota"]) for key in announced)


def _revenue(row: Row) -> tuple[object, ...]:
    return (-(row["mrr"] or Decimal(0)), row["account_id"])


def _footer(quality: Mapping[str, Any], now: datetime, zone: ZoneInfo) -> list[str]:
    through, complete = quality["data_through"], quality["complete_pct"]
    lines = [
        f"Data through {through.astimezone(zone):%d %b %H:%M %Z}" if through else "No usage yet",
        f"as of {now.astimezone(zone):%d %b %H:%M %Z}",
        *([f"{format_pct(complete, decimals=2)} of all lines count"] if complete is not None else []),
        _rejected(quality),
        f"{counted(quality['subjects_unmapped'], 'id')} with usage but no account",
        f"{counted(quality['accounts_over_80_pct'], 'account')} at 80 % or above",
    ]
    if quality["accounts_without_owner"]:
        lines.append(f"{counted(quality['accounts_without_owner'], 'account')} of them without an owner")
    lines.append(f"{counted(quality['accounts_without_quota'], 'account')} with usage but no quota")
    if quality["accounts_blocked_with_usage"]:
        lines.append(f"{counted(quality['accounts_blocked_with_usage'], 'account')} blocked (quota 0) but calling")
    if quality["events_of_unknown_meter"]:
        lines.append(f"{counted(quality['events_of_unknown_meter'], 'event')} of a meter that is not in meters.csv")
    if quality.get("events_ahead"):
        lines.append(ahead_of_clock(quality))
    if quality["accounts_sampled"]:
        billed = "billed by the estimate" if quality.get("bills_sampled") else "never billed"
        lines.append(f"{counted(quality['accounts_sampled'], 'account')} estimated from sampled calls, {billed}")
    unbilled = counted(quality["accounts_without_customer"], "account")
    return [*lines, f"not billed: {unbilled} with usage but no Stripe customer"]


def _rejected(quality: Mapping[str, Any]) -> str:
    lines, events = quality["rejected_lines"], quality.get("lost_events") or 0
    return f"{counted(lines, 'line')} rejected{f', about {events:,} events' if events > lines else ''}"


def ahead_of_clock(quality: Mapping[str, Any]) -> str:
    """How many events wait for their time, and whose is the furthest; `quality` counts at least one."""
    count, hours = quality["events_ahead"], quality["hours_ahead"]
    distance = counted(hours, "hour") if hours < 48 else counted(hours // 24, "day")
    producer = printable(quality["furthest_ahead_producer"] or "")[:PRODUCER_CHARACTERS]
    furthest = f"the furthest by {distance if hours else 'minutes'}"
    return (
        f"{counted(count, 'event')} {'is' if count == 1 else 'are'} ahead of the clock, {furthest}: producer {producer}"
    )


def _short(row: Row) -> str:
    name = " ".join(words.name_of(row).split())
    return name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…"


def _mrr(row: Row) -> str:
    return f", MRR {row['mrr']:,.2f}" if row["mrr"] is not None else ""
