"""What `headroom stripe problems` prints: what is not billed as counted, by customer and cause, and what waits."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from orchestration.billing.certificate import Certificate
from orchestration.billing.meters import in_csv, in_units, step_of
from orchestration.billing.problems import Problem, total
from orchestration.billing.revisions import Report
from orchestration.cli.console import console, plain_output
from orchestration.usage.formatting import counted
from orchestration.usage.meters import Meter
from orchestration.usage.spreadsheet import SpreadsheetWriter
from orchestration.usage.standing import Standing

COLUMNS = (
    *("stripe_customer_id", "kind", "cause", "from_hour", "to_hour", "hours", "units", "amount", "currency", "since"),
    *("can_be_invoiced_until", "what_to_do", "identifiers"),
)
NOTHING_SENT = "No report sent to Stripe yet. `headroom stripe plan` shows what the next run would report."


def print_problems(problems: Sequence[Problem], standing: Standing | None, meter: Meter) -> None:
    """A block for each, the most expensive first; below them what waits and what is not confirmed yet."""
    for problem in problems:
        _print(problem, meter)
    if problems and (words := step_of(meter)):
        _say(words, "dim")
    if problems:
        _say(f"Total: {'; '.join(total(problems, meter))}. Amounts use the catalog's prices, without base prices.")
    if standing is None:
        _say(NOTHING_SENT)
        return
    if not (problems or standing.unsent or standing.unconfirmed):
        _say("All clear: Stripe confirmed every customer-hour as counted.", "green")
    if standing.unsent:
        _say(
            f"{counted(standing.unsent, 'customer-hour')} not sent yet, since {standing.unsent_since:%Y-%m-%d %H:%M}"
            " UTC. The next run sends all; to send now, run `headroom stripe apply`."
        )
    if standing.unconfirmed:
        _say(
            f"{counted(standing.unconfirmed, 'customer-hour')} not confirmed yet, sent since"
            f" {standing.unconfirmed_since:%Y-%m-%d %H:%M} UTC. Stripe adds up later, and the next runs compare."
        )
        if not problems:
            _say("No other problems.")


def print_settled(reports: Sequence[Report], certificates: Sequence[Certificate]) -> None:
    """What people have dealt with, and how."""
    for report in reports:
        _say(f"{report.place}: settled, {report.error}")
    for each in certificates:
        invoices = f", {each.invoice_ids}" if each.invoice_ids else ""
        period = f"{each.period_start:%Y-%m-%d %H:%M} to {each.period_end:%Y-%m-%d %H:%M} UTC"
        _say(f"{each.stripe_customer_id}, {period}{invoices}: settled, {each.difference}")
    if hours := len(reports):
        _say(f"{counted(hours, 'hour')} settled and no longer listed as {'a problem' if hours == 1 else 'problems'}.")


def write_problems(problems: Sequence[Problem], meter: Meter) -> None:
    """The same as CSV on stdout, one row for each."""
    SpreadsheetWriter(plain_output(), "\n").write(_rows(problems, meter))


def _rows(problems: Sequence[Problem], meter: Meter) -> Iterator[Sequence[object]]:
    yield COLUMNS
    for each in problems:
        moments = (each.first_hour, each.last_hour, each.since, each.until)
        first, last, since, until = (f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else "" for moment in moments)
        yield (
            *(each.stripe_customer_id, each.kind, each.cause, first, last, each.hours, in_csv(meter, each.units)),
            *("" if each.amount is None else f"{each.amount:f}", each.currency, since, until, each.advice),
            " ".join(each.identifiers),
        )


def _print(problem: Problem, meter: Meter) -> None:
    units = in_units(meter, problem.units, sign="+") if problem.units else "same units"
    amount = "–" if problem.amount is None else f"{problem.amount:+,.2f} {problem.currency}"
    hours = f"{problem.first_hour:%Y-%m-%d %H:%M}"
    if problem.last_hour != problem.first_hour:
        hours += f" to {problem.last_hour:%Y-%m-%d %H:%M}"
    _say(f"{problem.stripe_customer_id}  {problem.kind}  {units}  {amount}", "bold")
    _say(f"  {hours} UTC, {counted(problem.hours, 'hour')}; known since {problem.since:%Y-%m-%d %H:%M} UTC")
    _say(f"  Cause: {problem.cause}")
    _say(f"  To do: {problem.advice}")
    if problem.until:
        _say(f"  Its invoice still accepts usage until {problem.until:%Y-%m-%d %H:%M} UTC")
    else:
        _say("  Its invoice no longer accepts usage")
    if len(problem.identifiers) == 1:
        _say(f"  Identifier: {problem.identifiers[0]}")


def _say(sentence: str, style: str = "") -> None:
    """However long: a terminal wraps it, and nothing is cut off."""
    console.print(Text(sentence, style), soft_wrap=True)
