import hashlib
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.usage.metering import (
    MAX_UNITS,
    METER,
    CustomerHour,
    MeterReport,
    Recorded,
    meter_event,
    plan,
    reporting_window,
    standing,
)

HOUR = datetime(2026, 11, 19, 12, tzinfo=UTC)
NEXT_HOUR = HOUR + timedelta(hours=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def facts(reports: list[MeterReport]) -> list[tuple[str, datetime, int, int]]:
    return [(report.stripe_customer_id, report.hour_start, report.revision, report.units) for report in reports]


@pytest.mark.parametrize(
    ("now", "start", "end"),
    [
        ("2026-11-20T08:00", "2026-11-01T00:00", "2026-11-20T08:00"),
        ("2026-11-20T08:59:59.999999", "2026-11-01T00:00", "2026-11-20T08:00"),
        ("2026-11-01T00:00", "2026-10-01T00:00", "2026-11-01T00:00"),
        ("2026-11-03T23:59:59.999999", "2026-10-01T00:00", "2026-11-03T23:00"),
        ("2026-11-04T00:00", "2026-11-01T00:00", "2026-11-04T00:00"),
        ("2027-01-02T10:30", "2026-12-01T00:00", "2027-01-02T10:00"),
        ("2028-03-01T05:00", "2028-02-01T00:00", "2028-03-01T05:00"),
    ],
)
def test_window_is_the_closed_hours_of_this_period_and_of_the_one_before_in_grace(
    now: str, start: str, end: str
) -> None:
    assert reporting_window(utc(now)) == (utc(start), utc(end))


def test_plan_reports_hours_in_order_when_nothing_is_recorded() -> None:
    reports = plan("local", [("b", NEXT_HOUR, 2), ("b", HOUR, 1), ("a", NEXT_HOUR, 3)], {})

    assert facts(reports) == [("b", HOUR, 1, 1), ("a", NEXT_HOUR, 1, 3), ("b", NEXT_HOUR, 1, 2)]


def test_plan_adds_up_when_a_customer_has_two_accounts() -> None:
    assert facts(plan("local", [("a", HOUR, 2), ("a", HOUR, 3)], {})) == [("a", HOUR, 1, 5)]


@pytest.mark.parametrize("units", [0, 4, 6])
def test_plan_makes_a_revision_only_when_the_total_changed(units: int) -> None:
    recorded = {("a", HOUR): Recorded(3, 5), ("b", HOUR): Recorded(1, 7)}

    assert facts(plan("local", [("a", HOUR, units), ("b", HOUR, 7)], recorded)) == [("a", HOUR, 4, units)]


def test_plan_reports_zero_once_when_an_hour_is_no_longer_desired() -> None:
    assert facts(plan("local", [], {("a", HOUR): Recorded(1, 5)})) == [("a", HOUR, 2, 0)]
    assert plan("local", [], {("a", HOUR): Recorded(2, 0)}) == []


def test_plan_reports_again_when_nothing_recorded_counts_as_reported() -> None:
    previewed = {("a", HOUR): Recorded(2, None), ("b", HOUR): Recorded(1, None)}

    assert facts(plan("local", [("a", HOUR, 5)], previewed)) == [("a", HOUR, 3, 5)]


@pytest.mark.parametrize("units", [-1, MAX_UNITS + 1])
def test_plan_refuses_all_when_one_total_is_not_plausible(units: int) -> None:
    with pytest.raises(ValueError, match=rf"cus_1 .*{units} units .*2026-11-19T12:00"):
        plan("local", [("a", HOUR, 1), ("cus_1", HOUR, units)], {})


def test_plan_takes_the_largest_total_that_stripe_takes() -> None:
    assert [report.units for report in plan("local", [("a", HOUR, MAX_UNITS)], {})] == [MAX_UNITS]


def test_identifier_names_environment_meter_customer_hour_and_revision() -> None:
    def identifier(env: str = "local", customer: str = "a", hour: datetime = HOUR, before: int = 0) -> str:
        recorded = {(customer, hour): Recorded(before, None)} if before else {}
        [report] = plan(env, [(customer, hour, 1)], recorded)
        return report.identifier

    text = f"local|{METER}|a|2026-11-19T12:00:00+00:00|1"
    assert identifier() == hashlib.sha256(text.encode()).hexdigest()[:40]
    others = {identifier("production"), identifier(customer="b"), identifier(hour=NEXT_HOUR), identifier(before=1)}
    assert len(others | {identifier()}) == 5


TOTALS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([HOUR, NEXT_HOUR]), st.integers(0, 3)), max_size=6)


@given(days=st.lists(TOTALS, min_size=1, max_size=6))
@settings(deadline=None)
def test_plans_converge_when_totals_come_and_go(days: list[list[tuple[str, datetime, int]]]) -> None:
    ledger: list[MeterReport] = []

    def recorded() -> dict[CustomerHour, Recorded]:
        return {(row.stripe_customer_id, row.hour_start): Recorded(row.revision, row.units) for row in ledger}

    for desired in days:
        reports = plan("local", desired, recorded())
        ledger += reports

        assert all(count == 1 for count in Counter(report.identifier for report in ledger).values())
        standing = {key: before.units for key, before in recorded().items() if before.units}
        totals: Counter[CustomerHour] = Counter()
        for customer, hour, units in desired:
            totals[customer, hour] += units
        assert standing == +totals
        assert plan("local", desired, recorded()) == []
    for key in recorded():
        revisions = [row.revision for row in ledger if (row.stripe_customer_id, row.hour_start) == key]
        assert revisions == list(range(1, len(revisions) + 1))


def test_previewed_reports_stand_for_a_preview_and_not_for_stripe() -> None:
    rows = [
        ("cus_1", HOUR, 1, 10, "sent"),
        ("cus_1", HOUR, 2, 0, "previewed"),
        ("cus_2", HOUR, 1, 7, "previewed"),
    ]

    assert standing(rows, is_preview=True) == {("cus_1", HOUR): Recorded(2, 0), ("cus_2", HOUR): Recorded(1, 7)}
    at_stripe = standing(rows, is_preview=False)
    assert at_stripe == {("cus_1", HOUR): Recorded(2, 10), ("cus_2", HOUR): Recorded(1, None)}
    assert [(report.units, report.revision) for report in plan("local", [], at_stripe)] == [(0, 3)]


def test_meter_event_has_the_parameters_that_stripe_takes() -> None:
    [report] = plan("local", [("cus_1", HOUR, 12)], {})

    assert meter_event(report) == {
        "event_name": "api-calls",
        "identifier": report.identifier,
        "timestamp": int(HOUR.timestamp()),
        "payload": {"stripe_customer_id": "cus_1", "value": "12"},
    }
