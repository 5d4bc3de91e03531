"""`headroom` in the shell: the jobs that the schedules start, and what they left behind, for people.

Commands print and call; what they call is elsewhere. Dagster and dbt are imported only by the commands that run
something, so that the others answer at once.
"""

import csv
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestration import settings
from orchestration.channels.preview import SEVERITY_STYLES, print_digest
from orchestration.delivery.ledger import Ledger, State
from orchestration.settings import Settings
from orchestration.storage import landing, warehouse
from orchestration.storage.dbt import DbtProject
from orchestration.usage.digest import format_pct, hits_cap, sparkline
from orchestration.usage.events import Rejection
from orchestration.usage.periods import latest_digest_date

app = typer.Typer(
    help="Which account comes close to its API quota, and the same count billed exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(width=None if sys.stdout.isatty() else 170, soft_wrap=False, highlight=False)

DAGSTER_YAML = """\
# Written once by `headroom`; yours to change. See deploy/ for Postgres.
telemetry: {enabled: false}
nux: {enabled: false}
run_monitoring: {enabled: true}
concurrency: {runs: {max_concurrent_runs: 2}}
"""
PID_TAG = "headroom/pid"
DAGSTER = (
    "import runpy, warnings, dagster; warnings.simplefilter('ignore');"  # it warns of its own command otherwise
    " runpy.run_module('dagster', run_name='__main__')"
)


class Part(StrEnum):
    """What `headroom run --only` can run."""

    INGEST = "ingest"
    MODELS = "models"
    DIGEST = "digest"
    STRIPE = "stripe"


@app.command()
def demo() -> None:
    """Run the whole job once and show its result; with demo events if nothing landed yet."""
    config = _settings()
    if not config.is_production and not (config.landing.is_dir() and landing.scan(config.landing)[0]):
        generate(accounts=300, days=45, events=150_000, seed=7)
    run(only=None)
    console.print()
    _print_utilization(config)


@app.command()
def run(
    only: Annotated[Part | None, typer.Option(help="run one part instead of the whole job")] = None,
) -> None:
    """Run the whole job once: ingest, marts and their checks, publish, Stripe, digest. Exit status 1 on failure."""
    config = _settings()
    started = time.perf_counter()
    gc.disable()  # a short-lived process: collecting while Dagster and dbt load costs a second of seven
    if only in (None, Part.MODELS):
        DbtProject(*config.dbt_places).warm()
    import dagster as dg

    from orchestration.definitions import headroom

    instance = _dagster_instance(config)

    on = latest_digest_date(config.now(), config.zone).isoformat()
    # a plain `headroom` is a definitions loader; calling it builds the same definitions that the UI loads
    job = headroom().resolve_job_def("daily_job")
    loaded = time.perf_counter()
    with dg.partition_loading_context(effective_dt=config.now()):  # a replay's clock may be ahead of the real one
        result = job.execute_in_process(
            instance=instance,
            partition_key=on,
            asset_selection=_asset_selection(only),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            tags={PID_TAG: str(os.getpid())},
            raise_on_error=False,
        )
    _print_run(config, result, on, loaded - started)
    gc.freeze()  # nor at exit, where it costs another
    if not result.success:
        raise typer.Exit(1)


@app.command()
def ui() -> None:
    """Serve Dagster's UI with schedules and sensors on 127.0.0.1, until Ctrl-C."""
    config = _settings()
    _dagster_home(config)
    port = _free_port(config.port)
    if port != config.port:
        console.print(f"Port {config.port} is taken; using {port}.")
    stopped = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True

    # Handlers first: in a shell without job control SIGINT starts out ignored, and would stay so in the child.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    server = subprocess.Popen(
        [
            *(sys.executable, "-c", DAGSTER, "dev", "--log-level", "warning"),
            *("-h", "127.0.0.1", "-p", str(port)),
        ],
        cwd=settings.PROJECT_ROOT,
        start_new_session=True,
    )
    console.print(f"Dagster's UI is starting on http://127.0.0.1:{port} (Ctrl-C stops it)")
    announced = False
    while server.poll() is None and not stopped:
        if not announced and _answers(port):
            console.print(f"Ready: http://127.0.0.1:{port}")
            announced = True
        time.sleep(0.3)
    _stop(server)
    if not stopped:
        raise typer.Exit(server.returncode or 1)


