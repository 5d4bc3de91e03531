"""A customer's own usage: each meter, what is left, when it resets, and what happens at the limit. No word of ours."""

from typing import Any

from orchestration.messages.message import account_name
from orchestration.pages.asking import Asked, NotFoundError, Page
from orchestration.warehouse import account_page_queries, page_queries
from orchestration.warehouse.published_copy import query

DAYS = 30


def page(asked: Asked, account_id: str) -> Page:
    """The meters of that account alone.

    :raises NotFoundError: there are no figures of it yet.
    """
    published = asked.settings.published
    rows = query(published, page_queries.ACCOUNT_USAGE, {"account_id": account_id})
    if not rows:
        raise NotFoundError("There is no usage to show yet. Come back after your first call.")
    shown: list[dict[str, Any]] = []
    for row in rows:
        of_meter = {"account_id": account_id, "meter": row["meter"]}
        start = row["period_start"].replace(tzinfo=None)
        bounds = {"start": start, "until": row["as_of"].replace(tzinfo=None)}
        days = query(published, account_page_queries.PERIOD_DAYS_OF_METER, {**of_meter, **bounds})
        alerts = query(published, page_queries.CUSTOMER_THRESHOLDS, {**of_meter, "period_start": start})
        shown.append({**row, "days": days[-DAYS:], "alerts": alerts})
    return Page("customer", f"Usage of {account_name(rows[0])}", {"meters": shown}, account_id)
