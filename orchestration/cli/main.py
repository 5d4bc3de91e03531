"""`headroom` in the shell: the jobs that the schedules start, and what they left behind, for people.

Commands call; what they print is in tables.py, what they run elsewhere. Dagster and dbt are imported only by the
commands that run something, so that the others answer at once.
"""

import gc
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from orchestration import settings
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.billing.standing import standing
from orchestration.cli import failures, preview_pages, run, tables, ui_server, usage_tables
from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console, fail, print_error, print_findings, print_rows
from orchestration.cli.db import db_app
from orchestration.cli.deliveries import deliveries_app
from orchestration.cli.lake import lake_app
from orchestration.cli.limits import show_limits
from orchestration.cli.meters import meters_app
from orchestration.cli.pages import pages_app
from orchestration.cli.postgres import postgres_app
from orchestration.cli.routes import routes_app, test_route
from orchestration.cli.rules import rules_app
from orchestration.cli.slack import slack_app
from orchestration.cli.stripe import stripe_app
from orchestration.lake.bucket import LakeBucketError
from orchestration.lake.lake import Lake
from orchestration.lake.sources import Folder
from orchestration.ledger import engines, migrate
from orchestration.usage import periods
from orchestration.usage.formatting import counted
from orchestration.warehouse import account_usage, published_copy, seeds

app = typer.Typer(
    help="Quota alerts and Stripe billing from one count.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(deliveries_app, name="deliveries")
app.add_typer(routes_app, name="routes")
app.command("test-route")(test_route)
app.command("limits")(show_limits)
app.add_typer(rules_app, name="rules")
app.add_typer(slack_app, name="slack")
app.add_typer(stripe_app, name="stripe")
app.add_typer(lake_app, name="lake")
app.add_typer(meters_app, name="meters")
app.add_typer(pages_app, name="pages")
app.add_typer(db_app, name="db")
app.add_typer(postgres_app, name="postgres")

_DATE = "%Y-%m-%d"
_PERIODS = {
    "last week": periods.last_iso_week,
    "this month": periods.calendar_month,
    "last month": periods.last_calendar_month,
}


@app.callback()
def headroom(
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks; works with every command")] = False,
) -> None:
    """Quota alerts and Stripe billing from one count."""


@app.command()
def demo() -> None:
    """Run the whole job once and show the result. Writes demo events first if the landing folder is empty."""
    config = load_settings()
    if not config.is_production:
        migrate.create(engines.create(config.ledger_url))
    if not config.is_production and not config.landing_url and not Folder(config.landing).scan()[0]:
        generate(accounts=300, days=60, events=150_000, seed=7)
    run_job(only=None)
    console.print()
    tables.print_utilization(config)


@app.command("run")
def run_job(
    only: Annotated[run.RunStep | None, typer.Option(help="run one part instead of the whole job")] = None,
) -> None:
    """Run the whole job once: ingest, marts with their checks, publish, Stripe, digest. Exits 1 on failure."""
    config = load_settings()
    gc.disable()  # a short-lived process: collecting while Dagster loads costs most of a second
    failures.quiet_retries()
    outcome = run.run(config, only)
    if failures.was_stopped() and not outcome.is_success:
        raise typer.Exit(failures.stop_status())
    tables.print_run(config, outcome)
    if outcome.is_success and only is None and config.heartbeat_url:
        from orchestration.channels import heartbeat

        if problem := heartbeat.send(config.heartbeat_url.get_secret_value()):
            print_error(problem)
    if not outcome.is_success:
        gc.collect()  # a failure keeps its connections, and their library complains of that at exit
        raise typer.Exit(1)


@app.command()
def ui() -> None:
    """Serve Dagster's UI on 127.0.0.1 and run its schedules and sensors, until Ctrl-C."""
    failures.quiet_retries()
    status = ui_server.serve(load_settings())
    if failures.was_stopped():
        print_error("stopped the UI, the schedules and the sensors")
    raise typer.Exit(status)


@app.command()
def generate(
    accounts: Annotated[int, typer.Option(min=1)] = 300,
    days: Annotated[int, typer.Option(min=1, help="days of history, today included")] = 60,
    events: Annotated[int, typer.Option(min=1, help="approximate number of API calls")] = 150_000,
    seed: int = 7,
) -> None:
    """Write demo events into the landing folder, and an accounts file if there is none."""
    from orchestration import demo as generator

    config = load_settings()
    accounts_csv = config.data / "accounts.csv" if config.accounts is None else config.data / "demo-accounts.csv"
    truth = generator.generate(
        config.landing, accounts_csv, now=config.now(), accounts=accounts, days=days, events=events, seed=seed
    )
    console.print(
        f"Generated {counted(truth.lines, 'demo line')} of {counted(len(truth.accounts), 'account')} over"
        f" {counted(days, 'day')} in {config.landing}"
    )


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="for example: select * from utilization_mtd")],
    as_csv: Annotated[bool, typer.Option("--csv", help="print CSV instead of a table")] = False,
) -> None:
    """Query the published copy of the marts. Never waits for a running job."""
    import duckdb

    config = load_settings()
    try:
        answer = published_copy.ask(config.published, config.lake, query)
    except (duckdb.Error, published_copy.NothingPublishedError, published_copy.ForbiddenFileError) as error:
        fail(str(error))
    print_rows(answer.columns, answer.rows, as_csv)


