"""What is drawn of an account: its usage period against the quota, and its days. With the same as text."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages import charts
from orchestration.messages.account_wording import Row, threshold_name
from orchestration.pages import account_days, account_sections
from orchestration.pages.asking import Asked
from orchestration.pages.daily_chart import Mark, bar_chart, period_chart
from orchestration.usage import units
from orchestration.usage.formatting import figure
from orchestration.warehouse import account_page_queries as questions
from orchestration.warehouse import account_usage
from orchestration.warehouse.published_copy import connected, query

CHANGES = 10
"""Of a quota, the newest."""


def crossings(asked: Asked, row: Row) -> list[dict[str, Any]]:
    asks = {name: row[name] for name in ("account_id", "meter", "period_start")}
    causes = {"quota_lowered": "when the quota was lowered", "quota_raised": "when the quota was raised"}
    return [
        {
            **each,
            "name": threshold_name(each),
            "why": causes.get(each["cause"], ""),
            "used_then": figure(each["reached_at_units"], each["unit"]),
        }
        for each in query(asked.settings.published, questions.PERIOD_CROSSINGS, asks)
    ]


def quota_changes(asked: Asked, row: Row) -> list[dict[str, Any]]:
    asks = {"account_id": row["account_id"], "meter": row["meter"], "limit": CHANGES}
    return [
        {**each, "words": account_sections.quota_words(each["quota"], row["unit"])}
        for each in query(asked.settings.published, questions.QUOTA_CHANGES, asks)
    ]


def period(
    asked: Asked, row: Row, crossed: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The chart of the running period with its figures as a table; None where nothing can be drawn."""
    figures = drawn(asked, row)
    if figures is None or row["used_mtd"] is None:
        return None
    marks = [Mark(each["crossed_at"], each["name"], each["reached_at_units"]) for each in crossed]
    marks += [
        Mark(each["effective_at"], f"quota {each['words']}")
        for each in changes
        if each["effective_at"] > row["period_start"] and each["effective_at"] < row["period_end"]
    ]
    names = ", ".join(each["name"] for each in crossed) or "no threshold"
    said = f"{charts.alternative(figures, row['used_mtd'])} Crossed: {names}."
    return {
        "chart": period_chart(figures, (row["as_of"], row["used_mtd"]), marks, said),
        "said": said,
        "has_forecast": figures["is_forecast"] and figures["projected"] is not None,
        "rows": table(figures),
    }


def table(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same as a table: what was used by the end of each complete day."""
    first, unit = date.fromisoformat(figures["from"]), figures["unit"]
    return [
        {"on": first + timedelta(days=number), "used": "–" if each is None else figure(each, unit)}
        for number, each in enumerate(figures["used"])
    ]


def drawn(asked: Asked, row: Row) -> dict[str, Any] | None:
    """As in the messages. What does not add up has its figure at the end of each day in place of a sum."""
    start, published = row["period_start"], asked.settings.published
    until = min(datetime.combine(row["as_of"].date(), time(), UTC), row["period_end"])
    if until <= start or row["quota"] is None:
        return None
    if units.adds_up(row["aggregation"]):
        asks = {"account_id": row["account_id"], "meter": row["meter"], "start": start, "until": until}
        found = query(published, questions.PERIOD_DAYS_OF_METER, asks)
        figures = charts.chart(row, [day["utc_day"] for day in found], [day["units"] for day in found], row["as_of"])
        return figures and {**figures, "adds_up": True}
    figures = charts.chart(row, [], [], row["as_of"])
    if figures is None:
        return None
    with connected(published) as connection:
        days = account_usage.days_of(connection, published, row, start.date(), until.date(), ZoneInfo("UTC"))
    return {**figures, "used": [day["units"] for day in days], "adds_up": False}


def bars(row: Row, days: Sequence[Mapping[str, Any]], chosen: account_days.Span) -> dict[str, Any] | None:
    if not days:
        return None
    unit = "calls" if row["is_calls"] else row["unit"]
    said = f"{units.name(unit).capitalize()} by day, {chosen.start:%-d %b} to {chosen.last:%-d %b %Y}."
    return {"chart": bar_chart(account_days.bars(days), unit, said), "said": said}
