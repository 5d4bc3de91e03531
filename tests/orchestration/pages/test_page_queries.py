"""Questions that are asked in a faster way give the same rows as the plain one."""

import hashlib
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from orchestration import settings
from orchestration.ledger import page_keys
from orchestration.ledger.ledger import Ledger
from orchestration.pages import app
from orchestration.warehouse import account_page_queries, page_queries, queries
from orchestration.warehouse.published_copy import query
from tests.orchestration.pages.conftest import Site
from tests.support.duckdb_file import opened
from tests.support.pages_world import NOW

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


HASHED = " and account_hash = " + queries.account_hash("$account_id")


@pytest.mark.parametrize("name", ["CALLED_ENDPOINTS", "HOURS_OF_DAY"])
def test_rows_of_an_account_are_those_that_its_id_alone_finds(site: Site, name: str) -> None:
    asked = getattr(account_page_queries, name)
    assert HASHED in asked
    accounts = query(site.published, "select account_id from utilization_mtd where is_main order by used_mtd desc")
    found = 0
    for account in accounts[:40]:
        asks = account | ({"through": NOW.date(), "limit": 10} if "$through" in asked else {})
        rows = query(site.published, asked, asks)
        assert rows == query(site.published, asked.replace(HASHED, ""), asks)
        found += bool(rows)
    assert found > 10


@pytest.mark.parametrize(
    ("table", "prefix"),
    [
        *(("hourly_usage", "account_"), ("hourly_usage_by_endpoint", "account_")),
        ("billing_reconciliation_hourly", "stripe_customer_"),
    ],
)
def test_hash_of_an_account_is_the_one_of_its_hours(site: Site, table: str, prefix: str) -> None:
    hashed = f"{prefix.removeprefix('stripe_')}hash"
    rows = query(site.published, f"select distinct {prefix}id as account_id, {hashed} as account_hash from {table}")
    assert len(rows) > 10
    for row in rows:
        first = int.from_bytes(hashlib.md5(row["account_id"].encode(), usedforsecurity=False).digest()[:4], "big")
        assert row["account_hash"] == first - 2**31
        asks = {"account_id": row["account_id"]}
        assert query(site.published, f"select {queries.account_hash('$account_id')} as hash", asks) == [
            {"hash": row["account_hash"]}
        ]


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


def test_page_of_an_older_versions_figures_says_so(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    config = settings.load()
    config.published.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(site.published, config.published)
    with opened(config.published) as older:
        older.execute("alter table hourly_usage_by_endpoint rename account_hash to another")
    [account] = query(site.published, "select account_id from utilization_mtd order by used_mtd desc limit 1")
    ledger = Ledger(config.ledger_url)
    _, secret = page_keys.grant(ledger, "CS team", None, NOW, NOW + timedelta(days=9))
    ledger.close()
    with TestClient(app.build(config, lambda: NOW), base_url="http://pages.test") as client:
        answer = client.get(f"/accounts/{account['account_id']}", headers={"authorization": f"Bearer {secret}"})

    assert answer.status_code == 503
    assert "Another version of Headroom made the figures. The next run makes them again." in answer.text
