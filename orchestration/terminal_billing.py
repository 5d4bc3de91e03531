"""What people see of billing in the shell."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal

from rich import box
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from orchestration.billing import CustomerChange, Outcome, Planned
from orchestration.delivery.meter_ledger import Report
from orchestration.delivery.reporter import Sent
from orchestration.terminal import console
from orchestration.usage.notice import counted

LISTED = 20


def print_plan(planned: Planned, changes: Sequence[CustomerChange], limit: int | None) -> None:
    """A line for each customer and period, and what it comes to."""
    change, (start, end) = planned.change, planned.window
    if not change.reports:
        console.print(f"Nothing to report: all usage until {end:%Y-%m-%d %H:%M} UTC is in the ledger.")
    else:
        console.print(
            f"Would report {change.reports:,} customer-hours of {len(change.hours):,} customers, usage of"
            f" {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC."
        )
        table = Table("Customer", "Account", "Period from", "Units before", "Units", "Overage before", "Overage")
        table.box = box.SIMPLE_HEAD
        for column in table.columns[3:]:
            column.justify = "right"
        for each in changes[:limit]:
            name = each.account_name + (f" and {each.accounts - 1} more" if each.accounts > 1 else "")
            table.add_row(
                Text(each.stripe_customer_id),
                Text(name),
                f"{each.period_start:%Y-%m-%d}",
                f"{each.units_before:,}",
                f"{each.units:,}",
                _amount(each.amount_before, each.currency),
                _amount(each.amount, each.currency),
            )
        console.print(table)
        if limit is not None and len(changes) > limit:
            console.print(f"… and {len(changes) - limit:,} more: headroom stripe plan --all")
        for currency in sorted({each.currency for each in changes if each.amount is not None}):
            more = sum((each.added for each in changes if each.currency == currency), Decimal(0))
            console.print(f"Overage by it, at the catalogue's prices: {more:+,.2f} {currency}")
    if change.corrected_units:
        console.print(
            f"Corrections: {change.corrected_units:,} units of {len(change.corrected_customers):,} customers"
            f" that were reported before."
        )
    if change.held:
        console.print(f"Too late to be billed: {change.held:,} customer-hours; `headroom stripe problems` lists them.")
    if planned.unbilled_units:
        console.print(f"Not billed: {planned.unbilled_units:,} units of accounts without a Stripe customer.")
    if planned.refusal:
        console.print(Text(f"Has to be approved: {planned.refusal}", "bold yellow"))


def print_outcome(outcome: Outcome) -> None:
    change, sent = outcome.planned.change, outcome.sent
    if sent is None:
        console.print(f"Recorded {change.reports:,} customer-hours as a preview: set STRIPE_API_KEY to send.")
        return
    console.print(
        f"{change.reports:,} customer-hours planned; {sent.taken:,} taken by Stripe, {sent.refused:,} refused,"
        f" {sent.in_doubt:,} in doubt."
    )
    for refusal in sent.refusals[:LISTED]:
        console.print(Text(f"  {refusal.place}: {refusal.error}", "red"))


def print_problems(reports: Sequence[Report], by_hour: bool = False) -> None:
    """A block for each customer and reason, or for each hour with the identifier to name it by."""
    if not reports:
        console.print("No problem: every customer-hour is billed as it was counted, or will be.")
    groups: dict[tuple[str, ...], list[Report]] = {}
    for report in reports:
        own = (report.identifier,) if by_hour else (report.state, report.error or "")
        groups.setdefault((report.stripe_customer_id, *own), []).append(report)
    for group in groups.values():
        first, last = group[0], group[-1]
        hours = f"{first.hour_start:%Y-%m-%d %H:%M}" + (
            f" to {last.hour_start:%Y-%m-%d %H:%M}" if last != first else ""
        )
        units = sum(report.units for report in group)
        head = f"{first.stripe_customer_id}  {hours} UTC  {counted(len(group), 'hour')}, {counted(units, 'unit')}  "
        name = f"\n  {first.identifier}" if len(group) == 1 else ""
        console.print(Text(head, "bold"), Text(f"{first.state}\n  {first.error or ''}{name}"), sep="")


def print_adopted(reports: Sequence[Report]) -> None:
    """The hours whose total was taken from Stripe."""
    for report in reports:
        console.print(Text(f"{report.place}: {counted(report.units, 'unit')} at Stripe"))
    console.print(f"{counted(len(reports), 'hour')} taken over. `headroom stripe plan` shows what is sent next.")


@contextmanager
def progress() -> Iterator[Callable[[Sent], None]]:
    """Shows how many reports were taken, while they are sent."""
    with Progress(TextColumn("{task.description}"), console=console, transient=True) as display:
        task = display.add_task("Asking Stripe …")

        def show(sent: Sent) -> None:
            display.update(
                task, description=f"{sent.taken:,} taken, {sent.refused:,} refused, {sent.in_doubt:,} in doubt"
            )

        yield show


def _amount(amount: Decimal | None, currency: str) -> str:
    return "–" if amount is None else f"{amount:,.2f} {currency}"
