"""A customer's own usage: each meter, what is left, when it resets, and what happens at the limit. No word of ours."""

from collections.abc import Mapping, Sequence
from datetime import MAXYEAR, date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.account_wording import threshold_name
from orchestration.messages.message import account_name
from orchestration.pages import account_charts
from orchestration.pages.asking import Asked, NotFoundError, Page
from orchestration.pages.daily_chart import Bar, Level, bar_chart, period_chart
from orchestration.usage import units
from orchestration.usage.formatting import amount, figure
from orchestration.warehouse import account_page_queries, account_usage, page_queries
from orchestration.warehouse.published_copy import connected, query, query_kept

DAYS = 30
"""Of the period that are drawn one by one: the newest."""
_WITHOUT_FORECAST = {"forecast_method": "none", "projected_eom": None, "projected_low": None, "projected_high": None}


def page(asked: Asked, account_id: str) -> Page:
    """The meters of that account alone.

    :raises NotFoundError: there are no figures of it yet.
    """
    rows = query_kept(asked.settings.published, page_queries.ACCOUNT_USAGE, {"account_id": account_id})
    if not rows:
        raise NotFoundError("There is no usage to show yet. Come back after your first call.")
    return Page(
        "customer", f"Usage of {account_name(rows[0])}", {"meters": [_meter(asked, row) for row in rows]}, account_id
    )


def _meter(asked: Asked, row: Mapping[str, Any]) -> dict[str, Any]:
    alerts = _alerts(asked, row)
    return {
        **row,
        "resets": None if row["period_end"].year == MAXYEAR else row["period_end"],
        "alerts": alerts,
        "period": _period(asked, row, alerts),
        "days": _days(asked, row),
    }


def _alerts(asked: Asked, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The thresholds that can be reached, and when they were."""
    of_period = {name: row[name] for name in ("account_id", "meter", "period_start")}
    reached = {
        each["threshold"]: each["crossed_at"]
        for each in query(asked.settings.published, account_page_queries.PERIOD_CROSSINGS, of_period)
    }
    return [
        {**each, "name": threshold_name({**each, "unit": row["unit"]}), "reached_at": reached.get(each["threshold"])}
        for each in query(asked.settings.published, page_queries.CUSTOMER_THRESHOLDS, of_period)
        if row["limit_kind"] != "hard" or row["quota"] is None or each["reached_at_units"] <= row["quota"]
    ]


def _period(asked: Asked, row: Mapping[str, Any], alerts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Usage so far against the quota; None where nothing can be drawn. What may come is not in it."""
    drawn = account_charts.drawn(asked, {**row, **_WITHOUT_FORECAST})
    if drawn is None or row["used_mtd"] is None:
        return None
    first, unit = date.fromisoformat(drawn["from"]), row["unit"]
    last = first + timedelta(days=drawn["days"] - 1)
    said = f"{figure(row['used_mtd'], unit)} of {amount(row['quota'], unit)} used, {first:%-d %b} to {last:%-d %b %Y}."
    levels = [Level(each["name"], each["reached_at_units"]) for each in alerts]
    return {
        "chart": period_chart(drawn, (row["as_of"], row["used_mtd"]), [], said, levels),
        "said": said,
        "rows": account_charts.table(drawn),
    }


def _days(asked: Asked, row: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was used on each UTC day of the period; None for what does not add up."""
    if not units.adds_up(row["aggregation"]):
        return None
    published, end = asked.settings.published, row["as_of"].date() + timedelta(days=1)
    start = max(row["period_start"].date(), end - timedelta(days=DAYS))
    with connected(published) as connection:
        asks = {**row, "is_calls": False}
        days = account_usage.days_of(connection, published, asks, start, end, ZoneInfo("UTC"))
    said = f"{units.name(row['unit']).capitalize()} by UTC day, {start:%-d %b} to {end - timedelta(days=1):%-d %b %Y}."
    bars = [Bar(f"{day['usage_date']:%-d %b}", day["units"] or 0, not day["is_complete"]) for day in days]
    rows = [{"on": day["usage_date"], "used": figure(day["units"] or 0, row["unit"])} for day in reversed(days)]
    return {"chart": bar_chart(bars, row["unit"], said), "said": said, "rows": rows}
