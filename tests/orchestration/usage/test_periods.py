from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.usage.periods import digest_due_at, latest_digest_date, month_start, utc_hour

BERLIN = ZoneInfo("Europe/Berlin")
AUCKLAND = ZoneInfo("Pacific/Auckland")
KOLKATA = ZoneInfo("Asia/Kolkata")
ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_utc_hour_is_the_hour_of_utc_when_the_zone_has_half_hours() -> None:
    assert utc_hour(datetime(2026, 11, 20, 8, 15, 30, 7, KOLKATA)) == utc("2026-11-20T02:00")
    assert utc_hour(utc("2026-11-20T02:00")) == utc("2026-11-20T02:00")


@pytest.mark.parametrize(
    ("at", "start"),
    [
        (datetime(2026, 11, 1, 0, 30, tzinfo=BERLIN), utc("2026-10-01T00:00")),
        (datetime(2026, 11, 1, 1, 0, tzinfo=BERLIN), utc("2026-11-01T00:00")),
        (datetime(2026, 3, 1, 12, 59, tzinfo=AUCKLAND), utc("2026-02-01T00:00")),
        (utc("2027-01-01T00:00"), utc("2027-01-01T00:00")),
        (utc("2028-02-29T23:59:59.999999"), utc("2028-02-01T00:00")),
    ],
    ids=str,
)
def test_month_start_is_the_month_of_utc_when_the_zone_is_in_another(at: datetime, start: datetime) -> None:
    assert month_start(at) == start
    assert month_start(at).utcoffset() == timedelta(0)


@pytest.mark.parametrize("function", [utc_hour, month_start, lambda now: latest_digest_date(now, BERLIN)])
def test_periods_refuse_a_datetime_without_zone(function: Callable[[datetime], object]) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        function(datetime(2026, 11, 20, 8, 0))  # noqa: DTZ001 - what is refused


@pytest.mark.parametrize(
    ("on", "due", "hours_since_the_day_before"),
    [
        (date(2026, 3, 28), utc("2026-03-28T07:00"), 24),
        (date(2026, 3, 29), utc("2026-03-29T06:00"), 23),
        (date(2026, 10, 25), utc("2026-10-25T07:00"), 25),
    ],
    ids=str,
)
def test_digest_is_due_at_eight_on_the_clock_when_summer_time_begins_and_ends(
    on: date, due: datetime, hours_since_the_day_before: int
) -> None:
    assert digest_due_at(on, BERLIN) == due
    assert due - digest_due_at(on - timedelta(days=1), BERLIN) == timedelta(hours=hours_since_the_day_before)


@given(zone=ZONES, on=st.dates(date(2020, 1, 1), date(2040, 12, 31)))
@settings(deadline=None, max_examples=300)
def test_digest_is_due_at_eight_on_the_clock_in_every_zone(zone: ZoneInfo, on: date) -> None:
    due = digest_due_at(on, zone)

    assert due.utcoffset() == timedelta(0)
    assert due.astimezone(zone).replace(tzinfo=None) == datetime.combine(on, time(8))


@pytest.mark.parametrize(
    ("now", "zone", "latest"),
    [
        (utc("2026-11-20T06:59:59.999999"), BERLIN, date(2026, 11, 19)),
        (utc("2026-11-20T07:00"), BERLIN, date(2026, 11, 20)),
        (utc("2026-11-20T22:59"), BERLIN, date(2026, 11, 20)),
        (utc("2026-11-20T23:00"), BERLIN, date(2026, 11, 20)),  # midnight there: the new day's is not due yet
        (utc("2026-03-29T05:59"), BERLIN, date(2026, 3, 28)),
        (utc("2026-03-29T06:00"), BERLIN, date(2026, 3, 29)),
        (utc("2026-10-25T06:59"), BERLIN, date(2026, 10, 24)),
        (utc("2026-10-25T07:00"), BERLIN, date(2026, 10, 25)),
        (utc("2026-11-01T06:59"), BERLIN, date(2026, 10, 31)),
        (utc("2026-10-31T18:59"), AUCKLAND, date(2026, 10, 31)),
        (utc("2026-10-31T19:00"), AUCKLAND, date(2026, 11, 1)),  # the 1st there, still October in UTC
        (utc("2027-01-01T07:59"), ZoneInfo("UTC"), date(2026, 12, 31)),
    ],
    ids=str,
)
def test_latest_digest_date_changes_at_eight_on_the_clock(now: datetime, zone: ZoneInfo, latest: date) -> None:
    assert latest_digest_date(now, zone) == latest


@given(
    zone=ZONES, now=st.integers(1_577_836_800, 2_208_988_800).map(lambda second: datetime.fromtimestamp(second, UTC))
)
@settings(deadline=None, max_examples=300)
def test_latest_digest_date_is_the_last_that_is_due_in_every_zone(zone: ZoneInfo, now: datetime) -> None:
    latest = latest_digest_date(now, zone)

    assert digest_due_at(latest, zone) <= now < digest_due_at(latest + timedelta(days=1), zone)
