"""What `headroom usage` prints: the days of one account, and how much of its quotas is used. It decides nothing."""

from collections.abc import Mapping, Sequence
from datetime import MAXYEAR, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from rich import box
from rich.table import Table
from rich.text import Text

from orchestration.cli.console import console
from orchestration.usage import units
from orchestration.usage.formatting import amount, counted, figure, format_pct, sparkline


def print_usage(
    meters: Sequence[Mapping[str, Any]],
    name: str,
    days: tuple[date, date],
    rows: Sequence[Mapping[str, Any]],
    zone: ZoneInfo,
) -> None:
    """What one account used of its first meter, in all and day by day, and its quotas where the last count was made
    within the days.

    `meters` are its rows of utilization_mtd, the meter of the days first, `days` the half open range, `name` what that
    is called ("" for a range of dates), `rows` those of the days that had begun at the last count. All days are those
    of `zone`.
    """
    account, (start, end) = meters[0], days
    as_of = account["as_of"].astimezone(zone)
    week = f" (ISO week {start.isocalendar().week})" if name == "last week" else ""
    is_running = start <= as_of.date() < end
    console.print(
        Text(f"{_called(account)}, {name + week + ', ' if name else ''}{_span(start, end)}, {zone.key} days", "bold")
    )
    if not rows:
        console.print("No run has counted these days yet: `headroom run` does.")
    else:
        console.print(_in_all(account, rows, is_running))
        console.print(_days(account, rows))
    if is_running:
        for meter in meters:
            console.print(_of_quota(meter))
    elif others := ", ".join(meter["meter"] for meter in meters[1:]):
        console.print(f"Also counted: {others} (`--meter`).")
    through = "No usage yet"
    if account["data_through"]:
        through = f"Data through {_moment(account['data_through'].astimezone(zone))}"
    console.print(Text(f"{through}, counted {_moment(as_of)} {as_of:%Z}.", "dim"))


def _in_all(account: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], is_running: bool) -> str:
    """The sum of the days, or the figure at their end where it does not add up."""
    unit, singular = account["unit"], account["unit_singular"]
    if not units.adds_up(account["aggregation"]):
        last = rows[-1]["units"]
        at_end = "now" if is_running else "at the end"
        return f"no reading yet {at_end}" if last is None else f"{amount(last, unit, singular)} {at_end}"
    used = [row["units"] if row["calls"] is None else row["calls"] for row in rows]
    in_all = counted(sum(used), "call") if account["is_calls"] else amount(sum(used), unit, singular)
    # a bar of the running day would look like a drop
    bars = sparkline([count for count, row in zip(used, rows, strict=True) if row["is_complete"]])
    return f"{in_all}{' so far' if is_running else ''}  {bars}".rstrip()


def _days(account: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Day")
    unit, is_calls = account["unit"], account["is_calls"]
    is_weighted = is_calls and any(row["units"] != row["calls"] for row in rows)
    name = units.name(unit)
    for heading in (["Calls"] if is_calls else [name[:1].upper() + name[1:]]) + (["Units"] if is_weighted else []):
        table.add_column(heading, justify="right")
    table.add_column()
    for row in rows:
        note = "" if row["is_complete"] else "so far" if units.adds_up(account["aggregation"]) else "now"
        counts = ([row["calls"]] if is_calls else [row["units"]]) + ([row["units"]] if is_weighted else [])
        shown = ["–" if count is None else figure(count, unit) for count in counts]
        table.add_row(f"{row['usage_date']:%a %d %b %Y}", *shown, Text(note, "dim"))
    return table


def _called(account: Mapping[str, Any]) -> str:
    name, account_id = account["account_name"], account["account_id"]
    return f"{name} ({account_id})" if name else str(account_id)


def _span(start: date, end: date) -> str:
    """The days of `[start, end)` in words."""
    return f"{start:%a %d %b %Y} to {end - timedelta(days=1):%a %d %b %Y}"


def _moment(at: datetime) -> str:
    return f"{at:%d %b %Y %H:%M}"


def _of_quota(account: Mapping[str, Any]) -> str:
    used, quota = account["used_mtd"], account["quota"]
    unit, singular = account["unit"], account["unit_singular"]
    has_used = "no reading yet" if used is None else amount(used, unit, singular)
    of = f"{'?' if used is None else figure(used, unit)} of {amount(quota or 0, unit, singular)}"
    words = {
        "limited": f"{of}, {format_pct(account['pct_of_cap'], account['ci95_pct'])}",
        "unlimited": f"none; {has_used}",
        "blocked": f"0, blocked; {has_used}",
        "unknown": f"not known; {has_used}",
    }[account["quota_state"]]
    return f"Quota: {words} ({_period(account['period_start'], account['period_end'])})."


def _period(start: datetime, end: datetime) -> str:
    """A usage period in UTC; `end` is exclusive, and may be within a day or never."""
    if end.year == MAXYEAR:  # for_ever() of the models
        return f"usage period from {start:%a %d %b %Y} UTC on, without an end"
    return f"usage period {start:%a %d %b %Y} to {end - timedelta(microseconds=1):%a %d %b %Y} UTC"
