"""`headroom stripe …` for finance: why an hour was billed as it was, and statements of a billing period."""

import csv
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from orchestration import finance, settings, terminal_finance
from orchestration.storage import warehouse
from orchestration.terminal import console, fail

UNKNOWN = (warehouse.UnknownAccountError, warehouse.NothingPublishedError, warehouse.NotKeptError)
Name = Annotated[str, typer.Argument(help="account id, account name, or Stripe customer (cus_…)")]
Month = typer.Option("--period", formats=["%Y-%m"], metavar="MONTH", help="in which it began, such as 2026-11")


def explain(
    name: Name,
    when: Annotated[str, typer.Argument(metavar="HOUR", help="UTC: 2026-11-20T14; or a whole day: 2026-11-20")],
) -> None:
    """Why a customer was billed what it was billed in an hour: calls, reports, Stripe's total, and a verdict."""
    try:
        start = datetime.strptime(when, "%Y-%m-%dT%H" if "T" in when else "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"{when!r} is no UTC hour such as 2026-11-20T14, and no date") from None
    end = start + (timedelta(hours=1) if "T" in when else timedelta(days=1))
    try:
        explained = finance.explain(settings.load(), name, start, end)
    except UNKNOWN as error:
        fail(str(error))
    for explanation in explained:
        terminal_finance.print_explanation(explanation)


def statement(
    name: Name,
    month: Annotated[datetime | None, Month] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, one row for each hour, and the total")] = False,
) -> None:
    """Every billed hour of a customer's billing period, the running one by default: units, reports, Stripe's total."""
    try:
        statements = finance.statements(settings.load(), name, month.replace(tzinfo=UTC) if month else None)
    except UNKNOWN as error:
        fail(str(error))
    for each in statements:
        if as_csv:
            csv.writer(sys.stdout, lineterminator="\n").writerows(finance.table(each))
        else:
            terminal_finance.print_statement(each)


def statements(month: Annotated[datetime, Month]) -> None:
    """A CSV for each customer's billing periods that began in a month, and an index with totals and status."""
    try:
        folder, count = finance.write_statements(settings.load(), month.replace(tzinfo=UTC))
    except UNKNOWN as error:
        fail(str(error))
    console.print(f"Wrote {count:,} statements and index.csv into {folder}", soft_wrap=True)
