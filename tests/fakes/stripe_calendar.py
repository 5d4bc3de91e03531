"""Billing periods: a subscription's anchor and a price's interval, to the second.

Months and years keep the anchor's day and time of day, and end on the last day of a shorter month: after the 31st of
January and the 28th of February comes the 31st of March.
"""

import calendar
from datetime import UTC, datetime

SECONDS = {"day": 86_400, "week": 7 * 86_400}
MONTHS = {"month": 1, "year": 12}

Interval = tuple[str, int]
"""A unit and how many of it."""


def boundary(anchor: int, interval: Interval, number: int) -> int:
    """The start of the period with that number; the one of 0 starts at the anchor."""
    unit, count = interval
    if unit in SECONDS:
        return anchor + number * count * SECONDS[unit]
    first = datetime.fromtimestamp(anchor, UTC)
    years, month = divmod(first.month - 1 + number * count * MONTHS[unit], 12)
    year = first.year + years
    day = min(first.day, calendar.monthrange(year, month + 1)[1])
    return int(first.replace(year=year, month=month + 1, day=day).timestamp())


def period(anchor: int, interval: Interval, at: int) -> tuple[int, int]:
    """The period that has the moment: half open."""
    unit, count = interval
    if unit in SECONDS:
        number = (at - anchor) // (count * SECONDS[unit])
    else:
        first, moment = (datetime.fromtimestamp(each, UTC) for each in (anchor, at))
        months = (moment.year - first.year) * 12 + moment.month - first.month
        number = months // (count * MONTHS[unit])
        if boundary(anchor, interval, number) > at:
            number -= 1
    return boundary(anchor, interval, number), boundary(anchor, interval, number + 1)
