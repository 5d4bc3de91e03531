"""Usage as JSON for machines: of one account, or of all of them in pages. The addresses are described in openapi.py.

Counts are strings in the meter's own unit, exact to its last step: JSON numbers lose what is above 2^53.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from orchestration.messages.wording import is_stale
from orchestration.pages.asking import Asked, NotFoundError
from orchestration.usage import units
from orchestration.usage.formatting import figure
from orchestration.warehouse import page_queries, queries
from orchestration.warehouse.published_copy import query, query_kept

ACCOUNTS = 1_000
"""In one answer."""
FRESH_SECONDS = 60
"""For which a client may keep an answer while the figures are fresh: the next build may be published meanwhile."""


def usage(asked: Asked) -> dict[str, Any]:
    """Of a customer, its own account; inside the company, up to 1,000 accounts after the id in `after`."""
    if asked.visitor.account_id is not None:
        return account_usage(asked, asked.visitor.account_id)
    rows = query(
        asked.settings.published,
        page_queries.USAGE_AFTER,
        {"after": asked.parameters.get("after", ""), "limit": ACCOUNTS},
    )
    accounts = [_account(list(each)) for _, each in groupby(rows, lambda row: row["account_id"])]
    return {"accounts": accounts, "next": accounts[-1]["account_id"] if len(accounts) == ACCOUNTS else None}


def account_usage(asked: Asked, account_id: str) -> dict[str, Any]:
    """Each meter of the account.

    :raises NotFoundError: there is no such account.
    """
    rows = query_kept(asked.settings.published, page_queries.ACCOUNT_USAGE, {"account_id": account_id})
    if not rows:
        raise NotFoundError("There is no such account.")
    return _account(rows)


def cache_control(asked: Asked) -> str:
    """A minute while the data is fresh; a client asks each time when it is stale."""
    quality = queries.data_quality(asked.settings.published)
    is_old = is_stale(quality, asked.settings.stale_after_hours)
    return "private, no-cache" if is_old else f"private, max-age={FRESH_SECONDS}"


def _account(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    return {
        "account_id": first["account_id"],
        "name": first["account_name"],
        "data_through": _moment(max((row["data_through"] for row in rows if row["data_through"]), default=None)),
        "as_of": _moment(first["as_of"]),
        "meters": [
            {
                "meter": row["meter"],
                "unit": units.name(row["unit"]),
                "period_start": _moment(row["period_start"]),
                "resets_at": _moment(row["period_end"]),
                "used": _count(row["used_mtd"], row["unit"]),
                "quota": _count(row["quota"], row["unit"]),
                "remaining": _count(row["remaining"], row["unit"]),
                "pct": None if row["pct_of_cap"] is None else f"{row['pct_of_cap']:f}",
                "limit": row["limit_kind"],
            }
            for row in rows
        ],
    }


def _count(count: int | None, unit: str) -> str | None:
    return None if count is None else figure(count, unit).replace(",", "")


def _moment(at: datetime | None) -> str | None:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else None
