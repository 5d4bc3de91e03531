"""What `headroom usage` prints: the days of one account, and how much of its quotas is used. It decides nothing."""

from collections.abc import Mapping, Sequence
from datetime import MAXYEAR, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from rich import box
from rich.table import Table
from rich.text import Text

from orchestration.cli.console import console
from orchestration.usage.formatting import amount, counted, format_pct, sparkline


def print_usage(
    meters: Sequence[Mapping[str, Any]],
    name: str,
    days: tuple[date, date],
    rows: Sequence[Mapping[str, Any]],
    zone: ZoneInfo,
) -> None:
    """The calls of one account, in all and day by day, and its quotas where the last count was made within the days.

    `meters` are its rows of utilization_mtd, calls first, `days` the half open range, `name` what that is called (""
    for a range of dates), `rows` those of the days that had begun at the last count. All days are those of `zone`.
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
        calls = counted(sum(row["calls"] for row in rows), "call")
        # a bar of the running day would look like a drop
        bars = sparkline([row["calls"] for row in rows if row["is_complete"]])
        console.print(f"{calls}{' so far' if is_running else ''}  {bars}".rstrip())
        console.print(_days(rows))
    if is_running:
        for meter in meters:
            console.print(_of_quota(meter))
    through = "No usage yet"
    if account["data_through"]:
        through = f"Data through {_moment(account['data_through'].astimezone(zone))}"
    console.print(Text(f"{through}, counted {_moment(as_of)} {as_of:%Z}.", "dim"))


def _days(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Day")
    table.add_column("Calls", justify="right")
    if is_weighted := any(row["units"] != row["calls"] for row in rows):
        table.add_column("Units", justify="right")
    table.add_column()
    for row in rows:
        note = "" if row["is_complete"] else "so far"
        units = [f"{row['units']:,}"] if is_weighted else []
        table.add_row(f"{row['usage_date']:%a %d %b %Y}", f"{row['calls']:,}", *units, Text(note, "dim"))
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
    quota, pct, unit = account["quota"], format_pct(account["pct_of_cap"], account["ci95_pct"]), account["unit"]
    used = account["used_mtd"]
    has_used = "no reading yet" if used is None else amount(used, unit)
    words = {
        "limited": f"{'?' if used is None else f'{used:,}'} of {amount(quota or 0, unit)}, {pct}",
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
