"""What finance sees of billing in the shell."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from orchestration.channels.preview import printable
from orchestration.delivery.meter_ledger import Report
from orchestration.finance import Explanation
from orchestration.terminal import console
from orchestration.usage.statement import BilledHour, Statement

ENDPOINTS = 10
"""Listed of an account."""
VERDICTS = 10
"""Listed below a statement."""


def print_explanation(explanation: Explanation) -> None:
    """What was used, what was reported, and for each hour that is not as it should be, why."""
    start, end, hours = explanation.start, explanation.end, explanation.hours
    _say(f"{explanation.stripe_customer_id}, {start:%a %d %b %Y %H:%M} to {end:%H:%M} UTC", "bold")
    _print_accounts(explanation.accounts)
    _print_endpoints(explanation.endpoints, start)
    _print_revisions(explanation.revisions)
    for hour in hours:
        if hour.stripe_units is not None:
            _say(f"Stripe showed {hour.stripe_units:,} units for {hour.hour_start:%H:%M} at the last look.")
    odd = [hour for hour in hours if not hour.is_settled]
    if odd or len(hours) == 1:
        for hour in odd or hours:
            _print_verdict(hour)
    else:
        units = sum(hour.counted_units for hour in hours)
        _say(f"{units:,} units counted, reported and confirmed by Stripe in {len(hours):,} hours", "bold green")
    _say(f"Usage as counted {explanation.as_of:%Y-%m-%d %H:%M} UTC; reports as they are now.", "dim")


def print_statement(statement: Statement) -> None:
    """A line for each hour with usage or a report, the totals, and the certificate."""
    start, end = statement.period_start, statement.period_end
    _say(f"{statement.stripe_customer_id}, billing period {start:%d %b %Y %H:%M} to {end:%d %b %Y %H:%M} UTC", "bold")
    table = _table("Hour (UTC)", "Units", "Reported", "Stripe", "Revision", "State", "Sent", "Confirmed", "Identifier")
    for column in table.columns[1:5]:
        column.justify = "right"
    for hour in statement.hours:
        table.add_row(
            f"{hour.hour_start:%Y-%m-%d %H:%M}",
            *(f"{hour.counted_units:,}", f"{hour.reported_units:,}", _number(hour.stripe_units), str(hour.revisions)),
            *(hour.state or "unreported", _moment(hour.sent_at), _moment(hour.confirmed_at), hour.identifier or ""),
        )
    table.add_section()
    totals = (statement.counted_units, statement.reported_units, statement.stripe_units)
    table.add_row("Total", *(f"{units:,}" for units in totals), style="bold")
    console.print(table)
    for hour in statement.unsettled[:VERDICTS]:
        _print_verdict(hour)
    if (more := len(statement.unsettled) - VERDICTS) > 0:
        _say(f"… and {more:,} more hours that are not confirmed: --csv has a note for each")
    if statement.certificate:
        _say(statement.certificate.sentence, "green" if statement.status == "certified" else "yellow")
    else:
        _say(f"No certificate: {statement.status}.")
    _say(f"Hours without usage and reports are left out. Usage as counted {statement.as_of:%Y-%m-%d %H:%M} UTC.", "dim")


def _print_accounts(accounts: Sequence[Mapping[str, Any]]) -> None:
    if not accounts:
        _say("No account of the customer has usage here.")
        return
    table = _table("Account", "Calls", "Units", "Sampled calls", "Last call (UTC)")
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in accounts:
        name = f"{row['account_name']} ({row['account_id']})" if row["account_name"] else row["account_id"]
        figures = (f"{row[column]:,}" for column in ("calls", "billable_units", "sampled_calls"))
        table.add_row(Text(printable(name)), *figures, f"{row['last_call_at']:%H:%M:%S}")
    console.print(table)


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
    console.print(table)
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


def _number(units: int | None) -> str:
    return "" if units is None else f"{units:,}"


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment else ""
