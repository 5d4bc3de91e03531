"""`headroom meters`: what each row of meters.csv counts, by the lake's events, before a run counts by it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import duckdb
import typer
from rich import box
from rich.table import Table
from rich.text import Text

from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console, fail, print_error
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.usage.meters import Meter, describe, meter_name
from orchestration.warehouse import seeds
from orchestration.warehouse.meter_counts import DayCount, History, MeterCounts, meter_counts

MANY_VALUES = 1_000
"""Of a property on one day: daily_usage_by_property has a row for each account, day and value."""

meters_app = typer.Typer(help="Check meters.csv, and preview what a meter counts.", no_args_is_help=True)


@meters_app.command("check")
def check_meters() -> None:
    """Show what each row of meters.csv counts, by the last day with events. Exits 1 if the file has mistakes."""
    config = load_settings()
    try:
        meters = seeds.read_meters(config.dbt_project)
    except seeds.MetersError as error:
        for problem in error.problems:
            print_error(problem)
        raise typer.Exit(1) from None
    with _counts(config) as counts:
        day = counts.last_day() if counts else None
        for meter in meters:
            _say(describe(meter))
            if not meter.event_names:
                _say("  quota_set and usage.limit_reached say its figures.")
            elif counts and day:
                _print_check(meter, counts.count(meter, day))
    if not day:
        _say("The lake has no events yet: `headroom run` reads them.")


@meters_app.command("preview")
def preview_meter(
    name: Annotated[str, typer.Argument(help="a meter of meters.csv")],
    on: Annotated[
        datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], metavar="DATE", help="UTC day; else the last one")
    ] = None,
) -> None:
    """Count a day of a meter, and say how long its whole history takes. Changes nothing."""
    config = load_settings()
    try:
        meters = {meter.name: meter for meter in seeds.read_meters(config.dbt_project)}
    except seeds.MetersError as error:
        fail(str(error))
    meter = meters.get(meter_name(name))
    if meter is None:
        fail(f"meters.csv has no meter {name}, only {', '.join(meters)}")
    if not meter.event_names:
        fail(f"{meter.name} has no event_names: quota_set and usage.limit_reached events say its figures")
    with _counts(config) as counts:
        day = on.date() if on else counts.last_day() if counts else None
        if counts is None or day is None:
            fail("the lake has no events yet: `headroom run` reads them")
        _say(describe(meter))
        count = counts.count(meter, day)
        _print_accounts(meter, count)
        _print_refused(count)
        _print_history(count, counts.history(meter))


@contextmanager
def _counts(config: Settings) -> Iterator[MeterCounts | None]:
    """None without a lake."""
    if not (config.lake / "batches").exists():
        yield None
        return
    try:
        with meter_counts(config.lake, config.dbt_project, config.now()) as counts:
            yield counts
    except duckdb.IOException as error:
        fail(f"A run changes the lake at this moment. Repeat the command. ({error})")


def _print_check(meter: Meter, count: DayCount) -> None:
    _say(_total(meter, count))
    _print_refused(count)
    table = _table("Time (UTC)", "Account", "Event", *(["Value"] if meter.value else []))
    for example in count.examples:
        shown = [f"{example.event_at:%H:%M:%S}", example.account_id, example.event_name]
        table.add_row(*map(Text, [*shown, example.value or ""][: len(table.columns)]))
    if count.examples:
        console.print(table)
    for path, values in count.values.items():
        if values > MANY_VALUES:
            console.print(
                Text(f"  {path} has {counted(values, 'value')} that day. Split by a property with fewer.", "yellow"),
                soft_wrap=True,
            )


def _print_accounts(meter: Meter, count: DayCount) -> None:
    _say(_total(meter, count))
    table = _table("Account", "Events", meter.unit[:1].upper() + meter.unit[1:])
    for column in table.columns[1:]:
        column.justify = "right"
    for each in count.largest:
        table.add_row(*map(Text, (each.account_id, f"{each.events:,}", meter.exact(each.steps))))
    if count.largest:
        console.print(table)
    if more := count.accounts - len(count.largest):
        _say(f"  And {counted(more, 'more account', 'more accounts')}.")


def _total(meter: Meter, count: DayCount) -> str:
    if not count.events:
        return f"  {count.day} (UTC): no event counts."
    of = f"{counted(count.events, 'event')} of {counted(count.accounts, 'account')}"
    return f"  {count.day} (UTC): {of}, {meter.amount(count.steps)}."


def _print_refused(count: DayCount) -> None:
    for each in count.refused:
        example = f", such as {each.example[:40]!r}" if each.example else ""
        console.print(
            Text(f"  Refused: {counted(each.events, 'value')}, {each.reason}{example}.", "red"), soft_wrap=True
        )


def _print_history(count: DayCount, history: History) -> None:
    if not history.events:
        _say("  The lake has no event that it counts.")
        return
    seconds = math.ceil(count.seconds * history.rows / max(count.rows, 1))
    duration = counted(seconds, "second") if seconds < 120 else counted(math.ceil(seconds / 60), "minute")
    events, days = counted(history.events, "event"), counted(history.days, "day")
    _say(f"  The lake has {events} of {days} since {history.first_day}. Counting them takes about {duration}.")


def _table(*names: str) -> Table:
    """Of which each row fits in 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=_WIDTHS[len(names)])
    return table


_WIDTHS = {4: 17, 3: 24}
"""Of a column, by their number."""


def _say(sentence: str) -> None:
    console.print(Text(sentence), soft_wrap=True)
