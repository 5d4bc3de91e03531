"""`headroom stripe`: what would be sent, sending it, why it was billed so, and whether Stripe is set up for it."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from orchestration.billing import catalog, event_trail, meters, reconcile, report, statements
from orchestration.billing.certificate_problems import settle_certificates
from orchestration.billing.meter import StoppedError
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.problems import problems as find_problems
from orchestration.billing.standing import standing
from orchestration.channels.stripe import connect_meter, connect_products
from orchestration.cli import (
    stripe_credit,
    stripe_events,
    stripe_meter,
    stripe_problems,
    stripe_rehearsal,
    stripe_tables,
)
from orchestration.cli.console import console, fail, plain_output, print_findings
from orchestration.cli.stripe_meter import of_chosen_meter, of_each_meter
from orchestration.ledger.engines import BusyError
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.usage.formatting import counted
from orchestration.usage.spreadsheet import SpreadsheetWriter
from orchestration.warehouse import published_copy, queries

stripe_app = typer.Typer(help="Report usage to Stripe and check its setup.", no_args_is_help=True)
REFUSALS = (
    StoppedError,
    RefusedError,
    InDoubtError,
    BusyError,
    ValueError,
    LookupError,
    published_copy.NothingPublishedError,
)
UNKNOWN = (queries.UnknownAccountError, published_copy.NothingPublishedError, queries.NotKeptError)
Name = Annotated[str, typer.Argument(help="account id, account name or Stripe customer (cus_…)")]
Month = typer.Option(
    "--period", formats=["%Y-%m"], metavar="MONTH", help="month in which the period began, such as 2026-11"
)


@stripe_app.callback()
def choose(
    meter: Annotated[
        str, typer.Option(help="a billed meter of meters.csv (default: the main one; bootstrap and check: all)")
    ] = "",
) -> None:
    """Report usage to Stripe and check its setup."""
    stripe_meter.choose(meter)


@stripe_app.command()
def plan(
    is_all: Annotated[bool, typer.Option("--all", help="list all customers, not only the largest amounts")] = False,
) -> None:
    """Show what the next run would report: customers, units, money. Changes nothing."""
    try:
        config = of_chosen_meter()
        planned, changes = report.look_ahead(config, connect_meter)
        meter = meters.reported(config)
    except REFUSALS as error:
        fail(str(error))
    stripe_tables.print_plan(planned, changes, None if is_all else stripe_tables.LISTED, meter)


@stripe_app.command()
def apply(
    approve: Annotated[
        str, typer.Option(help="code that `headroom stripe plan` prints for a change above the limits")
    ] = "",
    is_retried: Annotated[
        bool, typer.Option("--retry-refused", help="also retry what Stripe refused within the last day")
    ] = False,
) -> None:
    """Record new usage and report it to Stripe, as the hourly job does."""
    config = of_chosen_meter()
    try:
        with stripe_tables.progress() as progress:
            outcome = report.report_usage(config, connect_meter, _clock, approve, is_retried, progress)
    except REFUSALS as error:
        fail(str(error))
    stripe_tables.print_outcome(outcome)
    if outcome.sent and outcome.sent.stopped:
        fail(f"{outcome.sent.stopped}. The ledger keeps the rest, and the next run sends it.")
    if outcome.alarm:
        fail(f"{outcome.alarm}.")


@stripe_app.command()
def problems(
    by_hour: Annotated[bool, typer.Option("--hours", help="list each hour with the identifier of its report")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV, one row for each problem")] = False,
) -> None:
    """List usage that is not billed as counted, most expensive first. Says the cause, the money and what to do.

    Units and money are counted minus billed: + is under-billed, - is over-billed.
    """
    config = of_chosen_meter()
    ledger = meter_ledger(config)
    try:
        meter = meters.reported(config)
        found = find_problems(config, ledger, config.now(), by_hour)
    except UNKNOWN as error:
        fail(str(error))
    if as_csv:
        stripe_problems.write_problems(found, meter)
    else:
        stripe_problems.print_problems(found, standing(ledger), meter)


@stripe_app.command()
def settle(
    name: Annotated[
        str,
        typer.Argument(help="identifier of a report, an invoice (in_…), or a customer (cus_…) for all of its problems"),
    ],
    note: Annotated[str, typer.Option(help="how you resolved it, such as: credit note CN-17")],
) -> None:
    """Mark held or refused usage, or an invoice that differs, as resolved."""
    config, reports = of_chosen_meter(), []
    certificates = settle_certificates(config, _clock, name, note)
    try:
        reports = reconcile.settle(config, _clock, name, note)
    except REFUSALS as error:
        if not certificates:
            fail(str(error))
    stripe_problems.print_settled(reports, certificates)


@stripe_app.command()
def adopt(
    customer: Annotated[str, typer.Argument(help="Stripe customer, cus_…")] = "",
    hour: Annotated[
        datetime | None,
        typer.Argument(formats=["%Y-%m-%dT%H", "%Y-%m-%dT%H:%M"], help="UTC hour, such as 2026-11-20T14"),
    ] = None,
    is_all: Annotated[
        bool,
        typer.Option("--all", help="all hours, after you lost or restored the ledger; wait three hours first"),
    ] = False,
) -> None:
    """Accept Stripe's total as reported. The next run sends the difference to what was counted."""
    if is_all == bool(customer and hour) or bool(customer) != bool(hour):
        raise typer.BadParameter("name a customer and an hour, or --all")
    config = of_chosen_meter()
    try:
        if customer and hour:
            adopted = [reconcile.adopt(config, connect_meter, _clock, customer, hour.replace(tzinfo=UTC))]
        else:
            adopted = reconcile.adopt_all(config, connect_meter, _clock)
    except REFUSALS as error:
        fail(str(error))
    stripe_tables.print_adopted(adopted)


