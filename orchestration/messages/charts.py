"""The figures of an account's chart: its usage of the period day by day, the quota, and where it is going.

Only complete days are in it: a day that still runs looks like a drop. A channel draws it.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from orchestration.messages.account_wording import Row, name_of

LONGEST_DAYS = 400
"""Of a period that is drawn; a quota for a lifetime has no end to draw."""


def chart(row: Row, days: Sequence[date], units: Sequence[int], as_of: datetime) -> dict[str, Any] | None:
    """JSON-ready; None where the period has no complete day yet, or no end.

    `days` are those with usage, `units` their units. `used` is the sum up to the end of each complete day.
    """
    first, length = row["period_start"].date(), (row["period_end"] - row["period_start"]).days
    complete = (as_of.date() - first).days
    if complete <= 0 or length > LONGEST_DAYS or row["quota"] is None:
        return None
    by_day, total, used = dict(zip(days, units, strict=True)), 0, []
    for number in range(complete):
        total += by_day.get(first + timedelta(days=number), 0)
        used.append(total)
    return {
        "name": name_of(row),
        "from": first.isoformat(),
        "days": max(length, complete),
        "used": used,
        "quota": row["quota"],
        "projected": row["projected_eom"],
        "low": row["projected_low"],
        "high": row["projected_high"],
    }


def alternative(chart: Mapping[str, Any]) -> str:
    """What the chart shows, for those who do not see it."""
    used, days = chart["used"], len(chart["used"])
    said = f"{used[-1]:,} of {chart['quota']:,} used after {days} of {chart['days']} days"
    if chart["projected"] is None:
        return f"{said}. It is too early for a forecast."
    low, high = chart["low"], chart["high"]
    band = f", between {low:,} and {high:,}" if low is not None and high is not None and low < high else ""
    return f"{said}. Projected at the end of the period: {chart['projected']:,}{band}."
