"""What `headroom stripe explain --events` prints: the events of an hour or a day, one after the other."""

import sys
from collections.abc import Iterable

from rich.text import Text

from orchestration.billing.event_trail import COLUMNS, EventTrail, row
from orchestration.cli.console import console, plain_output
from orchestration.usage.formatting import counted, printable
from orchestration.usage.spreadsheet import SpreadsheetWriter


def print_events(trails: Iterable[EventTrail]) -> None:
    """A line for each event as it is read, and whether together they are what was counted."""
    for trail in trails:
        start, end = trail.explanation.start, trail.explanation.end
        customer = trail.explanation.stripe_customer_id
        _say(f"{customer}, events of {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC", "bold")
        noun = "call" if trail.meter.is_main else "event"
        head = trail.meter.unit if trail.meter.decimals else "units"
        _say(f"time (UTC)  {head}  account  endpoint  event id  landed file:line", "dim")
        for event in trail:
            places = f"{event.landed_file}:{event.line_number}"
            names = (event.account_id, event.endpoint or "(none named)", event.event_id, places)
            sampled = f" (sampled: counts as {counted(event.sample_weight, noun)})" if event.sample_weight > 1 else ""
            # past the console, which takes five times as long for a line
            units = trail.meter.exact(event.units)
            line = f"{event.event_at:%Y-%m-%d %H:%M:%S.%f}  {units}  {'  '.join(names)}{sampled}"
            sys.stdout.write(f"{printable(line)}\n")
        _say(f"{trail.sentence}.", "green" if trail.units == trail.counted_units else "yellow")


def write_events(trails: Iterable[EventTrail]) -> None:
    """CSV on stdout, one row for each event as it is read."""
    rows = SpreadsheetWriter(plain_output(), "\n")
    rows.write([COLUMNS])
    for trail in trails:
        rows.write(row(trail.explanation.stripe_customer_id, event, trail.meter) for event in trail)


def _say(sentence: str, style: str = "") -> None:
    """However long: a terminal wraps it, and nothing is cut off."""
    console.print(Text(sentence, style), soft_wrap=True)
