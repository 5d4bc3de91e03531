"""The twenty largest accounts of the last 30 days, of one meter: how much, how often, and where they are going."""

from typing import Any

from orchestration.pages.asking import Asked, Page, Table
from orchestration.warehouse.page_queries import MAIN_METER, MOST_CHOICES, TOP, TOP_METERS
from orchestration.warehouse.published_copy import query_kept

COLUMNS = (
    *("volume_rank", "account_id", "account_name", "meter", "unit", "used", "calls", "share_pct", "active_days"),
    *("last_call_at", "trend", "owner", "plan"),
)


def page(asked: Asked) -> Page:
    """Rows of top_accounts_30d, of the main meter where none is named."""
    rows = _rows(asked)
    days = {row["account_id"]: [int(used) for used in row["used_by_day"].split(",")] for row in rows}
    meters = [row["meter"] for row in query_kept(asked.settings.published, TOP_METERS, {"limit": MOST_CHOICES})]
    shown = rows[0]["meter"] if rows else asked.parameters.get("meter", "")
    return Page("top", "Top 20 of 30 days", {"rows": rows, "days": days, "meters": meters, "shown": shown})


def table(asked: Asked) -> Table:
    return Table("top.csv", list(COLUMNS), [{name: row[name] for name in COLUMNS} for row in _rows(asked)])


def _rows(asked: Asked) -> list[dict[str, Any]]:
    published = asked.settings.published
    [main] = query_kept(published, MAIN_METER)
    return query_kept(published, TOP, {"meter": asked.parameters.get("meter", "")[:1024] or main["meter"]})
