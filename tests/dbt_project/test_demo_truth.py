"""The demo's known answers against the marts, row by row."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestration import demo
from orchestration.storage import warehouse
from tests.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, 17, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[demo.Truth, Path]:
    folder = tmp_path_factory.mktemp("demo") / "data"
    truth = demo.generate(folder / "landing", folder / "accounts.csv", now=NOW, accounts=120, days=40, events=20_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(folder))
        return truth, build_marts(folder, folder / "landing", NOW)


def test_daily_usage_is_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = warehouse.query(published, "select account_id, usage_date, calls from daily_usage where calls > 0")
    counted = {(row["account_id"], row["usage_date"]): row["calls"] for row in rows}
    assert counted == {
        (account.account_id, day): calls for account in truth.accounts for day, calls in account.calls_by_date.items()
    }


def test_daily_usage_has_no_holes(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = warehouse.query(
        published,
        """select account_id, min(usage_date) as first, max(usage_date) as last, count(*) as days
           from daily_usage group by account_id""",
    )
    assert {row["account_id"] for row in rows} == {
        account.account_id for account in truth.accounts if account.calls_by_date
    }
    for row in rows:
        assert row["last"] == NOW.date()
        assert row["days"] == (row["last"] - row["first"]).days + 1


def test_utilization_is_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = {row["account_id"]: row for row in warehouse.query(published, "select * from utilization_mtd")}
    assert set(rows) == {account.account_id for account in truth.accounts}
    for account in truth.accounts:
        row = rows[account.account_id]
        assert row["used_mtd"] == account.used_mtd
        assert row["quota_state"] == account.quota_state
        assert row["quota"] == (0 if account.quota_state == "blocked" else account.quota)
        assert row["stripe_customer_id"] == account.stripe_customer_id
        assert row["highest_threshold_pct"] == max(account.crossed, default=None), account.story


def test_crossings_are_the_truth(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = warehouse.query(
        published,
        """select account_id, threshold_pct from threshold_crossings
           where period_start = (select max(period_start) from utilization_mtd)""",
    )
    assert {(row["account_id"], row["threshold_pct"]) for row in rows} == {
        (account.account_id, threshold) for account in truth.accounts for threshold in account.crossed
    }


def test_every_refused_line_is_in_quarantine_with_its_reason(built: tuple[demo.Truth, Path]) -> None:
    truth, published = built
    rows = warehouse.query(published, "select reason, count(*) as lines from events_rejected group by reason")
    assert {row["reason"]: row["lines"] for row in rows} == dict(truth.rejected)
