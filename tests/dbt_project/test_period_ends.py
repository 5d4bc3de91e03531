"""Calls up to five minutes ahead of the clock count, but not in a period that ends before them: through real builds."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration import settings
from orchestration.lake import subscription_periods
from orchestration.lake.lake import Lake
from orchestration.warehouse import duckdb, published_copy, queries
from tests.dbt_project.builder import Builder, project_with
from tests.support.builders import land, make_event, make_quota
from tests.support.pipeline import assert_built, build_marts, ingest

MINUTE = timedelta(minutes=1)
ENDS = {
    "month": (datetime(2026, 12, 1, tzinfo=UTC), "month,,"),
    "year": (datetime(2027, 1, 1, tzinfo=UTC), "month,,"),
    "cycle": (datetime(2026, 11, 16, tzinfo=UTC), "cycle,2026-01-16,"),
    "trial": (datetime(2026, 11, 20, tzinfo=UTC), "trial,2026-11-02,2026-11-20"),
}


def follow(lake: Path, *periods: tuple[datetime, datetime]) -> None:
    """Periods of the customer's subscription, as they were read at Stripe."""
    with Lake(lake).locked():
        known = [("cus_a", "sub_a", "si_a", "api-calls", *period, "active", False, None) for period in periods]
        subscription_periods.write(lake, known)


def rows(published: Path, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in published_copy.query(published, sql)]


def land_calls(data: Path, end: datetime, period: str) -> None:
    """Seven calls of a quota of ten in the hour before the end, and two a minute after it."""
    (data / "accounts.csv").write_text(f"account_id,period_kind,period_anchor,period_ends_on\nacme,{period}\n")
    before = [end - timedelta(minutes=59) + number * MINUTE for number in range(7)]
    after = [end + MINUTE + timedelta(seconds=number) for number in range(2)]
    land(
        data / "landing",
        "calls.ndjson",
        make_quota("acme", 10, "2026-10-01T00:00:00Z"),
        *(make_event("acme", at.isoformat()) for at in before + after),
    )


@pytest.mark.parametrize(("end", "period"), ENDS.values(), ids=ENDS)
def test_calls_ahead_of_a_periods_end_are_the_next_ones(data: Path, end: datetime, period: str) -> None:
    land_calls(data, end, period)
    standing = "select used_mtd, used_today, highest_threshold from utilization_mtd"

    published = build_marts(data, data / "landing", end - MINUTE)
    assert rows(published, standing) == [(7, 7, "50%")]
    assert rows(published, "select used, threshold from threshold_crossings") == [(7, "50%")]
    [digest] = queries.digest_accounts(published, end - timedelta(hours=15))
    assert digest["used_since"] == 7
    assert rows(published, "select sum(calls)::integer from hourly_usage") == [(9,)], "they are there, and count later"

    if period != "month,,":  # the builds behind the end are the same for every kind
        return
    published = build_marts(data, data / "landing", end + 2 * MINUTE)
    assert rows(published, standing) == [(2, 2, None)]
    crossed = rows(published, "select used, threshold from threshold_crossings")
    assert crossed == [(7, "50%")], "of the period before"


def test_period_follows_the_subscription_of_the_customer(data: Path) -> None:
    """The hour in which one period ends and the next begins is the first one's; the account beside it has months."""
    end = datetime(2026, 11, 17, 14, 20, 7, tzinfo=UTC)
    before, after = end - timedelta(days=31), end + timedelta(days=30)
    (data / "accounts.csv").write_text(
        "account_id,period_kind,stripe_customer_id\nacme,stripe,cus_a\nmonthly,month,cus_a\nnone,stripe,cus_n\n"
    )
    times = [end - timedelta(days=1), end - MINUTE, end + MINUTE, end + timedelta(hours=1), end + timedelta(hours=2)]
    accounts = ("acme", "monthly", "none")
    land(
        data / "landing",
        "calls.ndjson",
        *(make_quota(account, 4, "2026-10-01T00:00:00Z") for account in accounts),
        *(make_event(account, at.isoformat()) for account in accounts for at in times),
    )
    follow(data / "lake", (before, end), (end, after))
    standing = """select account_id, period_source, period_start, period_end, used_mtd, highest_threshold
        from utilization_mtd order by account_id"""
    crossed = "select period_start, threshold from threshold_crossings where account_id = 'acme' order by 1, threshold"
    months = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))

    published = build_marts(data, data / "landing", end + timedelta(days=3))
    assert rows(published, standing) == [
        ("acme", "stripe subscription", end, after, 2, "50%"),
        ("monthly", "calendar month", *months, 5, "120%"),
        ("none", "calendar month (no subscription)", *months, 5, "120%"),
    ]
    assert rows(published, crossed) == [(before, "50%"), (end, "50%")]
    differing = rows(published, "select account_id, subscription_id from subscription_differences order by account_id")
    assert differing == [("monthly", "sub_a"), ("none", None)]
    assert rows(published, "select sum(units)::integer from hourly_usage where account_id = 'acme'") == [(5,)]


def test_call_ahead_of_a_subscriptions_end_is_the_next_ones(data: Path) -> None:
    end = datetime(2026, 11, 17, 14, tzinfo=UTC)
    land_calls(data, end, "stripe,,")
    accounts = data / "accounts.csv"
    accounts.write_text(
        accounts.read_text().replace("_on\n", "_on,stripe_customer_id\n").replace("stripe,,", "stripe,,,cus_a")
    )
    follow(data / "lake", (end - timedelta(days=31), end))
    standing = "select used_mtd, period_end, highest_threshold from utilization_mtd"

    published = build_marts(data, data / "landing", end - MINUTE)
    assert rows(published, standing) == [(7, end, "50%")]
    follow(data / "lake", (end - timedelta(days=31), end), (end, end + timedelta(days=30)))
    published = build_marts(data, data / "landing", end + 3 * MINUTE)
    assert rows(published, standing) == [(2, end + timedelta(days=30), None)]