@app.command()
def generate(
    accounts: Annotated[int, typer.Option(min=1)] = 300,
    days: Annotated[int, typer.Option(min=1, help="days of history, today included")] = 45,
    events: Annotated[int, typer.Option(min=1, help="about how many API calls")] = 150_000,
    seed: int = 7,
) -> None:
    """Write demo events into the landing folder, and an accounts file unless there is one."""
    from orchestration import demo as generator

    config = _settings()
    accounts_csv = config.data / "accounts.csv" if config.accounts is None else config.data / "demo-accounts.csv"
    truth = generator.generate(
        config.landing, accounts_csv, now=config.now(), accounts=accounts, days=days, events=events, seed=seed
    )
    console.print(
        f"Generated {truth.lines:,} demo lines of {len(truth.accounts):,} accounts over {days} days in {config.landing}"
    )


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="for example: select * from utilization_mtd")],
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV instead of a table")] = False,
) -> None:
    """Ask the published copy of the marts; never waits for a running job."""
    import duckdb

    config = _settings()
    try:
        rows = warehouse.query(config.published, query)
    except duckdb.Error as error:
        _fail(str(error))
    except warehouse.NothingPublishedError as error:
        _fail(str(error))
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(rows[0] if rows else [])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
        return
    table = Table(*(rows[0] if rows else []), box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console.print(table)


@app.command()
def deliveries(
    show: Annotated[str | None, typer.Option(help="print the stored message of one key")] = None,
) -> None:
    """What was sent, what waits, what is in doubt."""
    config = _settings()
    ledger = Ledger(config.ledger_url)
    if show:
        delivery = ledger.delivery(show)
        if delivery is None:
            _fail(f"there is no delivery {show!r}; `headroom deliveries` lists the keys")
        if "digest" in delivery.payload:
            print_digest(console, delivery.payload["digest"])
        else:
            console.print(Text(delivery.payload["message"]["text"]))
        return
    table = Table("Key", "State", "Attempts", "Prepared", "Finished", "Receipt or error", box=box.SIMPLE_HEAD)
    for delivery in ledger.deliveries():
        state = "in doubt" if delivery.state is State.SENDING else str(delivery.state)
        table.add_row(
            Text(delivery.key),
            state,
            str(delivery.attempts),
            f"{delivery.created_at:%Y-%m-%d %H:%M}",
            f"{delivery.finished_at:%Y-%m-%d %H:%M}" if delivery.finished_at else "",
            Text(delivery.receipt or delivery.error or ""),
        )
    console.print(table)
    for total in ledger.report_totals():
        console.print(
            f"Stripe {total['meter']}: {total['reports']:,} customer-hours {total['state']}"
            f" of {total['customers']:,} customers, {total['first_hour']:%Y-%m-%d %H:%M}"
            f" to {total['last_hour']:%Y-%m-%d %H:%M} UTC"
        )


@app.command()
def rejected(limit: Annotated[int, typer.Option(min=0, help="lines shown of each reason")] = 5) -> None:
    """Lines that do not count, why, and what to do about it."""
    config = _settings()
    try:
        reasons = warehouse.query(
            config.published,
            "select reason, count(*) as lines from events_rejected group by reason order by lines desc, reason",
        )
    except warehouse.NothingPublishedError as error:
        _fail(str(error))
    if not reasons:
        console.print("No line was rejected.")
    for row in reasons:
        reason = Rejection(row["reason"])
        console.print(Text(f"{row['lines']:,} × {reason}", "bold"), Text(f"— {reason.explanation}"))
        for line in warehouse.query(
            config.published,
            """select landed_file, line_number, line from events_rejected where reason = ?
               order by rejected_at desc, landed_file, line_number limit ?""",
            [str(reason), limit],
        ):
            console.print(Text(f"    {line['landed_file']}:{line['line_number']}  {line['line'][:100]}"))


def main() -> None:
    """Entry point: configuration errors are printed as sentences, not as tracebacks."""
    try:
        app()
    except ValidationError as error:
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            _print_error(f"configuration: {place + ': ' if place else ''}{problem['msg']}")
        sys.exit(2)


def _settings() -> Settings:
    config = settings.load()
    config.export()
    return config


def _asset_selection(only: Part | None) -> list[Any] | None:
    if only is None:
        return None
    from orchestration.definitions import headroom
    from orchestration.defs import automation

    selection = {
        Part.INGEST: automation.INGEST,
        Part.MODELS: automation.MODELS,
        Part.DIGEST: automation.DIGEST,
        Part.STRIPE: automation.STRIPE,
    }[only]
    return sorted(selection.resolve(headroom().resolve_asset_graph()))


def _dagster_home(config: Settings) -> None:
    config.dagster_home.mkdir(parents=True, exist_ok=True)
    if not (config.dagster_home / "dagster.yaml").exists():
        (config.dagster_home / "dagster.yaml").write_text(DAGSTER_YAML)


def _dagster_instance(config: Settings) -> Any:
    """Dagster's instance; runs of this command that were killed are closed, so that the UI does not show them alive."""
    import dagster as dg

    _dagster_home(config)
    instance = dg.DagsterInstance.get()
    status = dg.DagsterRunStatus
    alive = dg.RunsFilter(statuses=[status.NOT_STARTED, status.STARTING, status.STARTED])
    for dagster_run in instance.get_runs(filters=alive):
        pid = dagster_run.tags.get(PID_TAG)
        if pid and not Path("/proc", pid).exists() and not _is_running(int(pid)):
            instance.report_run_failed(dagster_run, f"process {pid} was killed")
    return instance


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _free_port(wanted: int) -> int:
    port = next((port for port in range(wanted, min(wanted + 100, 65536)) if _can_bind(port)), None)
    return port or _fail(f"no port between {wanted} and {wanted + 99} is free; set HEADROOM_PORT")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """Ask Dagster to stop, then end whatever is left of its process group."""
    if server.poll() is None:
        server.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)
    try:
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    server.wait()


