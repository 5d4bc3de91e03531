"""First reports by the engine are those that `metering.plan` makes, to the last digit; the rest is left to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.billing.approval import LARGE_HOUR, Change
from orchestration.billing.first_reports import FirstReports
from orchestration.billing.metering import HORIZON, MAX_UNITS, MeterReport, Mode, Terms, plan
from tests.support.duckdb_file import memory

NOW = datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
EIGHT = datetime(2026, 11, 20, 8, tzinfo=UTC)
HOURS = [EIGHT - timedelta(hours=n) for n in (1, 2, 8, 9, 33, 700, 34 * 24 - 1, 34 * 24, 34 * 24 + 1, 900)]
UNITS = [-3, 0, 1, 7, LARGE_HOUR - 1, LARGE_HOUR, MAX_UNITS, MAX_UNITS + 1]
CUSTOMERS = ["cus_a", "cus_b", "cus ü'"]
usages = st.dictionaries(
    st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(HOURS)),
    st.lists(st.sampled_from(UNITS), min_size=1),
    min_size=1,
)
terms_of_plans = st.builds(
    Terms,
    env=st.just("local"),
    event_name=st.sampled_from(["api-calls", "é|"]),
    mode=st.sampled_from(Mode),
    now=st.just(NOW),
    is_preview=st.booleans(),
    is_signed=st.booleans(),
    live_since=st.none() | st.sampled_from(HOURS),
    final_before=st.dictionaries(st.sampled_from(CUSTOMERS), st.sampled_from(HOURS)),
    others_final_before=st.none() | st.sampled_from(HOURS),
)


@contextmanager
def engine(usage: dict[Any, list[int]]) -> Iterator[duckdb.DuckDBPyConnection]:
    with memory() as connection:
        connection.execute(
            "create table billable_usage_hourly (account_id varchar, stripe_customer_id varchar, hour_start timestamp,"
            " billable_units bigint, sampled_units bigint)"
        )
        rows = [
            (f"account-{n}", customer, hour.replace(tzinfo=None), units, 10**6)
            for (customer, hour), parts in usage.items()
            for n, units in enumerate(parts)
        ]
        connection.executemany("insert into billable_usage_hourly values (?, ?, ?, ?, ?)", rows)
        connection.execute("insert into billable_usage_hourly select 'x', null, hour_start, 5, 0 from (table"
                           " billable_usage_hourly)")  # fmt: skip
        yield connection


def reports_of(first: FirstReports, days: list[Any], recorded: set[datetime]) -> list[MeterReport]:
    first.number({customer: number for number, customer in enumerate(CUSTOMERS)})
    return [
        MeterReport(
            *(
                CUSTOMERS[number],
                datetime.fromtimestamp(3600 * hour, UTC),
                1,
                units,
                value,
                identifier.hex(),
                first.state,
            )
        )
        for day in days
        for chunk in first.of_day(day, recorded)
        for hour, number, units, value, identifier in chunk
    ]


@settings(max_examples=150, deadline=None)
@given(usages, terms_of_plans)
def test_first_reports_are_what_the_plan_would_make(usage: dict[Any, list[int]], terms: Terms) -> None:
    days = sorted({hour.date() for _, hour in usage})
    whole = plan([(*key, sum(parts)) for key, parts in usage.items()], {}, terms)
    expected, found = Change(), Change()
    expected.add(whole, lambda *_: False, lambda _: 0)
    with engine(usage) as connection:
        first = FirstReports(connection, terms, 0, days, EIGHT)
        made = plan([row for day in days for row in first.others(day, set())], {}, terms)
        found.add(made, lambda *_: False, lambda _: 0)
        for customer, hours, units in first.by_customer(set()):
            found.add_first(customer, hours, units)
        for customer, day, units in first.by_day(set()):
            found.add_units(customer, day, units)
        reports = [*made.reports, *reports_of(first, days, set())]
    assert sorted(reports, key=lambda each: each.key) == sorted(whole.reports, key=lambda each: each.key)
    assert vars(found) == vars(expected)


@given(usages, st.sets(st.sampled_from(HOURS)))
@settings(max_examples=50, deadline=None)
def test_hours_with_reports_are_left_to_the_plan(usage: dict[Any, list[int]], recorded: set[datetime]) -> None:
    days = sorted({hour.date() for _, hour in usage})
    terms = Terms("local", "api-calls", Mode.TOTAL, NOW)
    with engine(usage) as connection:
        first = FirstReports(connection, terms, 1, days, EIGHT)
        others = [(customer, hour) for day in days for customer, hour, _ in first.others(day, recorded)]
        reports = [report.key for report in reports_of(first, days, recorded)]
        assert sum(hours for _, hours, _ in first.by_customer(recorded)) == len(reports)
    assert sorted([*others, *reports]) == sorted(usage)
    assert not {hour for _, hour in reports} & recorded
    assert all(hour >= NOW - HORIZON for _, hour in reports)
