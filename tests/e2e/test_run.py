"""`headroom` as a person uses it: the exit status, what is printed, what is left behind."""

import csv
import io
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from decimal import Decimal

import pytest

from tests.e2e.program import DAY, NOW, STRIPE_KEY, Program, duplicate_an_event, finish
from tests.fakes.monitor import Monitor
from tests.fakes.slack import FakeSlack
from tests.fakes.stripe import FakeStripe
from tests.support.builders import land, make_event, make_quota
from tests.support.waiting import RUN_SECONDS, wait_until

ACCOUNTS = """\
account_id,name,owner,plan,mrr,stripe_customer_id
acme,Acme Corp,dana@example.com,growth,499.00,cus_acme
"""


def land_small(program: Program) -> None:
    """acme at 8 of 10 since 19 November noon, beta with neither quota nor account, and two bad lines."""
    program.data.mkdir(parents=True, exist_ok=True)
    (program.data / "accounts.csv").write_text(ACCOUNTS)
    calls = [make_event("acme", f"2024-11-19T12:{minute:02}:00Z") for minute in range(7)]
    today = [make_event("acme", "2024-11-20T06:30:00Z"), make_event("beta", "2024-11-20T06:45:00Z")]
    land(program.landing, "quotas.ndjson", make_quota("acme", 10, "2024-11-01T00:00:00Z"))
    land(
        program.landing,
        "calls.ndjson",
        *calls,
        *today,
        calls[0],
        "{broken",
        make_event("acme", "2024-11-19T12:30:00Z", event="page_view"),
    )


@pytest.fixture(scope="module")
def stripe() -> Iterator[FakeStripe]:
    """A meter of hours, on the day of the run."""
    with FakeStripe() as server:
        server.keys[STRIPE_KEY] = None
        server.clock = datetime.fromisoformat(NOW).timestamp
        server.add_meter("api-calls", "hour")
        server.add_customer("cus_acme")
        yield server


