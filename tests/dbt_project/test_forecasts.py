"""forecast_backtest and expected_usage are two readings of docs/meaning/definitions.md#projection: they must say the
same of the same day. cap_forecasts is compared with a walk from day to day.
"""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
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
COPIES = 40
END = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HOSTILE = [
    *(
        f"""
        insert into {table} select account_id || ' ' || n, * exclude (account_id, n)
        from {table}, range(1, {COPIES}) as copies (n)
        """
        for table in ("expected_usage", "period_usage", "period_quotas")
    ),
    "update period_usage set used_mtd = used_complete + (hash(account_id) % 4 * 300)::bigint",
    """
    update period_quotas set
        quota_state = 'limited', quota = 1 + usage.used_mtd * (50 + hash(usage.account_id, 1) % 160)::bigint // 100
    from period_usage as usage
    where usage.account_id = period_quotas.account_id and is_current and period_quotas.meter = 'api-calls'
    """,
]
"""Forty accounts for each, with all kinds of usage today, and quotas between half and twice of what is used."""
FORECASTS = """
    select account_id, quota, used_mtd, used_complete, projected_eom, days_to_cap, hits_cap_on, hits_cap_in_period,
        list(expected_units order by iso_weekday) as expected
    from cap_forecasts join period_usage using (account_id, used_mtd) join expected_usage using (account_id)
    group by all
"""


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


def test_cap_is_where_a_walk_from_day_to_day_finds_it(tmp_path: Path, builder: Builder) -> None:
    lakes.create(tmp_path / "lake")
    lakes.add(tmp_path / "lake", make_history(random.Random(4)))
    build(builder, NOW, "+cap_forecasts")
    for statement in HOSTILE:
        builder.query(statement)
    builder.build(NOW, "cap_forecasts")
    rows = builder.query(FORECASTS)
    assert len(rows) == COPIES * len(FIRST_CALLS)
    answers = set()
    for account, quota, used, used_complete, projected, days, on, is_hit, expected in rows:
        walk = [Decimal(expected[(NOW + DAY * ahead).weekday()]) for ahead in range(1_200)]
        later = sum(walk[1 : (END.date() - NOW.date()).days], Decimal(0))
        assert projected == used_complete + max(used - used_complete, rounded(walk[0])) + rounded(later), account
        assert is_hit == (projected >= quota), account
        answers.add((is_hit, used >= quota))
        if used >= quota:
            assert (days, on) == (0, NOW.date()), account
            continue
        at = moment_of(quota - used, [max(walk[0] - (used - used_complete), Decimal(0)), *walk[1:]])
        # half a unit may be on either side of the end
        assert (at <= END) == is_hit or abs(projected - quota) <= 1, account
        at = min(at, END) if is_hit else at
        assert days == pytest.approx((at - NOW) / DAY, abs=1e-5), account
        assert on == (at - timedelta(seconds=1)).date(), account
    assert answers == {(True, True), (True, False), (False, False)}


def moment_of(units: int, walk: list[Decimal]) -> datetime:
    """When so many more units have come, if each day's come evenly, and today's from now on."""
    start, left = NOW, Decimal(units)
    for expected in walk:
        end = datetime.combine(start.date() + DAY, time(), UTC)
        if expected and expected >= left - Decimal("0.001"):
            return start + (end - start) * min(float(left / expected), 1)
        start, left = end, left - expected
    raise AssertionError("not within the walk")


def rounded(units: Decimal) -> int:
    return int(units.quantize(Decimal(1), ROUND_HALF_UP))
