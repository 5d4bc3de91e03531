"""After kills at any moment, and after the loss of everything but yesterday's backup: the figures, the reports and the
channel are those of one undisturbed installation.
"""

import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestration import demo
from tests.builders import land, make_event
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
LATER = "2024-11-21T08:00:00Z"


@dataclass(frozen=True)
class House:
    """An installation, its channel, and how long its first run took."""

    program: Program
    slack: FakeSlack
    seconds: float


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demo events, and accounts.csv."""
    folder = tmp_path_factory.mktemp("demo")
    now = datetime.fromisoformat(NOW).astimezone(UTC)
    demo.generate(folder / "landing", folder / "accounts.csv", now=now, accounts=30, days=25, events=5_000)
    return folder / "landing"


@pytest.fixture(scope="module")
def calm(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """It ran once, undisturbed."""
    with FakeSlack() as slack:
        program = make_program(tmp_path_factory.mktemp("calm"), landing, slack)
        started = time.monotonic()
        program.run("run")
        yield House(program, slack, time.monotonic() - started)


def make_program(folder: Path, landing: Path, slack: FakeSlack) -> Program:
    program = Program(folder)
    program.with_slack(slack)
    program.data.mkdir()
    shutil.copytree(landing, program.landing, dirs_exist_ok=True)
    shutil.copy(landing.parent / "accounts.csv", program.data)
    return program


# The second test goes on with what the first one has compared with.


def test_figures_reports_and_messages_are_the_same_when_runs_were_killed(
    calm: House, landing: Path, tmp_path: Path
) -> None:
    with FakeSlack() as slack:
        program = make_program(tmp_path, landing, slack)
        shares = [(number + random.Random(number).random()) / KILLS for number in range(KILLS)]
        random.Random(7).shuffle(shares)
        kills, duration = 0, 0.8 * calm.seconds  # in a folder that was used before, as most of the killed runs are
        for share in shares:
            lasted = run_and_kill(program, duration * share)
            kills += lasted is None
            duration = min(duration, lasted or duration)  # a machine that was busy before may not be any more
        program.let_a_minute_pass()  # an attempt that was killed is looked up, and made again when it is old
        program.run("run")

        assert kills >= KILLS // 2
        for table in TABLES:
            assert rows(program, table) == rows(calm.program, table) != [], table
        assert program.ledger(REPORTS) == calm.program.ledger(REPORTS) != []
        assert program.ledger(CROSSINGS) == calm.program.ledger(CROSSINGS) != []
        assert slack.counts() == calm.slack.counts()
        assert set(slack.counts().values()) == {1}
        assert {"local|digest|2024-11-20", "usage-digest-local-2024-11-20.csv"} <= set(slack.counts())
        assert slack.messages[0]["blocks"] == calm.slack.messages[0]["blocks"]
        assert files(slack) == files(calm.slack)
        assert run_statuses(program) <= {"SUCCESS", "FAILURE"}


def test_restored_backup_counts_everything_and_posts_nothing_twice(calm: House, tmp_path: Path) -> None:
    program, slack = calm.program, calm.slack
    said = program.run("backup", str(tmp_path / "backups" / "monday")).stdout
    assert "the ledger and 2 batches" in said
    assert "exists: name a folder" in program.run("backup", str(tmp_path / "backups"), status=1).stderr

    hours = [datetime.fromisoformat(NOW) + timedelta(hours=hour) for hour in range(1, 23)]
    land(program.landing, "late.ndjson", *(make_event("new", f"{hour:%Y-%m-%dT%H:%M:%SZ}") for hour in hours))
    program.run("run", HEADROOM_NOW=LATER)
    figures, posted = {table: rows(program, table) for table in TABLES}, slack.counts()
    assert {"local|digest|2024-11-20", "local|digest|2024-11-21"} <= set(posted)
    assert set(posted.values()) == {1}

    shutil.rmtree(program.data)
    shutil.copytree(tmp_path / "backups" / "monday", program.data)
    slack.requests.clear()
    restored = program.run("run", HEADROOM_NOW=LATER)
    assert "Ingested 22 events from 22 new lines" in restored.stdout
    assert {table: rows(program, table) for table in TABLES} == figures
    assert slack.counts() == posted
    assert "chat.postMessage" not in slack.methods()
    assert "conversations.history" in slack.methods()
    again = program.run("run", "--only", "digest", HEADROOM_NOW=LATER)
    assert "Nothing is announced twice" in again.stdout


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
    return program.rows(f"select {TABLES[table]} from {table} order by all")


def files(slack: FakeSlack) -> dict[str, bytes]:
    """What is in the files of the thread."""
    [thread] = slack.threads.values()
    shared = [file for reply in thread for file in reply.get("files", ())]
    return {file["name"]: slack.uploads[file["id"]]["content"] for file in shared}


def run_statuses(program: Program) -> set[str]:
    """How Dagster's runs have ended, as the UI shows them."""
    with closing(sqlite3.connect(program.data / "dagster" / "history" / "runs.db")) as connection:
        return {status for (status,) in connection.execute("select status from runs")}