def _print_run(config: Settings, result: Any, on: str, load_seconds: float) -> None:
    import dagster as dg

    steps = []
    for event in result.all_events:
        if event.is_step_success:
            steps.append(f"{event.step_key} {event.step_success_data.duration_ms / 1000:.1f} s")
        elif event.is_step_failure:
            steps.append(f"{event.step_key} FAILED")
            _print_error(f"{event.step_key} failed: {_reason(event.step_failure_data)}")
        elif event.event_type is dg.DagsterEventType.STEP_SKIPPED:
            steps.append(f"{event.step_key} skipped")
    console.print(Text(f"load {load_seconds:.1f} s · {' · '.join(steps)}", "dim"))
    if not result.success:
        _print_error(f"run {result.run_id}: `headroom ui` shows its log; what did not run waits for the next run")
    figures = {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization.metadata
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION
    }
    if raw := figures.get("raw_events"):
        refused = figures["rejected_lines"]["events_rejected"].value
        for entry in raw["skipped"].value:
            _print_error(f"not read: {config.landing / entry['path']} {entry['reason']}")
        console.print(
            f"Ingested {raw['events_accepted'].value:,} events from {raw['lines'].value:,} new lines"
            f" ({raw['duplicates'].value:,} duplicates, {refused:,} rejected)."
        )
    if digest := figures.get("usage_digest"):
        console.print()
        outcome = digest["outcome"].value
        if outcome.startswith(("already", "nothing")):
            console.print(f"Digest of {on}: {outcome}. Nothing is announced twice.")
        else:
            delivery = Ledger(config.ledger_url).delivery(digest["key"].value)
            if delivery:
                print_digest(console, delivery.payload["digest"])
            console.print(Text(f"{outcome[0].upper()}{outcome[1:]}.", "dim"))
    if stripe := figures.get("stripe_usage"):
        verb = "would send" if stripe["state"].value == State.PREVIEWED else "recorded"
        console.print(
            f"Stripe: {verb} {stripe['reports'].value:,} customer-hours of {stripe['customers'].value:,} customers"
            f" ({stripe['units_in_window'].value:,} units in the open periods,"
            f" {stripe['units_without_customer'].value:,} more without a Stripe customer)."
        )


def _reason(failure: Any) -> str:
    """The sentence of an expected failure, the last cause of an unexpected one."""
    if failure.user_failure_data:
        return str(failure.user_failure_data.description)
    error = failure.error
    while error.cause:
        error = error.cause
    return str(error.message.strip())


def _print_utilization(config: Settings, limit: int = 15) -> None:
    """The accounts at half their quota or above, soonest cap first."""
    rows = [row for row in warehouse.query(config.published, warehouse.UTILIZATION) if (row["pct_of_cap"] or 0) >= 50]
    calls = {row["account_id"]: row["calls"] for row in warehouse.query(config.published, warehouse.DAILY_CALLS)}
    console.print(Text(f"Utilization: {len(rows):,} accounts at 50 % of their quota or above", "bold"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in (
        "Account",
        "Severity",
        "Used today",
        "Used / quota",
        "Of cap",
        "14 days",
        "Hits cap",
        "Projected",
    ):
        right = name in ("Used today", "Used / quota", "Of cap", "Projected")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in rows[:limit]:
        projected = row["projected_eom"]
        table.add_row(
            Text(row["account_name"] or row["account_id"]),
            Text(row["severity"], SEVERITY_STYLES.get(row["severity"], "")),
            f"{row['used_today']:,}",
            f"{row['used_mtd']:,} / {row['quota']:,}",
            format_pct(row["pct_of_cap"]),
            sparkline(calls.get(row["account_id"], ())),
            hits_cap({**row, "used": row["used_mtd"]}, row["as_of"].astimezone(config.zone).date()),
            f"{projected:,}" if projected is not None else "too early",
        )
    console.print(table)
    if len(rows) > limit:
        console.print(Text(f"… and {len(rows) - limit:,} more: headroom sql 'select * from utilization_mtd'", "dim"))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)


def _print_error(message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(f"headroom: {message}", "red"))


def _fail(message: str) -> NoReturn:
    _print_error(message)
    raise typer.Exit(1)


if __name__ == "__main__":
    main()
