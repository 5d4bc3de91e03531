"""SIGKILL at any moment, and run again: the figures, the reports and the channel are those of one undisturbed run."""

import random
import sqlite3
import subprocess
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from orchestration import demo
from orchestration.storage import warehouse
from tests.e2e.program import NOW, Program, kill
from tests.fakes import FakeSlack

KILLS = 4
TABLES = {
    "daily_usage": "*",
    "utilization_mtd": "*",
    "threshold_crossings": "* exclude (counted_by)",  # tells lakes apart
    "billable_usage_hourly": "*",
    "events_rejected": "*",
}
REPORTS = (
    "select stripe_customer_id, hour_start, revision, units, identifier, state from meter_reports order by 1, 2, 3"
)
CROSSINGS = "select account_id, threshold, outcome from announced_crossings order by 1, 2"


def test_figures_reports_and_messages_are_the_same_when_runs_were_killed(tmp_path: Path) -> None:
    with FakeSlack() as calm_slack, FakeSlack() as slack:
        calm, program = make_program(tmp_path / "calm", calm_slack), make_program(tmp_path / "killed", slack)
        calm.run("run")
        started = time.monotonic()
        calm.run("run")  # warm, as most of the killed ones are
        duration = time.monotonic() - started

        shares = [(number + random.Random(number).random()) / KILLS for number in range(KILLS)]
        random.Random(7).shuffle(shares)
        kills = 0
        for share in shares:
            lasted = run_and_kill(program, duration * share)
            kills += lasted is None
            duration = min(duration, lasted or duration)  # a machine that was busy before may not be any more
        program.let_a_minute_pass()  # an attempt that was killed is looked up, and made again when it is old
        program.run("run")

        assert kills >= KILLS // 2
        for table in TABLES:
            assert rows(program, table) == rows(calm, table) != [], table
        assert program.ledger(REPORTS) == calm.ledger(REPORTS) != []
        assert program.ledger(CROSSINGS) == calm.ledger(CROSSINGS) != []
        assert slack.counts() == calm_slack.counts()
        assert set(slack.counts().values()) == {1}
        assert {"local|digest|2024-11-20", "usage-digest-local-2024-11-20.csv"} <= set(slack.counts())
        assert slack.messages[0]["blocks"] == calm_slack.messages[0]["blocks"]
        assert files(slack) == files(calm_slack)
        assert run_statuses(program) <= {"SUCCESS", "FAILURE"}


def make_program(folder: Path, slack: FakeSlack) -> Program:
    program = Program(folder)
    program.with_slack(slack)
    now = datetime.fromisoformat(NOW).astimezone(UTC)
    program.data.mkdir()
    demo.generate(program.landing, program.data / "accounts.csv", now=now, accounts=30, days=25, events=20_000)
    return program


def run_and_kill(program: Program, moment: float) -> float | None:
    """Start a run, and kill it that many seconds later; how long it took, if it has ended before."""
    started = time.monotonic()
    process = program.start("run")
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        kill(process)
        return None
    process.communicate()
    return time.monotonic() - started


def rows(program: Program, table: str) -> list[dict[str, object]]:
    return warehouse.query(program.data / "published.duckdb", f"select {TABLES[table]} from {table} order by all")


def files(slack: FakeSlack) -> dict[str, bytes]:
    """What is in the files of the thread."""
    shared = [file for reply in slack.threads.popitem()[1] for file in reply.get("files", ())]
    return {file["name"]: slack.uploads[file["id"]]["content"] for file in shared}


def run_statuses(program: Program) -> set[str]:
    """How Dagster's runs have ended, as the UI shows them."""
    with closing(sqlite3.connect(program.data / "dagster" / "history" / "runs.db")) as connection:
        return {status for (status,) in connection.execute("select status from runs")}
