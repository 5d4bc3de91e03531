"""forecast_backtest and expected_usage are two readings of docs/definitions.md#projection: they must say the same of
the same day.
"""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dbt_project import lakes
from tests.dbt_project.builder import COUNTED, Builder
from tests.dbt_project.lakes import Call

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
FIRST_CALLS = {
    "old": date(2026, 7, 1),
    "bursting": date(2026, 7, 1),
    "young": date(2026, 10, 1),
    "new": date(2026, 10, 13),
    "weekly": date(2026, 8, 3),
}
LIVE = """
    with later as (
        select cast(unnest(generate_series(date '{today}', date '2026-10-31', interval 1 day)) as date) as usage_date
    ),
    expected as (
        select account_id, forecast_method, floor(0.5 + sum(expected_units)) as calls
        from expected_usage inner join later on expected_usage.iso_weekday = isodow(later.usage_date)
        group by all
    ),
    used as (
        select account_id, sum(units) as calls from daily_usage
        where is_complete and usage_date >= date '2026-10-01' group by account_id
    )
    select account_id, forecast_method, cast(used.calls + expected.calls as bigint)
    from expected inner join used using (account_id)
"""
REPEATED = """
    select account_id, forecast_method, forecast_units from forecast_backtest
    where period_start = timestamp '2026-10-01' and forecast_day = {day}
"""


EXPECTED = "+expected_usage"


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


def test_backtest_repeats_what_was_expected_on_the_day(tmp_path: Path, builder: Builder) -> None:
    lakes.create(tmp_path / "lake")
    lakes.add(tmp_path / "lake", make_history(random.Random(4)))
    live: dict[int, list[Any]] = {}
    for day in (8, 15, 22):
        today = datetime(2026, 10, day, tzinfo=UTC)
        build(builder, today, EXPECTED)
        live[day] = builder.query(LIVE.format(today=today.date()))
    build(builder, NOW, EXPECTED)
    methods = set()
    for day, expected in live.items():
        repeated = {(account, method): calls for account, method, calls in builder.query(REPEATED.format(day=day))}
        for account, method, calls in expected:
            methods.add(method)
            if method == "too early":
                assert (account, "level") not in repeated
            else:
                # expected_usage keeps six places of a weekday, by which a half may be rounded the other way
                assert repeated[account, method] == pytest.approx(calls, abs=1), (account, day)
    assert methods == {"too early", "level", "level and weekday shape", "linear of complete days"}


def make_history(chance: random.Random) -> Iterator[Call]:
    for account, day in FIRST_CALLS.items():
        while day < NOW.date():
            weight = chance.randint(1, 900) if account != "weekly" or day.weekday() == 0 else 0
            if account == "bursting":  # of which a week says less than a month
                weight = 900 if day.toordinal() % 5 == 0 else 10
            if weight or day == FIRST_CALLS[account]:
                noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
                yield Call(account, noon, f"{account}{day}", weight or 1)
            day += timedelta(days=1)


def build(builder: Builder, now: datetime, *nodes: str) -> None:
    statuses = builder.build(now, *COUNTED, *nodes)
    assert "expected_usage" in statuses
    assert all(status in ("success", "pass") for status in statuses.values()), statuses
