"""How much an account used: on each day, last week, this month. Days are those of `headroom usage`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from orchestration.messages.account_wording import Row
from orchestration.pages.asking import Asked, WrongQuestionError
from orchestration.pages.daily_chart import Bar
from orchestration.usage import units
from orchestration.usage.formatting import amount, counted, figure
from orchestration.usage.periods import days_between, last_iso_week
from orchestration.warehouse import account_usage
from orchestration.warehouse.published_copy import connected

MOST_DAYS = 400
"""That one may ask for at once."""
RECENT_DAYS = 30


@dataclass(frozen=True)
class Span:
    """Days that somebody asks about, in `[start, end)`."""

    start: date
    end: date
    is_chosen: bool = False

    @property
    def last(self) -> date:
        return self.end - timedelta(days=1)


def span(asked: Asked, today: date, kept_from: date | None) -> Span:
    """By the parameters `from` and `to`, both included; without them the last 30 days.

    :raises WrongQuestionError: they are no such dates, too many, or not kept any more.
    """
    first, last = (asked.parameters.get(name, "").strip() for name in ("from", "to"))
    if not (first or last):
        start = today - timedelta(days=RECENT_DAYS - 1)
        return Span(max(start, kept_from) if kept_from else start, today + timedelta(days=1))
    try:
        begin = date.fromisoformat(first) if first else date.fromisoformat(last) - timedelta(days=RECENT_DAYS - 1)
        finish = date.fromisoformat(last) if last else today
    except (ValueError, OverflowError):
        raise WrongQuestionError("Both dates look like 2026-11-30.") from None
    try:
        start, end = days_between(begin, finish, today, asked.settings.zone)
    except ValueError as error:
        raise WrongQuestionError(f"There are no such days: {error}.") from None
    if (end - start).days > MOST_DAYS:
        raise WrongQuestionError(f"Ask for fewer days: {MOST_DAYS} is the most.")
    if kept_from and start < kept_from:
        raise WrongQuestionError(f"Usage before {kept_from} is no longer kept. Ask for later days.")
    return Span(start, end, is_chosen=True)


def read(
    asked: Asked, row: Row, chosen: Span, kept_from: date | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The days of the span, and the answers to what people ask most: last week, and this month. One question."""
    zone = asked.settings.zone
    today = row["as_of"].astimezone(zone).date()
    week, month = last_iso_week(today), today.replace(day=1)
    floor = kept_from or date.min
    start = max(min(chosen.start, week[0], month), floor)
    with connected(asked.settings.published) as connection:
        days = account_usage.days_of(connection, asked.settings.published, row, start, today + timedelta(days=1), zone)
    asked_often = [
        ("Last week", week[0], week[1], f"ISO week {week[0].isocalendar().week}"),
        ("This month", month, today + timedelta(days=1), "so far"),
    ]
    answers = [
        {
            "label": label,
            "span": f"{begin:%-d %b} to {end - timedelta(days=1):%-d %b %Y}",
            "note": note,
            "used": in_all(row, [day for day in days if begin <= day["usage_date"] < end]),
            "from": begin.isoformat(),
            "to": (end - timedelta(days=1)).isoformat(),
        }
        for label, begin, end, note in asked_often
        if begin >= floor
    ]
    return [day for day in days if chosen.start <= day["usage_date"] < chosen.end], answers


def in_all(row: Row, days: Sequence[Mapping[str, Any]]) -> str:
    """The sum of the days, or the figure at their end where it does not add up."""
    if not units.adds_up(row["aggregation"]):
        last = days[-1]["units"] if days else None
        return (
            "no reading yet" if last is None else f"{amount(last, row['unit'], row['unit_singular'] or '')} at the end"
        )
    used = sum(count(day) for day in days)
    return counted(used, "call") if row["is_calls"] else amount(used, row["unit"], row["unit_singular"] or "")


def count(day: Mapping[str, Any]) -> int:
    """Calls where they are counted, else units."""
    found: int | None = day["units"] if day["calls"] is None else day["calls"]
    return found or 0


def lines(row: Row, days: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For the table, the newest first: a day, what was used, and what that counts for where calls have weights."""
    is_weighted = row["is_calls"] and any(day["units"] != day["calls"] for day in days)
    return [
        {
            "on": day["usage_date"],
            "used": "–" if day["units"] is None else figure(count(day), row["unit"]),
            "units": figure(day["units"], row["unit"]) if is_weighted else "",
            "note": "" if day["is_complete"] else "so far" if units.adds_up(row["aggregation"]) else "now",
        }
        for day in reversed(days)
    ]


def bars(days: Sequence[Mapping[str, Any]]) -> list[Bar]:
    return [Bar(f"{day['usage_date']:%-d %b}", count(day), not day["is_complete"]) for day in days]