@stripe_app.command()
def explain(
    name: Name,
    when: Annotated[str, typer.Argument(metavar="HOUR", help="UTC hour (2026-11-20T14) or day (2026-11-20)")],
    has_events: Annotated[
        bool, typer.Option("--events", help="list each event: time, units, account, endpoint, id, landed file and line")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="with --events: print CSV, one row for each event")] = False,
) -> None:
    """Explain what a customer was billed for an hour or a day: calls, reports, Stripe's total and a verdict.

    --events lists the counted events, each with its landed file and line.
    """
    try:
        start = datetime.strptime(when, "%Y-%m-%dT%H" if "T" in when else "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"{when!r} is not a UTC hour (2026-11-20T14) or a date (2026-11-20)") from None
    if as_csv and not has_events:
        raise typer.BadParameter("--csv needs --events. For hours, use `headroom stripe statement --csv`")
    end, config = start + (timedelta(hours=1) if "T" in when else timedelta(days=1)), of_chosen_meter()
    try:
        meter = meters.reported(config)
        if has_events and not meter.is_additive:
            fail(
                f"--events is for meters that add up (count, sum), and {meter.name} is a reading ({meter.aggregation})"
            )
        explained = statements.explain(config, name, start, end)
        trails = [event_trail.EventTrail(each, config, meter) for each in explained] if has_events else []
        if as_csv:
            stripe_events.write_events(trails)
        elif has_events:
            stripe_events.print_events(trails)
        else:
            for explanation in explained:
                stripe_tables.print_explanation(explanation)
                stripe_credit.print_credit(config, explanation.stripe_customer_id)
    except UNKNOWN as error:
        fail(str(error))


@stripe_app.command()
def statement(
    name: Name,
    month: Annotated[datetime | None, Month] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV: one row for each hour, and the total")] = False,
) -> None:
    """Show each billed hour of a customer's billing period, by default the current one, and its certificate."""
    config = of_chosen_meter()
    try:
        found = statements.statements(config, name, month.replace(tzinfo=UTC) if month else None)
    except UNKNOWN as error:
        fail(str(error))
    for each in found:
        if as_csv:
            SpreadsheetWriter(plain_output(), "\n").write(statements.table(each))
        else:
            stripe_tables.print_statement(each)
    for customer in dict.fromkeys(each.stripe_customer_id for each in found if not as_csv):
        stripe_credit.print_credit(config, customer)


@stripe_app.command("statements")
def write_statements(month: Annotated[datetime, Month]) -> None:
    """Write a CSV for each customer and billing period that began in a month, and an index with totals."""
    try:
        folder, count = statements.write_statements(of_chosen_meter(), month.replace(tzinfo=UTC))
    except UNKNOWN as error:
        fail(str(error))
    console.print(f"Wrote {counted(count, 'statement')} and index.csv into {folder}", soft_wrap=True)


@stripe_app.command()
def bootstrap(
    is_applied: Annotated[
        bool, typer.Option("--apply/--plan", help="create what is missing, or only show it (the default)")
    ] = False,
) -> None:
    """Compare meter, products and prices at Stripe with the plans; --apply creates what is missing.

    Also works before the first run, with the plans of the seeds.
    """
    each_meter = of_each_meter()
    if not all(config.published.exists() for config in each_meter):
        console.print(f"No run has published yet: {catalog.PLANS_OF_FILES}.", soft_wrap=True)
    try:
        if is_applied:
            for step in catalog.make(each_meter, connect_products):
                stripe_tables.print_made(step)
        stripe_tables.print_steps(catalog.catalog_steps(each_meter, connect_products))
        stripe_tables.print_scales([meters.reported(config) for config in each_meter])
    except REFUSALS as error:
        fail(str(error))


@stripe_app.command()
def check() -> None:
    """Check key, permissions, meter, clock, prices and subscriptions at Stripe. Changes nothing."""
    try:
        findings = catalog.check(of_each_meter(), connect_products)
    except REFUSALS as error:
        fail(str(error))
    print_findings(findings)
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)


stripe_app.command()(stripe_rehearsal.rehearse)


def _clock() -> datetime:
    return datetime.now(UTC)
