"""What people read in the shell: tables, the summary of a run, error lines. No commands; nothing is decided here."""

from collections.abc import Collection, Mapping, Sequence
from datetime import MAXYEAR, datetime
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from orchestration.billing.meter_ledger import MeterLedger
from orchestration.channels.preview import COLUMNS, NAME_CHARACTERS, SEVERITY_STYLES, print_digest, wrapped
from orchestration.channels.slack.blocks import message_text
from orchestration.cli.console import console, plain_output, print_error
from orchestration.cli.doctor_configuration import Variable
from orchestration.cli.run import RunResult
from orchestration.lake.manifests import Batch
from orchestration.ledger import decided, exits
from orchestration.ledger.exits import Decided
from orchestration.ledger.ledger import Delivery, Ledger, State
from orchestration.messages import undelivered
from orchestration.messages.account_wording import hits_cap, is_forecast, name_of
from orchestration.messages.figures import short, short_name
from orchestration.messages.message import of_json
from orchestration.settings import Settings
from orchestration.usage import units
from orchestration.usage.events import Rejection
from orchestration.usage.formatting import counted, figure, format_pct, printable, sparkline
from orchestration.usage.hints import find_hint
from orchestration.warehouse import published_copy, queries

_ACCOUNT_COLUMNS = ("Account", "Severity", "Used today", "Used / quota", "Of cap", "14 days", "Hits cap", "Projected")
_FIGURES = ("Used today", "Used / quota", "Of cap", "Projected")
_LEFT_OUT = ("Used today", "14 days", "Projected", "Severity")
"""Where there is no room, in this order."""
_MILLIONS = 1_000_000


def print_run(config: Settings, outcome: RunResult) -> None:
    """Seconds of each step, failures, and what was ingested, announced and recorded for Stripe."""
    steps = []
    for step in outcome.steps:
        if step.error is not None:
            steps.append(f"{step.name} FAILED")
            print_error(f"{step.name} failed: {step.error}")
        else:
            steps.append(f"{step.name} skipped" if step.seconds is None else f"{step.name} {step.seconds:.1f} s")
    console.print(Text(f"load {outcome.load_seconds:.1f} s · {' · '.join(steps)}", "dim"))
    if not outcome.is_success:
        print_error(f"run {outcome.run_id}: `headroom ui` shows its log; the next run does the remaining steps")
    figures = outcome.figures
    if raw := figures.get("raw_events"):
        refused = figures["rejected_lines"]["events_rejected"]
        for entry in raw["skipped"]:
            path = entry["path"] if "://" in entry["path"] else config.landing / entry["path"]
            print_error(f"not read: {path} {entry['reason']}")
        console.print(
            f"Ingested {counted(raw['events_accepted'], 'event')} from {counted(raw['lines'], 'new line')}"
            f" ({counted(raw['duplicates'], 'duplicate')}, {refused:,} rejected)."
        )
    if digest := figures.get("usage_digest"):
        console.print()
        sentence = digest["outcome"]
        if sentence.startswith("nothing"):
            console.print(f"Digest of {outcome.on}: {sentence}", markup=False)
        elif sentence.startswith("already"):
            again = " `headroom digest --redraw` shows it with the new figures." if "previewed" in sentence else ""
            console.print(f"Digest of {outcome.on}: {sentence}. Nothing is announced twice.{again}")
        else:
            print_message(Ledger(config.ledger_url), digest["key"])
            console.print(Text(f"{sentence[0].upper()}{sentence[1:]}.", "dim"))
    for name in ("weekly_digest", "monthly_digest", "critical_alert"):
        if notice := figures.get(name):
            console.print(f"{name}: {notice['outcome']}.")
            if "key" in notice:
                print_message(Ledger(config.ledger_url), notice["key"])
    if stripe := figures.get("stripe_usage"):
        if "reports" not in stripe:
            console.print(f"Stripe: {stripe['outcome']}.")
            return
        console.print(
            f"Stripe: {stripe_sentence(stripe)} ({counted(stripe['units_in_window'], 'billable unit')},"
            f" {stripe['units_without_customer']:,} more without a Stripe customer)."
        )


def stripe_sentence(figures: Mapping[str, Any]) -> str:
    """What became of the customer-hours of a run. Stripe may take more than are new: others wait from earlier runs."""
    reports, taken = figures["reports"], figures.get("taken")
    of = f" of {counted(figures['customers'], 'customer')}" if reports else ""
    if taken is None and reports:
        return f"would send {counted(reports, 'customer-hour')}{of}"
    if taken and taken > reports:
        said = f"took {counted(taken, 'customer-hour')}, {reports:,} new{of} and {taken - reports:,} from earlier runs"
    elif reports:
        said = f"took {taken:,} of {counted(reports, 'new customer-hour')}{of}"
    else:
        said = "nothing new to report"
    for name, word in (("refused", "refused"), ("in_doubt", "in doubt")):
        if figures.get(name):
            said += f", {figures[name]:,} {word}"
    return said


