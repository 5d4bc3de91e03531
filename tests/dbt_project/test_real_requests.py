"""10,000 real requests whose figures were counted by a program of somebody else's: every one comes out exactly.

The data is not part of the project; where it is not beside the clone, these tests are skipped, loudly.
"""

import json
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration.warehouse import published_copy
from tests.support.pipeline import build_marts

DATA = Path(__file__).parents[3] / "shared" / "data" / "apache"
NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"SKIPPED: the real requests are not at {DATA}")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADROOM_DATA", str(folder))
        landing = folder.parent / "landing"
        landing.mkdir()
        for file in DATA.glob("*.ndjson"):  # not what is expected of them: JSON in the landing folder is read as events
            shutil.copy(file, landing)
        return build_marts(folder, landing, NOW)


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
    return content


def test_calls_accounts_and_errors_are_the_counted_ones(published: Path, expected: dict[str, Any]) -> None:
    [row] = published_copy.query(
        published,
        """select count(*) as calls, count(distinct account_id) as accounts, min(event_at) as first,
                  max(event_at) as last, count(*) filter (status >= 400) as errors from stg_api_calls""",
    )
    assert row == {
        "calls": expected["events"],
        "accounts": expected["accounts"],
        "first": datetime.fromisoformat(expected["first"]),
        "last": datetime.fromisoformat(expected["last"]),
        "errors": expected["errors"],
    }


def test_top_accounts_are_the_counted_ones(published: Path, expected: dict[str, Any]) -> None:
    rows = published_copy.query(
        published,
        """select account_id, count(*) as calls, count(distinct event_date) as active_days,
                  max(event_at) as last_call_at, count(*) filter (status >= 400) as errors
           from stg_api_calls group by account_id""",
    )
    by_account = {row["account_id"]: row for row in rows}
    for account in expected["top20"]:
        row = by_account[account["account"]]
        assert row["calls"] == account["calls"]
        assert row["active_days"] == account["active_days"]
        assert row["last_call_at"] == datetime.fromisoformat(account["last_call_at"])
        assert row["errors"] == account["errors"]
        assert round(row["errors"] / row["calls"], 6) == account["error_rate"]
    smallest = min(account["calls"] for account in expected["top20"])
    assert sum(row["calls"] > smallest for row in rows) <= len(expected["top20"])


