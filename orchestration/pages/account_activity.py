"""What an account does: endpoints or properties, failed calls, and the hours of its day."""

from datetime import date
from itertools import groupby
from typing import Any

from orchestration.messages.account_wording import Row
from orchestration.messages.figures import one_line, percent
from orchestration.pages.asking import Asked
from orchestration.pages.daily_chart import Bar, bar_chart
from orchestration.usage import units
from orchestration.usage.formatting import counted, figure
from orchestration.warehouse import account_page_queries as questions
from orchestration.warehouse.published_copy import query

SHOWN = 10
"""Values of each property."""


def activity(asked: Asked, row: Row, through: date) -> dict[str, Any]:
    """`through` is the last UTC day with usage. Errors and hours are known of calls alone."""
    published, account = asked.settings.published, {"account_id": row["account_id"]}
    within = {**account, "through": through, "limit": SHOWN}
    if not row["is_calls"]:
        found = query(published, questions.USED_PROPERTIES, {**within, "meter": row["meter"]})
        return {"splits": _splits(found, row["unit"]), "errors": None, "hours": None}
    endpoints = [{**each, "property": "endpoint"} for each in query(published, questions.CALLED_ENDPOINTS, within)]
    return {
        "splits": _splits(endpoints, "calls"),
        "errors": _errors(query(published, questions.FAILED_CALLS, account)),
        "hours": _hours(query(published, questions.HOURS_OF_DAY, account)),
    }


def _splits(rows: list[dict[str, Any]], unit: str) -> list[dict[str, Any]]:
    """A table for each property: its largest values of the last 7 days with their shares, cut off."""
    found = []
    for name, group in groupby(rows, key=lambda row: str(row["property"])):
        values = list(group)
        found.append(
            {
                "title": "endpoints" if name == "endpoint" else f"values of {one_line(name)}",
                "column": "Endpoint" if name == "endpoint" else one_line(name),
                "unit": units.name(unit),
                "more": max(values[0]["values"] - len(values), 0),
                "has_status": name == "endpoint" and any(each["calls_with_status"] for each in values),
                "rows": [
                    {
                        "value": one_line(each["value"], 200) or f"without {name}",
                        "used": figure(each["used"], unit),
                        "share": f"{each['used'] * 100 // max(each['all_used'], 1)} %",
                        "client_errors": figure(each.get("client_error_calls") or 0, unit),
                        "server_errors": figure(each.get("server_error_calls") or 0, unit),
                        "throttled": figure(each.get("throttled_calls") or 0, unit),
                    }
                    for each in values
                ],
            }
        )
    return found


def _errors(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of the last 7 complete days and of the 7 before."""
    if not rows:
        return None
    [row] = rows
    weeks = [("Last 7 days", "7d"), ("7 days before", "before_7d")]
    return {
        "through": row["through_date"],
        "is_enough": bool(row["has_enough_calls_7d"]),
        "refused": counted(row["refused_calls_7d"], "call") if row["refused_calls_7d"] else "",
        "weeks": [
            {
                "label": label,
                "calls": figure(row[f"calls_{name}"] or 0, "calls"),
                "failed": _ratio(row[f"error_ratio_{name}"]),
                "retryable": _ratio(row[f"retryable_ratio_{name}"]),
                "throttled": _ratio(row[f"throttled_ratio_{name}"]),
            }
            for label, name in weeks
        ],
    }


def _ratio(ratio: Any) -> str:
    return "–" if ratio is None else percent(ratio * 100)


def _hours(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Calls by the hour of the UTC day, over the last 28 complete days."""
    if not rows:
        return None
    busiest = max(rows, key=lambda row: row["calls"])
    share = percent(busiest["share_ratio"] * 100)
    said = f"Calls by hour of the UTC day. Busiest from {busiest['hour_of_day']:02}:00, {share}."
    bars = [Bar(f"{row['hour_of_day']:02}", row["calls"]) for row in rows]
    return {
        "chart": bar_chart(bars, "calls", said, [(360, 150)]),
        "said": said,
        "days": rows[0]["days"],
        "burstiness": rows[0]["burstiness"],
        "rows": [
            {
                "hour": f"{row['hour_of_day']:02}:00",
                "calls": figure(row["calls"], "calls"),
                "share": percent(row["share_ratio"] * 100),
            }
            for row in rows
        ],
    }