@app.command()
def usage(
    account: Annotated[str, typer.Argument(help="its id, or its name in any case of its letters")],
    last_week: Annotated[bool, typer.Option("--last-week", help="the ISO week before this one, from Monday")] = False,
    this_month: Annotated[bool, typer.Option("--this-month", help="this is the default")] = False,
    last_month: Annotated[bool, typer.Option("--last-month", help="the whole calendar month before this one")] = False,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=[_DATE], metavar="DATE", help="first day, such as 2026-11-16")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=[_DATE], metavar="DATE", help="last day, included; else today")
    ] = None,
    meter: Annotated[
        str | None, typer.Option(metavar="NAME", help="a meter of meters.csv, such as tokens; else the main one")
    ] = None,
    utc: Annotated[bool, typer.Option("--utc", help="UTC days, as Stripe bills them")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV, one row for each day")] = False,
) -> None:
    """How much an account, by id or name, used on each day of the business zone. Reads the published copy."""
    config = load_settings()
    zone = ZoneInfo("UTC") if utc else config.zone
    today = config.now().astimezone(zone).date()
    flags = {"last week": last_week, "this month": this_month, "last month": last_month}
    asked = [name for name, is_asked in flags.items() if is_asked]
    if len(asked) + bool(first or last) > 1:
        raise typer.BadParameter("one period at a time: --last-week, --this-month, --last-month, or --from and --to")
    if last and not first:
        raise typer.BadParameter("--to needs a --from")
    if first:
        name = ""
        try:
            days = periods.days_between(first.date(), last.date() if last else today, today, zone)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    else:
        name = asked[0] if asked else "this month"
        days = _PERIODS[name](today)
    try:
        meters, rows = account_usage.usage(config.published, account, *days, zone, meter)
    except (published_copy.NothingPublishedError, *account_usage.UNKNOWN) as error:
        fail(str(error))
    if as_csv:
        columns = account_usage.USAGE_COLUMNS
        print_rows(columns, [[row[name] for name in columns] for row in rows], as_csv)
    else:
        usage_tables.print_usage(meters, name, days, rows, zone)