def test_top_accounts_30d_ranks_as_counted(published: Path, expected: dict[str, Any]) -> None:
    rows = published_copy.query(published, "select * from top_accounts_30d order by volume_rank")
    assert len(rows) == expected["accounts"]
    assert sum(row["calls"] for row in rows) == expected["events"]
    top = sorted(expected["top20"], key=lambda account: (-account["calls"], account["account"]))
    for rank, (row, account) in enumerate(zip(rows, top, strict=False), 1):
        assert (row["volume_rank"], row["account_id"]) == (rank, account["account"])
        assert (row["calls"], row["active_days"]) == (account["calls"], account["active_days"])
        assert row["last_call_at"] == datetime.fromisoformat(account["last_call_at"])
        assert row["used_by_day"].startswith("0," * 26)
    last = datetime.fromisoformat(expected["last"])
    assert all(row["last_call_age_hours"] == (last - row["last_call_at"]) // timedelta(hours=1) for row in rows)
    assert {row["trend"] for row in rows} == {"too early"}


def test_daily_usage_is_the_counted_one_by_utc_day(published: Path, expected: dict[str, Any]) -> None:
    rows = published_copy.query(published, "select account_id, usage_date, calls from daily_usage where calls > 0")
    counted = {f"{row['account_id']} {row['usage_date']}": row["calls"] for row in rows}
    assert counted == expected["calls_per_account_per_day"]["UTC"]


def test_calls_by_day_are_the_counted_ones_in_every_zone(published: Path, expected: dict[str, Any]) -> None:
    for zone, days in expected["calls_per_account_per_day"].items():
        rows = published_copy.query(
            published,
            """select account_id, cast((event_at at time zone 'UTC') at time zone ? as date) as day, count(*) as calls
               from stg_api_calls group by all""",
            [zone],
        )
        assert {f"{row['account_id']} {row['day']}": row["calls"] for row in rows} == days, zone


def test_billable_hours_are_the_counted_ones(published: Path, expected: dict[str, Any]) -> None:
    rows = published_copy.query(published, "select account_id, hour_start, billable_units from billable_usage_hourly")
    hours: dict[str, dict[str, int]] = {}
    by_hour_of_day: Counter[str] = Counter()
    for row in rows:
        hours.setdefault(row["account_id"], {})[f"{row['hour_start']:%Y-%m-%dT%H:00Z}"] = row["billable_units"]
        by_hour_of_day[f"{row['hour_start']:%H}"] += row["billable_units"]
    for account, counted in expected["calls_per_account_per_hour_top20"].items():
        assert hours[account] == counted
    assert by_hour_of_day == expected["hour_of_day"]


def test_hours_of_the_day_are_the_counted_ones(published: Path, expected: dict[str, Any]) -> None:
    rows = published_copy.query(
        published, "select hour_of_day, sum(calls)::bigint as calls from hourly_profile group by hour_of_day"
    )
    assert {f"{row['hour_of_day']:02d}": row["calls"] for row in rows} == expected["hour_of_day"]


def test_error_rates_are_the_counted_ones(published: Path, expected: dict[str, Any]) -> None:
    rows = {row["account_id"]: row for row in published_copy.query(published, "select * from error_rates")}
    assert len(rows) == expected["accounts"]
    for account in expected["top20"]:
        row = rows[account["account"]]
        assert row["calls_7d"] == row["calls_with_status_7d"] == account["calls"]
        assert int(row["error_ratio_7d"] * 1_000_000) == account["errors"] * 1_000_000 // account["calls"]


def test_used_mtd_is_the_counted_month(published: Path, expected: dict[str, Any]) -> None:
    rows = published_copy.query(published, "select account_id, used_mtd from utilization_mtd")
    assert {f"{row['account_id']} 2026-11": row["used_mtd"] for row in rows} == expected["calls_per_account_per_month"]


def test_endpoints_are_the_counted_ones(published: Path, expected: dict[str, Any]) -> None:
    rows = published_copy.query(
        published, "select endpoint, sum(calls)::bigint as calls from daily_usage_by_endpoint group by endpoint"
    )
    counted = {row["endpoint"]: row["calls"] for row in rows}
    assert [[name, counted[name]] for name, _ in expected["endpoints_top20"]] == expected["endpoints_top20"]


def test_utilization_decides_every_edge_as_counted(published: Path) -> None:
    rows = {row["account_id"]: row for row in published_copy.query(published, "select * from utilization_mtd")}
    states = {"zero": "blocked", "null": "unlimited", "negative": "unknown", "not a number": "unknown"}
    for edge in json.loads((DATA / "expected-utilization.json").read_text()):
        row = rows[edge["account"]]
        assert row["used_mtd"] == edge["used_mtd"], edge["case"]
        pct = None if row["pct_of_cap"] is None else float(round(row["pct_of_cap"], 4))
        assert pct == edge["pct_of_cap"], edge["case"]
        assert (int((row["highest_threshold"] or "0%")[:-1]) >= 80) == edge["crossed_80"], edge["case"]
        if edge["quota"] is not None:
            assert row["quota"] == edge["quota"]
        else:
            assert row["quota_state"] == states.get(edge["case"], "unknown"), edge["case"]


def test_unusable_quotas_are_in_quarantine_with_their_line(published: Path) -> None:
    rows = published_copy.query(published, "select landed_file, reason, line from events_rejected order by line_number")
    assert [(row["landed_file"], row["reason"]) for row in rows] == [("quotas.ndjson", "invalid_quota")] * 2
    assert "-100" in rows[0]["line"]
    assert '"unlimited"' in rows[1]["line"]
