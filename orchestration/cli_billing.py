"""`headroom stripe …`: what would be sent, sending it, and what people do about what cannot be."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from orchestration import billing, settings, terminal_billing
from orchestration.delivery.engines import BusyError
from orchestration.delivery.outbox import InDoubtError, RefusedError
from orchestration.delivery.reporter import StoppedError
from orchestration.storage import warehouse
from orchestration.terminal import fail

REFUSALS = (
    StoppedError,
    RefusedError,
    InDoubtError,
    BusyError,
    ValueError,
    LookupError,
    warehouse.NothingPublishedError,
)


def plan(
    is_all: Annotated[
        bool, typer.Option("--all", help="all customers, not only those with the largest amounts")
    ] = False,
) -> None:
    """What the next run would report: customers, units, money. Changes nothing."""
    try:
        planned, changes = billing.look_ahead(settings.load())
    except REFUSALS as error:
        fail(str(error))
    terminal_billing.print_plan(planned, changes, None if is_all else terminal_billing.LISTED)


def apply(
    approve: Annotated[str, typer.Option(help="code of a plan that changes more than the limits allow")] = "",
    is_retried: Annotated[
        bool, typer.Option("--retry-refused", help="also what was refused within the last day")
    ] = False,
) -> None:
    """What the hourly job does: record what is new, and send it."""
    config = settings.load()
    try:
        with terminal_billing.progress() as progress:
            outcome = billing.report_usage(config, _clock, approve, is_retried, progress)
    except REFUSALS as error:
        fail(str(error))
    terminal_billing.print_outcome(outcome)
    if outcome.planned.refusal:
        fail(outcome.planned.refusal)
    if outcome.sent and outcome.sent.stopped:
        fail(f"{outcome.sent.stopped}. What was not sent is recorded; the next run sends it.")


def problems(
    by_hour: Annotated[bool, typer.Option("--hours", help="each hour, with the identifier of its report")] = False,
) -> None:
    """Customer-hours that are not billed as they were counted, why, and what to do."""
    terminal_billing.print_problems(billing.meter_ledger(settings.load()).problems(), by_hour)


def settle(
    name: Annotated[str, typer.Argument(help="identifier of a report, or cus_… for all of a customer")],
    note: Annotated[str, typer.Option(help="what was done about it, such as: credit note CN-17")],
) -> None:
    """Note that people have dealt with what was held or refused."""
    try:
        reports = billing.settle(settings.load(), _clock, name, note)
    except REFUSALS as error:
        fail(str(error))
    terminal_billing.print_problems(reports)


def adopt(
    customer: Annotated[str, typer.Argument(help="Stripe customer, cus_…")] = "",
    hour: Annotated[
        datetime | None,
        typer.Argument(formats=["%Y-%m-%dT%H", "%Y-%m-%dT%H:%M"], help="UTC hour, such as 2026-11-20T14"),
    ] = None,
    is_all: Annotated[
        bool,
        typer.Option("--all", help="all hours, after the ledger was lost or restored; wait three hours first"),
    ] = False,
) -> None:
    """Take what Stripe shows for what was reported; the next run sends what is missing, or too much."""
    if is_all == bool(customer and hour) or bool(customer) != bool(hour):
        raise typer.BadParameter("name a customer and an hour, or --all")
    config = settings.load()
    try:
        if customer and hour:
            adopted = [billing.adopt(config, _clock, customer, hour.replace(tzinfo=UTC))]
        else:
            adopted = billing.adopt_all(config, _clock)
    except REFUSALS as error:
        fail(str(error))
    terminal_billing.print_adopted(adopted)


def _clock() -> datetime:
    return datetime.now(UTC)
