"""Clocks: usage periods, UTC hours, business days. Pure arithmetic on aware datetimes; `now` is a parameter.

Billing buckets and usage periods are UTC (Stripe's hour and day boundaries are); people's days, and 8am, are in
the business zone. A range of dates has days of the zone that `today` is of. Intervals are half open `[start, end)`. A
datetime without a zone is refused with ValueError: Python would read it as local time of the machine.
"""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DIGEST_HOUR = 8
"""Local hour at which the digest of a business day is due. Never in a DST gap of any zone."""


def utc_hour(at: datetime) -> datetime:
    """The start of the UTC hour that contains `at`."""
    return _aware(at).astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def month_start(at: datetime) -> datetime:
    """The start of the UTC calendar month that contains `at`: the usage period of accounts without an anchor."""
    return _aware(at).astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def last_iso_week(today: date) -> tuple[date, date]:
    """The whole ISO week before the one of `today`: Monday to before the next Monday."""
    monday = today - timedelta(days=today.weekday())
    return monday - timedelta(days=7), monday


def calendar_month(today: date) -> tuple[date, date]:
    """The month of `today`: its first day to before the first of the next."""
    first = today.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


def last_calendar_month(today: date) -> tuple[date, date]:
    """The whole month before the one of `today`."""
    return calendar_month(today.replace(day=1) - timedelta(days=1))


def days_between(first: date, last: date, today: date, zone: ZoneInfo) -> tuple[date, date]:
    """From `first` to `last`, both included; it ends with `today` where that is earlier. All are days of `zone`.

    :raises ValueError: there is no such day: `first` is after today, or after `last`.
    """
    if first > today:
        raise ValueError(f"{first} is still to come: it is {today} in {zone.key}")
    if first > last:
        raise ValueError(f"{first} is after {last}")
    return first, min(last, today) + timedelta(days=1)


def first_utc_day(on: date, zone: ZoneInfo) -> date:
    """The UTC day on which the day `on` of the zone begins."""
    return datetime.combine(on, time(), tzinfo=zone).astimezone(UTC).date()


def digest_due_at(on: date, zone: ZoneInfo) -> datetime:
    """When the digest of business day `on` is due, in UTC."""
    return datetime.combine(on, time(DIGEST_HOUR), tzinfo=zone).astimezone(UTC)


def latest_digest_date(now: datetime, zone: ZoneInfo) -> date:
    """The most recent business day whose digest is due at `now`: yesterday's before 8am, today's after."""
    today = _aware(now).astimezone(zone).date()
    return today if now >= digest_due_at(today, zone) else today - timedelta(days=1)


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone")
    return at