def print_utilization(config: Settings, limit: int = 15) -> None:
    """The accounts that have reached a threshold, soonest cap first, in at most 100 columns."""
    rows = published_copy.query(config.published, queries.UTILIZATION)
    days = queries.daily_usage(config.published, (row["account_id"] for row in rows[:limit]))
    console.print(Text(f"Utilization: {counted(len(rows), 'account')} at a threshold of their quota", "bold"))
    shown = [_standing(config, row, days) for row in rows[:limit]]
    print_columns(_ACCOUNT_COLUMNS, shown, _FIGURES, _LEFT_OUT)
    if len(rows) > limit:
        console.print(Text(f"… and {len(rows) - limit:,} more: headroom sql 'select * from utilization_mtd'", "dim"))


def _standing(config: Settings, row: Mapping[str, Any], days: Mapping[tuple[str, str], Sequence[int]]) -> list[Text]:
    unit, projected, today = row["unit"], row["projected_eom"], row["used_today"]
    unknown = "too early" if is_forecast(row) and row["period_end"].year < MAXYEAR else "–"
    return [
        Text(short_name(name_of(row), NAME_CHARACTERS)),
        Text(row["severity"], SEVERITY_STYLES.get(row["severity"], "")),
        Text("" if today is None else _narrow(today, unit)),
        Text(f"{_narrow(row['used_mtd'], unit)} / {_narrow(row['quota'], unit)}"),
        Text(format_pct(row["pct_of_cap"], row["ci95_pct"])),
        Text(sparkline(days.get((row["account_id"], row["meter"]), ()))),
        Text(hits_cap({**row, "used": row["used_mtd"]}, row["as_of"].astimezone(config.zone).date())),
        Text(unknown if projected is None else _narrow(projected, unit)),
    ]


def _narrow(count: int, unit: str) -> str:
    """A figure to its last step, but millions cut off as in the digest: they would push out another column."""
    return figure(count, unit) if count < _MILLIONS * units.steps_of_one(unit) else short(count, unit)


def print_columns(
    names: Sequence[str], rows: Sequence[Sequence[Text]], figures: Collection[str], left_out: Sequence[str]
) -> None:
    """A table no wider than the terminal and 100 columns. Figures are never wrapped: where there is no room for all
    columns, those of `left_out` are missing, the first ones first, and then names are cut.
    """
    width, kept = min(console.width, COLUMNS), list(range(len(names)))
    widths = [max([cell_len(name), *(cell_len(row[at].plain) for row in rows)]) for at, name in enumerate(names)]
    for name in left_out:
        if sum(widths[at] + 2 for at in kept) - 2 <= width:
            break
        kept.remove(names.index(name))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    room = width - sum(widths[at] + 2 for at in kept[1:])
    for at in kept:
        justify: Literal["left", "right"] = "right" if names[at] in figures else "left"
        most = max(room, 8) if not at and widths[0] > room else None
        table.add_column(names[at], justify=justify, no_wrap=True, overflow="ellipsis", max_width=most)
    for row in rows:
        table.add_row(*(row[at] for at in kept))
    console.print(table)


def print_message(ledger: Ledger, key: str) -> None:
    """A message that was decided, whichever routes it takes."""
    with ledger.reading() as connection:
        found = decided.find(connection, key)
    if found and found.content.get("digest"):
        print_digest(console, found.content["digest"])
    elif found and "title" in found.content:
        message = of_json(found.content)
        print_lines([message.title, *message.lines])


def print_delivery(delivery: Delivery) -> None:
    """The stored message of one delivery: as Slack shows it, else the payload itself."""
    if delivery.channel != "slack":
        console.print_json(data=delivery.payload)
    elif "digest" in delivery.payload:
        print_digest(console, delivery.payload["digest"])
    elif "base64" in (file := delivery.payload.get("file", {})):
        console.print(Text(f"{file['name']}: {printable(file['alt_text'])}"))
    elif file:
        plain_output().write(file["content"])
    else:
        print_lines(message_text(delivery.payload["message"]).split("\n"))


def print_preview(
    digest: Mapping[str, Any], replies: Sequence[Mapping[str, Any]], status: str, page: Path | None
) -> None:
    """A digest, what is in its thread, and where `page` draws both as Slack does, on a desk and on a phone."""
    print_digest(console, digest)
    for number, reply in enumerate(replies, 1):
        console.print(Text(f"\nReply {number} of {len(replies)} in the thread", "dim"))
        if "file" in reply:
            print_lines([f"{reply['file']['name']}: {reply['file']['title']}"])
        else:
            print_lines(message_text(reply["message"]).split("\n"))
    console.print()
    print_lines([status])
    if page:
        console.print(Text(f"As Slack shows it: {page}"), soft_wrap=True)


