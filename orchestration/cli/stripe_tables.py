"""What the `headroom stripe` commands print: plans, outcomes, problems, explanations, statements."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.measure import Measurement
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from orchestration.billing.catalog_rules import Action, Step, in_major
from orchestration.billing.meters import in_units, step_of
from orchestration.billing.report import CustomerChange, ReportPlan, ReportResult
from orchestration.billing.reporter import SendResult
from orchestration.billing.revisions import Report
from orchestration.billing.statement import BilledHour, Statement
from orchestration.billing.statements import Explanation
from orchestration.cli.console import PrintableConsole, console
from orchestration.usage.formatting import counted, printable
from orchestration.usage.meters import Meter

LISTED = 20
"""Customers of a plan, and refusals of a run."""
ENDPOINTS = 10
"""Listed of an account."""
VERDICTS = 10
"""Listed below a statement."""


def print_plan(planned: ReportPlan, changes: Sequence[CustomerChange], limit: int | None, meter: Meter) -> None:
    """A line for each customer and period, and what it comes to."""
    change, (start, end) = planned.change, planned.window
    if not change.reports:
        console.print(f"Nothing to report: the ledger has all usage until {end:%Y-%m-%d %H:%M} UTC.")
    else:
        console.print(
            f"Would report {counted(change.reports, 'customer-hour')} of {counted(len(change.hours), 'customer')},"
            f" usage of {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC."
        )
        # What waits for approval is shown whole: its code approves just that.
        waiting = [each for each in changes if each.is_waiting]
        shown = changes if limit is None else waiting or changes[:limit]
        table = Table("Customer", "From", _units_of(meter), "Overage", "Account")
        table.box = box.SIMPLE_HEAD
        for column in table.columns[:4]:
            column.no_wrap = True
        for column in table.columns[2:4]:
            column.justify = "right"
        for each in shown:
            name = each.account_name + (f" and {each.accounts - 1} more" if each.accounts > 1 else "")
            added = f"{each.added:+,.2f} {each.currency}" if each.amount is not None else "–"
            table.add_row(
                Text(each.stripe_customer_id),
                f"{each.period_start:%Y-%m-%d}",
                f"{meter.exact(each.units_before)} → {meter.exact(each.units)}",
                added,
                Text(f"{name} (waits)" if each.is_waiting else name, "yellow" if each.is_waiting else ""),
            )
        _print_whole(table)
        if len(changes) > len(shown):
            console.print(f"… and {len(changes) - len(shown):,} more: headroom stripe plan --all")
        for currency in sorted({each.currency for each in changes if each.amount is not None}):
            more = sum((each.added for each in changes if each.currency == currency), Decimal(0))
            console.print(f"Total overage, at the catalog's prices: {more:+,.2f} {currency}")
        if unpriced := sum(each.amount is None for each in changes):
            console.print(f"{counted(unpriced, 'row')} without a known price, not in the amounts.")
    if change.corrected_units:
        console.print(
            f"Corrections of earlier reports: {in_units(meter, change.corrected_units)} of"
            f" {counted(len(change.corrected_customers), 'customer')}."
        )
    if change.held:
        held = counted(change.held, "customer-hour")
        console.print(f"Too late to bill: {held}. See `headroom stripe problems`.")
    if planned.unbilled_units:
        unbilled = in_units(meter, planned.unbilled_units)
        console.print(f"Not billed: {unbilled} of accounts without a Stripe customer.")
    if planned.waiting.question:
        console.print(Text(f"{planned.waiting.question}.", "bold yellow"))
        _print_step(meter)


def print_outcome(outcome: ReportResult) -> None:
    change, sent = outcome.planned.change, outcome.sent
    if sent is None:
        console.print(f"Recorded {counted(change.reports, 'customer-hour')} as a preview. Set STRIPE_API_KEY to send.")
        return
    console.print(
        f"{counted(change.reports, 'new customer-hour')}. Stripe took {sent.taken:,}"
        f"{f', {sent.taken - change.reports:,} of them from earlier runs' if sent.taken > change.reports else ''},"
        f" refused {sent.refused:,}, and left {sent.in_doubt:,} in doubt."
    )
    for refusal in sent.refusals[:LISTED]:
        console.print(Text(f"  {refusal.place}: {refusal.error}", "red"))
    if question := outcome.planned.waiting.question:
        console.print(Text(f"{question}.", "bold yellow"))


def print_adopted(reports: Sequence[Report]) -> None:
    """The hours whose total was taken from Stripe."""
    for report in reports:
        console.print(Text(f"{report.place}: {counted(report.units, 'unit')} at Stripe"))
    console.print(f"Accepted {counted(len(reports), 'hour')} as Stripe has it. Next: `headroom stripe plan`.")


@contextmanager
def progress() -> Iterator[Callable[[SendResult], None]]:
    """Shows how many reports were taken, while they are sent."""
    with Progress(TextColumn("{task.description}"), console=console, transient=True) as display:
        task = display.add_task("Asking Stripe …")

        def show(sent: SendResult) -> None:
            display.update(
                task, description=f"{sent.taken:,} taken, {sent.refused:,} refused, {sent.in_doubt:,} in doubt"
            )

        yield show


def print_explanation(explanation: Explanation) -> None:
    """What was used, what was reported, and for each hour that is not as it should be, why."""
    start, end, hours = explanation.start, explanation.end, explanation.hours
    _say(f"{explanation.stripe_customer_id}, {start:%a %d %b %Y %H:%M} to {end:%H:%M} UTC", "bold")
    meter = explanation.meter
    _print_accounts(explanation.accounts, meter)
    _print_endpoints(explanation.endpoints, start)
    _print_revisions(explanation.revisions)
    for hour in hours:
        if hour.stripe_units is not None:
            shown = in_units(meter, hour.stripe_units)
            _say(f"Stripe showed {shown} for {hour.hour_start:%H:%M} UTC at the last check.")
    unsettled = [hour for hour in hours if not hour.is_settled]
    if unsettled or len(hours) == 1:
        for hour in unsettled or hours:
            _print_verdict(hour)
    else:
        units = sum(hour.counted_units for hour in hours)
        place = f"Stripe in {counted(len(hours), 'hour')}"
        _say(f"{in_units(meter, units)} counted, reported and confirmed by {place}", "bold green")
    _print_step(meter)
    _say(f"Usage counted at {explanation.as_of:%Y-%m-%d %H:%M} UTC, reports as of now.", "dim")


def print_statement(statement: Statement) -> None:
    """A line for each hour with usage or a report, the totals in units and money, the invoice, and the certificate."""
    start, end = statement.period_start, statement.period_end
    _say(f"{statement.stripe_customer_id}, billing period {start:%d %b %Y %H:%M} to {end:%d %b %Y %H:%M} UTC", "bold")
    meter = statement.meter
    table = _table(
        "Hour (UTC)", _units_of(meter), "Reported", "Stripe", "Rev.", "State", "Sent", "Confirmed", "Identifier"
    )
    for column in table.columns[1:5]:
        column.justify = "right"
    for hour in statement.hours:
        table.add_row(
            f"{hour.hour_start:%Y-%m-%d %H:%M}",
            *(_number(units, meter) for units in (hour.counted_units, hour.reported_units, hour.stripe_units)),
            str(hour.revisions),
            *(hour.state or "unreported", _moment(hour.sent_at), _moment(hour.confirmed_at), hour.identifier or ""),
        )
    table.add_section()
    is_seen = any(hour.stripe_units is not None for hour in statement.hours) or not statement.hours
    totals = (statement.counted_units, statement.reported_units, statement.stripe_units if is_seen else None)
    table.add_row("Total", *(_number(units, meter) for units in totals), style="bold")
    _print_whole(table)
    for hour in statement.unsettled[:VERDICTS]:
        _print_verdict(hour)
    if (more := len(statement.unsettled) - VERDICTS) > 0:
        _say(f"… and {counted(more, 'more hour')} not confirmed: --csv has a note for each")
    _print_money(statement)
    _print_invoices(statement)
    if statement.certificate:
        _say(statement.certificate.sentence, "green" if statement.status == "certified" else "yellow")
    else:
        _say(f"No certificate: {statement.status}.")
    as_of = f"{statement.as_of:%Y-%m-%d %H:%M} UTC"
    _print_step(meter)
    _say(f"Leaves out hours without usage and reports. Usage counted at {as_of}.", "dim")


def _print_money(statement: Statement) -> None:
    if statement.plan is None:
        _say("Amount unknown: the customer's accounts have no plan of the catalog, or more than one.")
        return
    plan, included = statement.plan, statement.plan.included_units
    terms = "all units included" if included is None else f"{in_units(statement.meter, included)} included"
    _say(
        f"Usage on plan {plan.name} ({terms}), without the base price:"
        f" {_amount(statement.amount, plan.currency)} for what was counted,"
        f" {_amount(statement.reported_amount, plan.currency)} for what was reported."
    )


def _print_invoices(statement: Statement) -> None:
    for each in statement.subscriptions:
        _say(
            f"Subscription {each.subscription_id}, item {each.subscription_item_id}: period"
            f" {each.period_start:%Y-%m-%d %H:%M:%S} to {each.period_end:%Y-%m-%d %H:%M:%S} UTC"
        )
    for line in statement.lines:
        final = f"final since {line.finalized_at:%Y-%m-%d %H:%M} UTC" if line.finalized_at else "not final"
        _say(
            f"Invoice {line.invoice_id} ({line.invoice_status}, {final}), line {line.line_id}: period"
            f" {line.period_start:%Y-%m-%d %H:%M:%S} to {line.period_end:%Y-%m-%d %H:%M:%S} UTC,"
            f" {in_units(statement.meter, line.quantity)},"
            f" {_amount(in_major(line.amount, line.currency), line.currency.upper())}"
        )
    if len(statement.lines) > 1:
        units, amount = (sum(values) for values in zip(*((x.quantity, x.amount) for x in statement.lines), strict=True))
        currency = statement.lines[0].currency
        money = _amount(in_major(amount, currency), currency.upper())
        _say(f"Total invoiced: {in_units(statement.meter, units)}, {money}")
    if not statement.lines:
        _say("No invoice yet: a run after the period's end reads it.")


def _print_accounts(accounts: Sequence[Mapping[str, Any]], meter: Meter) -> None:
    if not accounts:
        _say("The customer's accounts have no usage here.")
        return
    # of the main meter events are counted as well, which are its calls
    events, sampled = (("Calls",), ("Sampled calls", "Their units")) if meter.is_main else ((), ("Sampled",))
    table = _table("Account", *events, _units_of(meter), *sampled, "Last call (UTC)" if events else "Last event (UTC)")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for row in accounts:
        name = f"{row['account_name']} ({row['account_id']})" if row["account_name"] else row["account_id"]
        figures = [_number(row["billable_units"], meter), _number(row["sampled_units"], meter)]
        if events:
            figures = [f"{row['calls']:,}", figures[0], f"{row['sampled_calls']:,}", figures[1]]
        table.add_row(Text(printable(name)), *figures, f"{row['last_call_at']:%H:%M:%S}")
    _print_whole(table)


def _print_endpoints(endpoints: Sequence[Mapping[str, Any]], day: datetime) -> None:
    by_account: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in endpoints:
        by_account[row["account_id"]].append(row)
    for account, rows in by_account.items():
        calls = [
            f"{row['endpoint'] or '(none named)'} {row['calls']:,}"
            + (f" (of {row['weight']} units each)" if row["weight"] != 1 else "")
            for row in rows[:ENDPOINTS]
        ]
        more = f" and {len(rows) - ENDPOINTS:,} more" if len(rows) > ENDPOINTS else ""
        _say(printable(f"Calls of {account} on the whole of {day:%d %b}: {', '.join(calls)}{more}"))


def _print_revisions(revisions: Sequence[Report]) -> None:
    if not revisions:
        return
    table = _table("Hour", "Revision", "Units", "Value", "Decided", "Sent", "Checked", "State", "Identifier")
    for column in table.columns[1:4]:
        column.justify = "right"
    for report in revisions:
        table.add_row(
            *(f"{report.hour_start:%H:%M}", str(report.revision), f"{report.units:,}", f"{report.value:,}"),
            *(_moment(report.created_at), _moment(report.finished_at), _moment(report.checked_at)),
            *(str(report.state), report.identifier),
        )
    _print_whole(table)
    for report in revisions:
        if report.error:
            _say(f"Revision {report.revision} of {report.hour_start:%H:%M}: {report.error}")


def _print_verdict(hour: BilledHour) -> None:
    style = "bold green" if hour.is_settled else "bold yellow"
    _say(f"{hour.hour_start:%Y-%m-%d %H:%M} UTC: {hour.verdict}", style)


def _say(sentence: str, style: str = "") -> None:
    console.print(Text(sentence, style), soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for column in table.columns:
        column.no_wrap = True
    return table


def _print_whole(table: Table) -> None:
    """As wide as it is: a narrow terminal wraps its lines, and no id is cut off."""
    width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    wide = PrintableConsole(file=console.file, width=max(width, console.width), force_terminal=console.is_terminal)
    wide.print(table, highlight=False)


def _number(units: int | None, meter: Meter) -> str:
    return "" if units is None else meter.exact(units)


def _units_of(meter: Meter) -> str:
    """The head of a column of its figures."""
    return meter.unit if meter.decimals else "Units"


def _print_step(meter: Meter) -> None:
    """What the sentences around the figures call a unit, where it is not a whole one."""
    if words := step_of(meter):
        _say(words, "dim")


def print_scales(meters: Sequence[Meter]) -> None:
    """Of what the prices at Stripe are, where it is not a whole unit."""
    for meter in meters:
        if meter.decimals:
            one = Decimal(1).scaleb(-meter.decimals)
            price = f"a price of 1 for each {meter.unit_singular} is {one} there"
            _say(f"Stripe counts {meter.name} by {meter.amount(1)}: {price}.")


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""


def print_steps(steps: Sequence[Step]) -> None:
    """The parts of the catalogue at Stripe: what stands, what is to be made, what has to be done by hand."""
    styles = {Action.NOTHING: "green", Action.BY_HAND: "bold red"}
    for step in steps:
        words = Text(f"{step.subject}{': ' if step.words else ''}{step.words}")
        console.print(Text(f"{step.action:8} ", styles.get(step.action, "yellow")), words, sep="")
    if any(step.action in (Action.MAKE, Action.REPLACE) for step in steps):
        console.print("Headroom changed nothing. To create these parts, run `headroom stripe bootstrap --apply`.")


def print_made(step: Step) -> None:
    """One part of it that was made."""
    console.print(Text("made     ", "green"), Text(step.subject), sep="")


def _amount(amount: Decimal | None, currency: str) -> str:
    return "–" if amount is None else f"{amount:,.2f} {currency}"
