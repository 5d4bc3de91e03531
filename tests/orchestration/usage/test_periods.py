from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.usage.periods import (
    calendar_month,
    days_between,
    digest_due_at,
    first_utc_day,
    last_calendar_month,
    last_iso_week,
    latest_digest_date,
    month_start,
    utc_hour,
)

BERLIN = ZoneInfo("Europe/Berlin")
AUCKLAND = ZoneInfo("Pacific/Auckland")
KOLKATA = ZoneInfo("Asia/Kolkata")
UTC_ZONE = ZoneInfo("UTC")
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
def test_digest_is_due_at_eight_when_summer_time_begins_and_ends(
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


@pytest.mark.parametrize(
    ("today", "monday"),
    [
        (date(2026, 11, 15), date(2026, 11, 2)),  # a Sunday: its own week is not over
        (date(2026, 11, 16), date(2026, 11, 9)),  # a Monday: the week ended last night
        (date(2027, 1, 3), date(2026, 12, 21)),  # in ISO week 53 of 2026
        (date(2027, 1, 4), date(2026, 12, 28)),  # week 53 reaches into January
        (date(2025, 1, 5), date(2024, 12, 23)),  # in week 1 of 2025, which began in December
        (date(2024, 3, 4), date(2024, 2, 26)),  # over a leap day
    ],
    ids=str,
)
def test_last_iso_week_is_from_monday_to_before_monday(today: date, monday: date) -> None:
    assert last_iso_week(today) == (monday, monday + timedelta(days=7))


@given(today=st.dates(date(2000, 1, 1), date(2100, 12, 31)))
@settings(deadline=None)
def test_last_iso_week_is_the_one_before_the_calendars(today: date) -> None:
    start, end = last_iso_week(today)

    assert start.isocalendar()[:2] == (today - timedelta(days=7)).isocalendar()[:2]
    assert (start.isoweekday(), end - start) == (1, timedelta(days=7))
    assert end <= today < end + timedelta(days=7)


@pytest.mark.parametrize(
    ("today", "starts"),
    [
        (date(2026, 11, 1), (date(2026, 10, 1), date(2026, 11, 1), date(2026, 12, 1))),
        (date(2026, 12, 31), (date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1))),
        (date(2027, 1, 31), (date(2026, 12, 1), date(2027, 1, 1), date(2027, 2, 1))),
        (date(2028, 2, 29), (date(2028, 1, 1), date(2028, 2, 1), date(2028, 3, 1))),
        (date(2028, 3, 31), (date(2028, 2, 1), date(2028, 3, 1), date(2028, 4, 1))),
    ],
    ids=str,
)
def test_calendar_months_touch_when_the_year_or_a_leap_february_ends(
    today: date, starts: tuple[date, date, date]
) -> None:
    assert last_calendar_month(today) == starts[:2]
    assert calendar_month(today) == starts[1:]


def test_days_between_has_both_days_and_ends_with_today() -> None:
    first, today = date(2026, 12, 31), date(2027, 1, 2)

    assert days_between(first, first, today, UTC_ZONE) == (first, date(2027, 1, 1))
    assert days_between(first, today, today, UTC_ZONE) == (first, date(2027, 1, 3))
    assert days_between(first, date.max, today, UTC_ZONE) == (first, date(2027, 1, 3))


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        (date(2026, 11, 19), date(2026, 11, 18), "2026-11-19 is after 2026-11-18"),
        (date(2026, 11, 21), date(2026, 11, 22), "2026-11-21 is still to come: it is 2026-11-20 in Asia/Kolkata"),
    ],
    ids=["turned round", "future"],
)
def test_days_between_refuses_when_there_is_no_such_day(first: date, last: date, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        days_between(first, last, date(2026, 11, 20), KOLKATA)


@pytest.mark.parametrize(
    ("on", "zone", "day"),
    [
        (date(2026, 11, 20), UTC_ZONE, date(2026, 11, 20)),
        (date(2026, 11, 20), BERLIN, date(2026, 11, 19)),
        (date(2026, 11, 20), ZoneInfo("America/New_York"), date(2026, 11, 20)),
    ],
    ids=str,
)
def test_day_of_a_zone_begins_on_the_utc_day_before_east_of_greenwich(on: date, zone: ZoneInfo, day: date) -> None:
    assert first_utc_day(on, zone) == day
