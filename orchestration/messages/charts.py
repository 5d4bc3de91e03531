"""The figures of an account's chart: its usage of the period day by day, the quota, and where it is going.

Only complete days are in it: a day that still runs looks like a drop. A channel draws it.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from orchestration.messages.account_wording import Row, is_forecast, name_of
from orchestration.usage.formatting import figure

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
        "unit": row["unit"],
        "from": first.isoformat(),
        "days": max(length, complete),
        "used": used,
        "quota": row["quota"],
        "is_forecast": is_forecast(row),
        "projected": row["projected_eom"],
        "low": row["projected_low"],
        "high": row["projected_high"],
    }


def alternative(chart: Mapping[str, Any], used_now: int | None = None) -> str:
    """What the chart shows, for those who do not see it: up to the last complete day, or up to now."""
    used, quota, projected, low, high = (
        None if count is None else figure(count, chart["unit"])
        for count in (chart["used"][-1], *(chart[name] for name in ("quota", "projected", "low", "high")))
    )
    said = f"{used} of {quota} used after {len(chart['used'])} of {chart['days']} days"
    if used_now is not None:
        said = f"{figure(used_now, chart['unit'])} of {quota} used so far"
    if not chart["is_forecast"]:
        return f"{said}. There is no forecast."
    if projected is None:
        return f"{said}. It is too early for a forecast."
    is_band = low is not None and high is not None and chart["low"] < chart["high"]
    return f"{said}. Projected at the end of the period: {projected}{f', between {low} and {high}' if is_band else ''}."
