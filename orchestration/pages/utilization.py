"""The first page: who uses how much of their quota, what to do about it, and who does it."""

from collections.abc import Mapping
from typing import Any

from orchestration.pages.asking import Asked, Page, Table, WrongQuestionError
from orchestration.usage.formatting import figure
from orchestration.warehouse import page_queries, queries
from orchestration.warehouse.published_copy import query, query_kept

COLUMNS = (
    *("account_id", "account_name", "meter", "plan", "segment", "owner", "used_mtd", "quota", "unit", "pct_of_cap"),
    *("remaining", "hits_cap_on", "severity", "advice", "next_step", "period_end"),
)


def page(asked: Asked, at_once: int = page_queries.PAGE_ROWS) -> Page:
    """One row for each account and meter that the filters let through, so many at a time.

    :raises WrongQuestionError: a sort or a number of a page that there is not.
    """
    published, filters, number = asked.settings.published, _filters(asked), _number(asked)
    rows = query_kept(
        published,
        page_queries.accounts_seen(_sort(asked)),
        {**filters, "limit": at_once, "offset": (number - 1) * at_once},
    )
    [counts] = query_kept(published, page_queries.ACCOUNTS_COUNTED, filters)
    days = queries.daily_usage(published, (row["account_id"] for row in rows))
    choices: dict[str, list[str]] = {}
    for row in query_kept(published, page_queries.CHOICES, {"limit": page_queries.MOST_CHOICES}):
        choices.setdefault(row["kind"], []).append(row["value"])
    kept = {name: value for name, value in asked.parameters.items() if name in (*filters, "sort") and value}
    return Page(
        "utilization",
        "Utilization",
        {
            "rows": rows,
            "counts": counts,
            "days": days,
            "choices": choices,
            "filters": filters,
            "kept": kept,
            "sort": _sort(asked),
            "number": number,
            "pages": max(1, -(-counts["rows"] // at_once)),
            "mine": asked.visitor.name if "@" in asked.visitor.name else "",
        },
    )


def table(asked: Asked) -> Table:
    """The rows that the filters let through, on all pages: exact figures, in the meter's own unit."""
    rows = query(
        asked.settings.published,
        page_queries.accounts_seen(_sort(asked)),
        {**_filters(asked), "limit": page_queries.CSV_ROWS, "offset": 0},
    )
    return Table("utilization.csv", list(COLUMNS), [_exact(row) for row in rows])


def _exact(row: Mapping[str, Any]) -> dict[str, object]:
    counts = {name: None if row[name] is None else figure(row[name], row["unit"]).replace(",", "") for name in
              ("used_mtd", "quota", "remaining")}  # fmt: skip
    return {name: counts.get(name, row[name]) for name in COLUMNS}


def _filters(asked: Asked) -> dict[str, str]:
    return page_queries.filters(dict(asked.parameters))


def _sort(asked: Asked) -> str:
    sort = asked.parameters.get("sort") or "advice"
    if sort not in page_queries.SORTS:
        raise WrongQuestionError(f"Accounts are sorted by one of: {', '.join(page_queries.SORTS)}.")
    return sort


def _number(asked: Asked) -> int:
    number = asked.parameters.get("page") or "1"
    if not (number.isascii() and number.isdigit() and 0 < int(number[:7]) <= 1_000_000):
        raise WrongQuestionError("A page has a number, from 1 on.")
    return int(number[:7])
