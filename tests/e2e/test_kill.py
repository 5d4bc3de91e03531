"""After kills at any moment, and after the loss of everything but yesterday's backup: the figures, the reports and the
channel are those of one undisturbed installation.
"""

import math
import os
import random
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration import demo
from tests.e2e.program import NOW, Process, Program, finish, kill
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
    "select stripe_customer_id, hour_start, revision, units, identifier, state from meter_reports"
    " join report_customers on customer_id = report_customers.id order by 1, 2, 3"
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
    undisturbed = program.fork("run")
    effort = 0.8 * work_seconds(undisturbed)  # of the next ones, as dbt's parse is kept
    finish(undisturbed)
    calm = outcome(program, slack)
    assert all(calm.values())
    assert {"local|digest|2024-11-20|slack", "usage-digest-local-2024-11-20.csv"} <= set(calm["counts"])
    assert set(calm["counts"].values()) == {1}
    forget_all(program, slack)

    shares = [(number + random.Random(number).random()) / KILLS for number in range(KILLS)]
    random.Random(7).shuffle(shares)
    for share in shares:
        while not is_killed(program, effort * share):
            effort *= 0.8
    program.let_the_doubt_end()  # an attempt that was killed is looked up, and made again when it is old
    program.run("run")

    assert outcome(program, slack) == calm
    assert run_statuses(program) <= {"SUCCESS", "FAILURE"}


def test_restored_backup_counts_everything_and_posts_nothing_twice(
    program: Program, slack: FakeSlack, tmp_path: Path
) -> None:
    said = program.run("backup", str(tmp_path / "backups" / "monday")).stdout
    assert re.search(r"the ledger and \d+ batches", said)
    assert "already exists. Name a new folder" in program.run("backup", str(tmp_path / "backups"), status=1).stderr

    hours = [datetime.fromisoformat(NOW) + timedelta(hours=hour) for hour in range(1, 23)]
    land(program.landing, "late.ndjson", *(make_event("new", f"{hour:%Y-%m-%dT%H:%M:%SZ}") for hour in hours))
    program.run("run", HEADROOM_NOW=LATER)
    figures, posted = tables(program), slack.counts()
    assert {"local|digest|2024-11-20|slack", "local|digest|2024-11-21|slack"} <= set(posted)
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
    assert "--redraw" not in again.stdout, "it was sent"


def is_killed(program: Program, effort: float) -> bool:
    """Start a run, and kill it when it has worked so many seconds; False if it has ended before."""
    process = program.fork("run")
    work_seconds(process, effort)
    if process.poll() is None:
        kill(process)
        return True
    process.communicate()
    return False


def work_seconds(process: Process, until: float = math.inf) -> float:
    """What it and its processes use of the processor, until it has ended or used so much.

    Seconds of the clock say nothing of how far it is: beside other work each run takes another number of them.
    """
    used = 0.0
    while process.poll() is None and used < until:
        time.sleep(0.05)
        used = max(used, sum(map(_ticks, _of_session(process.pid))) / os.sysconf("SC_CLK_TCK"))
    return used


def _of_session(leader: int) -> Iterator[list[str]]:
    """What the kernel says of each process that the leader has started, from its state on."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                yield fields


def _ticks(fields: list[str]) -> int:
    """Of the process, and of those that it has waited for."""
    return sum(map(int, fields[11:15]))


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