ODD = """it's 100%; $HOME, x] {y} "é" &=@:~!|<`b`"""
"""What a path may have in it, and a URL, a glob, a format, SQL or markup reads as its own."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, stripe: FakeStripe) -> Program:
    """One data folder, in a folder with an odd name, on which one whole run was made."""
    program = Program(
        tmp_path_factory.mktemp("run") / ODD, {"STRIPE_API_KEY": STRIPE_KEY, "STRIPE_API_BASE": stripe.url}
    )
    land_small(program)
    program.run("run")
    return program


def calls_by_day(program: Program) -> list[tuple[str, int, int]]:
    """Of each account, by the day of November."""
    days = program.rows("select account_id, usage_date, calls from daily_usage order by all")
    return [(day["account_id"], day["usage_date"].day, day["calls"]) for day in days]


def digest_lines(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("Digest of")]


# The tests of this module follow one another on the same folder.


def test_run_builds_the_figures(program: Program, stripe: FakeStripe) -> None:
    [acme, beta] = program.rows(
        "select account_id, quota_state, quota, used_today, used_mtd, pct_of_cap, severity, stripe_customer_id"
        " from utilization_mtd order by account_id"
    )

    assert list(acme.values()) == ["acme", "limited", 10, 1, 8, Decimal(80), "warm", "cus_acme"]
    assert list(beta.values()) == ["beta", "unknown", None, 1, 1, None, None, None]
    assert calls_by_day(program) == [("acme", 19, 7), ("acme", 20, 1), ("beta", 20, 1)]
    assert sorted(stripe.totals("cus_acme", "api-calls").values()) == [1, 7]
    query = "select last_arrived_at, hours_since_call, hours_since_arrival, complete_pct from data_quality"
    [quality] = program.rows(query)
    assert list(quality.values()) == [datetime.fromisoformat(NOW), 1, 0, quality["complete_pct"]]
    header, line = program.run("sql", query, "--csv").stdout.splitlines()
    assert header == ",".join(quality)
    assert line == f"2024-11-20T08:00:00+00:00,1,0,{quality['complete_pct']:f}"


def test_run_prints_what_it_did_and_does_nothing_twice(program: Program, stripe: FakeStripe) -> None:
    reports = program.ledger("select * from meter_reports")
    with Monitor() as monitor:
        result = program.run("run", HEADROOM_HEARTBEAT_URL=monitor.url)
    assert monitor.asked == ["/ping/s3cr3t"]

    assert "Ingested 0 events from 0 new lines (0 duplicates, 0 rejected)." in result.stdout
    [line] = digest_lines(result.stdout)
    assert line.startswith(f"Digest of {DAY}: already previewed")
    assert "`headroom digest --redraw` shows it with the new figures." in " ".join(result.stdout.split())
    assert "Stripe: nothing new to report (8 billable units, 1 more without" in result.stdout
    assert program.ledger("select * from meter_reports") == reports
    assert len(stripe.events) == 2
    parts = ("", ":1", ":2", ":3", ":4")  # message, details, notes, picture, table
    keys = [f"local|digest|{DAY}|slack{part}" for part in parts]
    assert program.ledger("select key, state from deliveries order by key") == [(key, "previewed") for key in keys]
    assert not result.stderr


def test_deliveries_lists_and_shows_the_digest(program: Program) -> None:
    listed = program.ask("deliveries").stdout
    shown = program.ask("deliveries", "--show", f"local|digest|{DAY}").stdout

    assert f"local|digest|{DAY}|slack     previewed" in listed
    assert "Stripe api-calls: 2 customer-hours sent of 1 customer," in listed
    for text in ("Usage digest · Wed 20 Nov\n", "No forecast yet: watch (1)\n    Acme Corp 80 %\n", "2 lines rejected"):
        assert text in shown
    details, table = (program.ask("deliveries", "--show", f"local|digest|{DAY}|slack:{n}").stdout for n in (1, 4))
    assert "8 / 10 calls (80.0 %)" in details
    assert "dana@example.com" in table
    assert "there is no delivery 'nothing'" in program.ask("deliveries", "--show", "nothing", status=1).stderr


def test_rejected_explains_each_line(program: Program) -> None:
    printed = program.ask("rejected").stdout

    assert "1 × invalid_json — the line is not one JSON value, or not one row of its CSV" in printed
    assert "calls.ndjson:11  {broken" in printed
    assert "1 × unknown_event — " in printed
    assert "calls.ndjson:12  " in printed
    assert "calls.ndjson" not in program.ask("rejected", "--limit", "0").stdout


def test_sql_says_what_is_wrong_when_the_query_is(program: Program) -> None:
    result = program.ask("sql", "select nonsense from daily_usage", status=1)

    assert result.stderr.startswith("headroom: ")
    assert "nonsense" in result.stderr
    assert "Traceback" not in result.stderr


def test_usage_answers_from_the_published_copy(program: Program) -> None:
    month = program.ask("usage", "acme corp").stdout
    unknown = program.ask("usage", "acmee", "--last-week", status=1)

    assert "Acme Corp (acme), this month, Fri 01 Nov 2024 to Sat 30 Nov 2024, UTC days\n8 calls so far" in month
    assert "Quota: 8 of 10 calls, 80.0 %" in month
    assert "headroom: there is no account 'acmee'; the nearest: acme (Acme Corp)" in unknown.stderr
    assert program.ask("usage", "beta", "--last-week", "--csv").stdout.splitlines()[1:] == [
        f"beta,api-calls,2024-11-{day},0,0,calls,True" for day in range(11, 18)
    ]


def test_steps_do_only_what_they_are_named_after(program: Program, stripe: FakeStripe) -> None:
    land(program.landing, "more.ndjson", make_event("acme", "2024-11-20T07:10:00Z"))

    ingested = program.run("run", "--only", "ingest")
    assert "Ingested 1 event from 1 new line" in ingested.stdout
    assert calls_by_day(program) == [("acme", 19, 7), ("acme", 20, 1), ("beta", 20, 1)]
    rejected = program.rows("select * from events_rejected order by all")
    for path in (*program.landing.iterdir(), program.data / "warehouse.duckdb", program.data / "published.duckdb"):
        path.unlink()
    program.run("run", "--only", "models")  # from the lake alone
    assert calls_by_day(program) == [("acme", 19, 7), ("acme", 20, 2), ("beta", 20, 1)]
    assert program.rows("select account_id, used_mtd, quota, severity from utilization_mtd order by all") == [
        {"account_id": "acme", "used_mtd": 9, "quota": 10, "severity": "warm"},
        {"account_id": "beta", "used_mtd": 1, "quota": None, "severity": None},
    ]
    assert program.rows("select * from events_rejected order by all") == rejected != []
    billed = program.rows("select * from billing_reconciliation_hourly order by hour_start")
    figures = [(row["hour_start"], row["billable_units"], row["reported_units"], row["state"]) for row in billed]
    assert [(f"{hour:%d %H}", *rest) for hour, *rest in figures] == [
        ("19 12", 7, 7, "sent"),
        ("20 06", 1, 1, "sent"),
        ("20 07", 1, 0, "unreported"),
    ]
    statement = program.ask("stripe", "statement", "acme", "--csv").stdout  # reads the ledger, not its copy
    hours = list(csv.DictReader(io.StringIO(statement)))[:-1]
    same = ("reported_units", "state", "revisions", "identifier")
    assert [[hour[name] for name in ("units", *same)] for hour in hours] == [
        ["" if row[name] is None else str(row[name]) for name in ("billable_units", *same)] for row in billed
    ]
    assert sum(stripe.totals("cus_acme", "api-calls").values()) == 8
    assert "Stripe: took 1 of 1 new customer-hour of 1 customer (" in program.run("run", "--only", "stripe").stdout
    assert sum(stripe.totals("cus_acme", "api-calls").values()) == 9
    explained = program.ask("stripe", "explain", "Acme Corp", "2024-11-20T07").stdout
    assert "1 unit counted and reported; sent" in explained
    digest = program.run("run", "--only", "digest")
    assert "already previewed" in digest.stdout
    assert "Ingested" not in digest.stdout


def test_ctrl_c_prints_one_line_and_leaves_no_run_open(program: Program) -> None:
    def statuses() -> set[str]:
        with closing(sqlite3.connect(program.data / "dagster" / "history" / "runs.db")) as connection:
            return {status for (status,) in connection.execute("select status from runs")}

    process = program.start("run")
    wait_until(lambda: process.poll() is not None or "STARTED" in statuses(), RUN_SECONDS)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
    stopped = finish(process, 128 + signal.SIGINT)

    assert stopped.stdout == ""
    assert stopped.stderr == "headroom: stopped by Ctrl-C: finished work is kept, and the next run does the rest\n"
    assert statuses() == {"SUCCESS", "FAILURE"}


def test_configuration_is_refused_in_a_sentence(program: Program) -> None:
    result = program.run("run", status=2, HEADROOM_NOW="2024-11-20 08:00")

    assert "HEADROOM_NOW needs an offset" in result.stderr
    assert "Traceback" not in result.stderr


def test_failed_check_stops_sending_and_keeps_the_published_copy(program: Program) -> None:
    duplicate_an_event(program.data / "lake" / "batches")
    land(program.landing, "late.ndjson", make_event("acme", "2024-11-20T07:20:00Z"))
    published = (program.data / "published.duckdb").read_bytes()
    sent = program.ledger("select * from deliveries"), program.ledger("select * from meter_reports")

    with FakeSlack() as slack:
        program.with_slack(slack)
        result = program.run("run", status=1, HEADROOM_NOW="2024-11-21T08:00:00Z")

    assert "models failed: " in result.stderr
    assert "calls_are_distinct: Got " in result.stderr
    assert "nothing was published or sent" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert "Digest of" not in result.stdout
    assert slack.requests == []
    assert "Stripe: " not in result.stdout
    assert (program.data / "published.duckdb").read_bytes() == published
    assert (program.ledger("select * from deliveries"), program.ledger("select * from meter_reports")) == sent


def test_files_are_for_owner_and_group_and_in_the_folder_alone(program: Program) -> None:
    open_files = [
        path for path in program.files() if path.stat().st_mode & 0o027 and path != program.data / "accounts.csv"
    ]
    assert not open_files
    for name in ("ledger.sqlite", "warehouse.duckdb", "published.duckdb", "lake/kept_from.parquet"):
        assert (program.data / name).is_file()
    assert [path.name for path in program.folder.parent.iterdir()] == [ODD]
    # where Dagster does not find its settings, it makes an id for its telemetry first
    assert not (program.data / "dagster" / ".telemetry").exists()