def test_quota_and_calls_ahead_of_a_reset_are_the_next_parts(data: Path) -> None:
    project = project_with(data)
    meters = project / "seeds" / "meters.csv"
    meters.write_text(meters.read_text().replace(",,carry", ",,reset", 1))
    config, reset = settings.load(), datetime(2026, 11, 20, 13, tzinfo=UTC)

    def build(now: datetime) -> Path:
        ingest(data, data / "landing", now)
        assert_built(Builder(data, project).results(now))
        duckdb.publish(config.warehouse, config.published)
        return config.published

    land_calls(data, reset, "month,,")
    land(
        data / "landing",
        "more.ndjson",
        make_quota("acme", 2, (reset + MINUTE).isoformat()),
        *(make_event("acme", f"2026-10-31T12:00:{number:02}Z") for number in range(10)),
    )
    standing = "select period_end, quota, used_mtd, used_today, highest_threshold from utilization_mtd"
    periods = "select period_start, source from account_periods order by period_start desc limit 2"
    outcomes = "select period_start, used, used_this_period from cap_hit_outcomes"
    crossed = "select count(*)::integer from threshold_crossings where period_start < '2026-11-01'"
    october, november = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)

    published = build(reset - MINUTE)
    # to the business day belongs what follows the reset within it
    assert rows(published, standing) == [(reset, 10, 7, 9, "50%")]
    assert rows(published, periods) == [(november, "calendar month"), (october, "calendar month")]
    assert rows(published, outcomes) == [(october, 10, 7)]
    assert rows(published, crossed) == [(4,)]

    published = build(reset + 2 * MINUTE)
    assert rows(published, standing) == [(datetime(2026, 12, 1, tzinfo=UTC), 2, 2, 2 + 7, "100%")]
    assert rows(published, periods) == [(reset, "quota change"), (november, "calendar month")]


def test_gauge_read_ahead_of_a_months_end_is_the_next_ones(data: Path) -> None:
    end = datetime(2026, 12, 1, tzinfo=UTC)

    def reading(at: datetime, used: int) -> dict[str, Any]:
        facts = {"account_id": "acme", "metric": "seats", "limit": 50, "used": used}
        return {"event": "usage.limit_reached", "uuid": f"{at}", "timestamp": at.isoformat(), "properties": facts}

    land(data / "landing", "a.ndjson", reading(end - timedelta(days=9), 20), reading(end + MINUTE, 50))
    used = "select used_mtd, highest_threshold from utilization_mtd where meter = 'seats'"
    crossings = "select count(*)::integer from threshold_crossings"
    verdicts = "select reached_at > '2026-12-01', verdict, reason from usage_limit_hits order by 1"

    published = build_marts(data, data / "landing", end - MINUTE)
    assert rows(published, used) == [(20, None)]
    assert rows(published, crossings) == [(0,)]
    assert [verdict for _, verdict, _ in rows(published, verdicts)] == ["not compared"] * 2

    published = build_marts(data, data / "landing", end + 2 * MINUTE)
    assert rows(published, used) == [(50, "100%")]


def test_limit_reported_ahead_of_a_months_end_is_compared_later(data: Path) -> None:
    end = datetime(2026, 12, 1, tzinfo=UTC)
    land_calls(data, end, "month,,")
    facts = {"account_id": "acme", "metric": "api_calls", "limit": 10, "used": 10}
    hit = {"event": "usage.limit_reached", "uuid": "hit", "timestamp": (end + MINUTE).isoformat(), "properties": facts}
    land(data / "landing", "hit.ndjson", hit)
    verdict = "select verdict, reason from usage_limit_hits"

    published = build_marts(data, data / "landing", end - MINUTE)
    assert rows(published, verdict) == [("not compared", "period not begun")]
    published = build_marts(data, data / "landing", end + 2 * MINUTE)
    assert rows(published, verdict) == [("disagree", "no such crossing")]


def test_days_of_a_sparkline_are_complete_when_a_call_is_ahead(data: Path) -> None:
    end = datetime(2026, 11, 21, tzinfo=UTC)
    days = [end - timedelta(days=day, hours=-1) for day in range(1, 21) if day != 15]
    land(
        data / "landing",
        "a.ndjson",
        make_quota("steady", 10, "2026-10-01T00:00:00Z"),
        *(
            make_event("steady", at.isoformat(), properties={"account_id": "steady", "endpoint": f"/{at:%d}"})
            for at in days
        ),
        make_event("ahead", (end + MINUTE).isoformat()),
    )
    published = build_marts(data, data / "landing", end - MINUTE)

    charts = queries.daily_usage(published, ["steady", "ahead"])
    # of the 14 complete days the first had no call; the day that runs is left out, for its bar would look like a drop
    assert charts == {("steady", "api-calls"): [0] + [1] * 13}
    assert queries.daily_usage(published, ["ahead"]) == queries.daily_usage(published, []) == {}
    endpoints = published_copy.query(published, queries.TOP_VALUES)
    assert {(row["meter"], row["property"], row["all_used"]) for row in endpoints} == {("api-calls", "endpoint", 7)}
