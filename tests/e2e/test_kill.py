"""After kills at any moment, and after the loss of everything but yesterday's backup: the figures, the reports and the
channel are those of one undisturbed installation.
"""

import random
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration import demo
from tests.e2e.program import NOW, Program, kill
from tests.fakes.slack import FakeSlack
from tests.support.builders import land, make_event

KILLS = 4
TABLES = {
    "daily_usage": "*",
    "utilization_mtd": "*",
    "threshold_crossings": "*",
    "billable_usage_hourly": "*",
    "events_rejected": "*",
}
REPORTS = (
    "select stripe_customer_id, hour_start, revision, units, identifier, state from meter_reports order by 1, 2, 3"
)
CROSSINGS = "select account_id, threshold, outcome from announced_crossings order by 1, 2"
LATER = "2024-11-21T08:00:00Z"


@pytest.fixture(scope="module")
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        yield server


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, slack: FakeSlack) -> Program:
    program = Program(tmp_path_factory.mktemp("kill"))
    program.with_slack(slack)
    now = datetime.fromisoformat(NOW).astimezone(UTC)
    program.data.mkdir()
    demo.generate(program.landing, program.data / "accounts.csv", now=now, accounts=30, days=25, events=5_000)
    return program


# The second test goes on where the first one ends.


def test_figures_reports_and_messages_are_the_same_when_runs_were_killed(program: Program, slack: FakeSlack) -> None:
    started = time.monotonic()
    program.run("run")
    duration = 0.8 * (time.monotonic() - started)  # of the next ones, as dbt's parse is kept
    calm = outcome(program, slack)
    assert all(calm.values())
    assert {"local|digest|2024-11-20", "usage-digest-local-2024-11-20.csv"} <= set(calm["counts"])
    assert set(calm["counts"].values()) == {1}
    forget_all(program, slack)

    shares = [(number + random.Random(number).random()) / KILLS for number in range(KILLS)]
    random.Random(7).shuffle(shares)
    for share in shares:
        while lasted := run_and_kill(program, duration * share):
            duration = 0.8 * min(duration, lasted)  # a machine that was busy before may not be any more
    program.let_a_minute_pass()  # an attempt that was killed is looked up, and made again when it is old
    program.run("run")

    assert outcome(program, slack) == calm
    assert run_statuses(program) <= {"SUCCESS", "FAILURE"}


def test_restored_backup_counts_everything_and_posts_nothing_twice(
    program: Program, slack: FakeSlack, tmp_path: Path
) -> None:
    said = program.run("backup", str(tmp_path / "backups" / "monday")).stdout
    assert re.search(r"the ledger and \d+ batches", said)
    assert "exists: name a folder" in program.run("backup", str(tmp_path / "backups"), status=1).stderr

    hours = [datetime.fromisoformat(NOW) + timedelta(hours=hour) for hour in range(1, 23)]
    land(program.landing, "late.ndjson", *(make_event("new", f"{hour:%Y-%m-%dT%H:%M:%SZ}") for hour in hours))
    program.run("run", HEADROOM_NOW=LATER)
    figures, posted = tables(program), slack.counts()
    assert {"local|digest|2024-11-20", "local|digest|2024-11-21"} <= set(posted)
    assert set(posted.values()) == {1}

    shutil.rmtree(program.data)
    shutil.copytree(tmp_path / "backups" / "monday", program.data)
    slack.requests.clear()
    restored = program.run("run", HEADROOM_NOW=LATER)
    assert "Ingested 22 events from 22 new lines" in restored.stdout
    assert tables(program) == figures
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


def forget_all(program: Program, slack: FakeSlack) -> None:
    """As if nothing had run yet, but for dbt's parse of the models, which costs seconds."""
    for path in program.data.iterdir():
        if path.is_file() and path.name != "accounts.csv":
            path.unlink()
        elif path.is_dir() and path.name != "dbt":
            shutil.rmtree(path)
    slack.clear()


def outcome(program: Program, slack: FakeSlack) -> dict[str, Any]:
    """What has come of all runs: figures, reports, verdicts, and what stands in the channel."""
    [message], [thread] = slack.messages, slack.threads.values()
    files = [file for reply in thread for file in reply.get("files", ())]
    return {
        **tables(program),
        "reports": program.ledger(REPORTS),
        "crossings": program.ledger(CROSSINGS),
        "counts": slack.counts(),
        "blocks": message["blocks"],
        "files": {file["name"]: slack.uploads[file["id"]]["content"] for file in files},
    }


def tables(program: Program) -> dict[str, list[dict[str, Any]]]:
    return {table: program.rows(f"select {TABLES[table]} from {table} order by all") for table in TABLES}


def run_statuses(program: Program) -> set[str]:
    """How Dagster's runs have ended, as the UI shows them."""
    with closing(sqlite3.connect(program.data / "dagster" / "history" / "runs.db")) as connection:
        return {status for (status,) in connection.execute("select status from runs")}
