"""`headroom stripe rehearse`: a month of billing at a sandbox, step by step, and whether its invoice is right."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from orchestration.billing import rehearsal
from orchestration.billing.meter import StoppedError
from orchestration.channels.stripe import connect_meter, connect_products, connect_sandbox
from orchestration.cli.console import console, fail
from orchestration.cli.stripe_meter import of_chosen_meter
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.warehouse.published_copy import NothingPublishedError

WIDTH = 80
"""Columns, on any terminal."""
_REFUSALS = (StoppedError, RefusedError, InDoubtError, ValueError, LookupError, NothingPublishedError)
_VENDOR = rehearsal.RehearsalVendor(sandbox=connect_sandbox, products=connect_products, meter=connect_meter)


def rehearse(
    plan: Annotated[str, typer.Option(help="plan to subscribe to (default: the one with the most tiers)")] = "",
    deletes_leftovers: Annotated[
        bool, typer.Option("--delete-leftovers", help="delete the test clocks that killed rehearsals left")
    ] = False,
) -> None:
    """Rehearse a month at a Stripe sandbox: report usage, wait for the invoice, compare. Needs a test key.

    Creates missing parts of the catalog there, as bootstrap does. A test clock moves the month forward. At the end
    the clock and its customer are deleted. The ledger does not change. Exits 1 if the invoice differs from the reports.
    """
    try:
        with _ended_by_signals():
            found = rehearsal.rehearse(
                of_chosen_meter(), _VENDOR, _clock, _print_step, plan_name=plan, deletes_leftovers=deletes_leftovers
            )
    except _REFUSALS as error:
        fail(str(error))
    _print_comparison(found)
    if found.differences:
        raise typer.Exit(1)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """An end that is asked for is one that cleans up, as Ctrl-C is."""

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_step(step: rehearsal.RehearsalStep) -> None:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=7)
    row.add_column(width=12)
    row.add_column(overflow="fold")
    mark = Text("DIFFERS", "bold red") if step.is_problem else Text("ok", "green")
    row.add_row(mark, Text(step.subject), Text(step.words))
    console.print(row, width=WIDTH)


def _print_comparison(found: rehearsal.Comparison) -> None:
    table = Table("", "Reported", "Invoice", box=box.SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("units", f"{found.units:,}", f"{found.invoiced_units:,}")
    table.add_row(f"amount, smallest unit of {found.currency}", f"{found.amount:,}", f"{found.invoiced_amount:,}")
    console.print(table, width=WIDTH)
    place = f"{found.invoice} ({', '.join(found.lines)})"
    if not found.differences:
        console.print(Text(f"The invoice matches the reports: {place}.", "bold green"), width=WIDTH)
        return
    console.print(Text(f"The invoice differs from the reports: {place}.", "bold red"), width=WIDTH)
    for difference in found.differences:
        console.print(Text(f"- {difference}", "red"), width=WIDTH)


def _clock() -> datetime:
    return datetime.now(UTC)