def print_lines(lines: Sequence[str]) -> None:
    """Texts of a message, their parts kept whole where they fit."""
    for line in lines:
        for each in wrapped(printable(line).split(" · "), min(console.width, COLUMNS), 4):
            console.print(Text(each), soft_wrap=True)


def print_deliveries(ledger: Ledger, reports: MeterLedger, zone: ZoneInfo, now: datetime) -> None:
    """Every delivery and its state, what waits and what to do about it, and the meter reports in sums."""
    table = Table("Key", "State", "Attempts", "Prepared", "Finished", "Receipt or error", box=box.SIMPLE_HEAD)
    for delivery in ledger.deliveries():
        state = {State.SENDING: "in doubt", State.GIVEN_UP: "given up"}.get(delivery.state, str(delivery.state))
        table.add_row(
            Text(delivery.key),
            state,
            str(delivery.attempts),
            f"{delivery.created_at:%Y-%m-%d %H:%M}",
            f"{delivery.finished_at:%Y-%m-%d %H:%M}" if delivery.finished_at else "",
            Text(delivery.permalink or delivery.receipt or delivery.error or ""),
        )
    console.print(table)
    if stuck := exits.stuck(ledger, "", now):
        for delivery in stuck:
            console.print(Text(f"Waiting: {printable(undelivered.sentence(delivery, zone))}"), soft_wrap=True)
        console.print(Text(undelivered.EXITS, "dim"), soft_wrap=True)
    for total in reports.totals():
        console.print(
            f"Stripe {reports.event_name}: {counted(total['reports'], 'customer-hour')} {total['state']}"
            f" of {counted(total['customers'], 'customer')}, {total['first_hour']:%Y-%m-%d %H:%M}"
            f" to {total['last_hour']:%Y-%m-%d %H:%M} UTC"
        )


def print_decisions(decisions: Sequence[Decided]) -> None:
    """What people decided about a delivery, oldest first."""
    for each in decisions:
        words = f"{each.decided_at:%Y-%m-%d %H:%M} UTC: {each.decision.replace('_', ' ')}, was {each.state_before}"
        receipt = f" ({each.receipt_before})" if each.receipt_before else ""
        console.print(Text(f"{words}{receipt}. {printable(each.note)}", "dim"), soft_wrap=True)


def print_variables(variables: Sequence[Variable]) -> None:
    """The configuration, a line for each variable."""
    table = Table("Variable", "Value", "Set in", box=box.SIMPLE_HEAD, pad_edge=False)
    for variable in variables:
        table.add_row(variable.name, Text(variable.value), Text(variable.source))
    console.print(table)


def print_migrations(place: str, steps: Sequence[str], became: str) -> None:
    """The ledger's migrations that were run, or are missing."""
    console.print(f"Ledger: {place}", markup=False, soft_wrap=True)
    for step in steps:
        console.print(f"  {step}", markup=False, soft_wrap=True)
    console.print(f"{counted(len(steps), 'migration')} {became}" if steps else "up to date", markup=False)


def print_replay(batch: Batch | None) -> None:
    """What became of the quarantine; None is an empty one."""
    if batch is None:
        console.print("The quarantine is empty.")
        return
    console.print(
        f"Checked {counted(batch.lines, 'line')} again: {batch.accepted:,} accepted"
        f" ({batch.duplicates:,} of them counted before), {sum(batch.rejected.values()):,} still rejected."
        " `headroom run` adds the accepted lines to the figures."
    )


def print_rejected(config: Settings, limit: int) -> None:
    """Each reason with its count and explanation, and the latest `limit` lines of it.

    :raises NothingPublishedError: no run has published anything yet.
    """
    reasons = published_copy.query(
        config.published,
        """select reason, count(*) as lines, sum(lost_events) as events from events_rejected group by reason
           order by lines desc, reason""",
    )
    if not reasons:
        console.print("No rejected lines.")
    for row in reasons:
        reason = Rejection(row["reason"])
        lost = f", about {row['events']:,} events" if row["events"] > row["lines"] else ""
        console.print(Text(f"{row['lines']:,} × {reason}{lost}", "bold"), Text(f"— {reason.explanation}"))
        for line in published_copy.query(
            config.published,
            """select landed_file, line_number, item, line, problem from events_rejected where reason = ?
               order by rejected_at desc, landed_file, line_number limit ?""",
            [str(reason), limit],
        ):
            item = f" (event {line['item']} of the line)" if line["item"] else ""
            said = line["problem"] or line["line"][:100]
            place = f"{line['landed_file']}:{line['line_number']}{item}"
            console.print(Text(f"    {printable(place)}  {printable(said)}"))
            if hint := find_hint(line["landed_file"], line["line"]):
                console.print(Text(f"    {hint}", "dim"))
