"""Questions that are asked in a faster way give the same rows as the plain one."""

from typing import Any

import pytest

from orchestration.warehouse import account_page_queries, page_queries, queries
from orchestration.warehouse.published_copy import query
from tests.orchestration.pages.conftest import Site

HOURLY = """
    select usage_date as utc_day, sum(units)::bigint as units from hourly_usage
    where account_id = $account_id and meter = $meter and hour_start >= $start::timestamp
        and hour_start < $until::timestamp
    group by usage_date having sum(units) > 0 order by usage_date
"""


@pytest.mark.parametrize("start", ["2026-11-01 00:00:00", "2026-11-01 13:00:00", "2026-11-19 09:00:00"])
@pytest.mark.parametrize("until", ["2026-11-20 00:00:00", "2026-11-19 17:00:00"])
def test_days_of_a_period_are_the_sums_of_its_hours(site: Site, start: str, until: str) -> None:
    [busiest] = query(site.published, "select account_id, meter from utilization_mtd order by used_mtd desc limit 1")
    asks = {**busiest, "start": start, "until": until}
    days = query(site.published, account_page_queries.PERIOD_DAYS_OF_METER, asks)
    hours = query(site.published, HOURLY, asks)
    assert [day for day in days if day["units"]] == hours
    assert hours


@pytest.mark.parametrize("given", [{}, {"q": "a"}, {"meter": "api-calls"}, {"plan": "growth"}, {"advice": "watch"}])
def test_accounts_are_counted_once_whatever_their_meters(site: Site, given: dict[str, Any]) -> None:
    filters = page_queries.filters(given)
    [counts] = query(site.published, page_queries.ACCOUNTS_COUNTED, filters)
    rows = query(site.published, page_queries.accounts_seen("advice"), {**filters, "limit": 10_000, "offset": 0})
    assert counts == {"rows": len(rows), "accounts": len({row["account_id"] for row in rows})}


def test_changes_of_the_page_are_the_largest_of_the_mart(site: Site) -> None:
    every = [row for row in query(site.published, queries.WEEKLY_CHANGES) if row["change_word"]]
    assert every
    for limit in (2, 10_000):
        shown = query(site.published, page_queries.CHANGED, {"limit": limit})
        for word in {row["change_word"] for row in every}:
            of_word = [row for row in every if row["change_word"] == word]
            found = [row for row in shown if row["change_word"] == word]
            assert [row.pop("of_word") for row in found] == [len(of_word)] * len(found)
            assert found == of_word[:limit]


def test_machines_read_every_account_once(site: Site) -> None:
    after, found = "", list[str]()
    while page := query(site.published, page_queries.USAGE_AFTER, {"after": after, "limit": 7}):
        after = max(row["account_id"] for row in page)
        found += sorted({row["account_id"] for row in page})
    assert found == sorted({row["account_id"] for row in query(site.published, "from utilization_mtd")})


def test_marts_lie_in_the_order_of_accounts(site: Site) -> None:
    for mart in ("daily_usage", "quota_current", "utilization_mtd"):
        [order] = query(
            site.published,
            "select avg((account_id >= before)::int) as ordered"
            f" from (select account_id, lag(account_id) over () as before from {mart})",
        )
        assert order["ordered"] > 0.9, mart