@app.command()
def digest(
    preview: Annotated[bool, typer.Option("--preview", help="show it, which is what the command does anyway")] = True,
    on: Annotated[
        datetime | None, typer.Option("--date", formats=[_DATE], metavar="DATE", help="its day; else the latest")
    ] = None,
    redraw: Annotated[
        bool, typer.Option("--redraw", help="use current figures and templates, even if it was decided before")
    ] = False,
) -> None:
    """Preview the digest of a day, as Slack has it or would get it now. Sends nothing: `headroom run` does."""
    from orchestration.channels.slack.blocks import digest_payloads
    from orchestration.channels.slack.page import slack_page
    from orchestration.messages.digest import preview_digest

    config = load_settings()
    day = on.date() if on else periods.latest_digest_date(config.now(), config.zone)
    try:
        billed = standing(meter_ledger(config), config.now())
        render = partial(digest_payloads, with_files=config.slack_files)
        shown = preview_digest(config, day, "slack", render, billed, print_error, redraw)
    except published_copy.NothingPublishedError as error:
        fail(str(error))
    payload, replies = shown.payload, shown.replies
    title = f"Usage digest {day}"
    html = slack_page(title, shown.status, payload, replies, shown.users, shown.at)
    page = None
    try:
        page = preview_pages.write(config.data / "preview", day, html)
    except OSError as error:  # the words are worth more than the page
        print_error(failures.sentence_of(error) or str(error))
    tables.print_preview(payload["digest"], replies, shown.status, page)


@app.command("backup")
def back_up(folder: Annotated[Path, typer.Argument(help="a folder that does not exist yet")]) -> None:
    """Copy ledger and lake, both as of one moment, into a new folder. Jobs may run meanwhile."""
    from orchestration.cli import backup

    try:
        made = backup.make(load_settings(), folder.absolute(), lambda: datetime.now(UTC))
    except (ValueError, OSError, LakeBucketError) as error:
        fail(failures.sentence_of(error) or str(error))
    batches = counted(made.batches, "batch", "batches")
    console.print(f"{made.folder}: the ledger and {batches}, {counted(made.bytes, 'byte')}.", soft_wrap=True)


@app.command("doctor")
def examine(
    strict: Annotated[
        bool, typer.Option("--strict", help="for cron: print problems only, and exit 1 if there are any")
    ] = False,
    is_configuration: Annotated[
        bool, typer.Option("--configuration", help="only list the variables, their values and where they are set")
    ] = False,
) -> None:
    """Check everything that a run needs, and say how to repair it. Exits 1 if a run would fail."""
    from orchestration.cli import doctor, doctor_configuration

    config, is_well = load_settings(), True
    failures.quiet_retries()
    if is_configuration:
        tables.print_variables(doctor_configuration.variables(config))
        return
    for finding in doctor.examine(config):
        if finding.problem or not strict:
            print_findings([finding])
        is_well &= not (finding.problem and (finding.is_needed or strict))
    if not is_well:
        raise typer.Exit(1)


@app.command()
def rejected(
    limit: Annotated[int, typer.Option(min=0, help="lines to show for each reason")] = 5,
    replay: Annotated[bool, typer.Option("--replay", help="check the lines again under today's rules")] = False,
) -> None:
    """Show rejected lines, the reason, and how to repair them."""
    config = load_settings()
    if replay:
        lake = Lake(config.lake, config.lake_url)
        try:
            meters = seeds.read_meters(config.dbt_project)
            with lake.writing():
                tables.print_replay(lake.replay(config.now(), meters))
        except (LakeBucketError, seeds.MetersError) as error:
            fail(str(error))
        return
    try:
        tables.print_rejected(config, limit)
    except published_copy.NothingPublishedError as error:
        fail(str(error))


@app.command()
def collect(
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="processes on the port (default: HEADROOM_COLLECT_WORKERS)")
    ] = None,
) -> None:
    """Receive events over HTTP on 127.0.0.1, until Ctrl-C. Writes each event to disk before it answers."""
    from orchestration.collector.server import serve
    from orchestration.collector.spool import HungWriterError

    try:
        config = load_settings()
        status = serve(config.model_copy(update={"collect_workers": workers}) if workers else config)
    except (ValueError, HungWriterError) as error:
        fail(str(error))
    if status:
        raise typer.Exit(status)


def main() -> None:
    """Entry point: what people can do something about is printed as a sentence, not as a traceback."""
    settings.keep_new_files_private()
    sys.argv[1:] = failures.without_debug(sys.argv[1:])
    if status := failures.in_sentences(app):
        sys.exit(status)


if __name__ == "__main__":
    main()
