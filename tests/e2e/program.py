"""The real program in processes of its own, on a data folder of its own, for the end-to-end tests."""

import io
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.cli import main
from orchestration.settings import PROJECT_ROOT
from orchestration.warehouse import published_copy
from tests.fakes.slack import FakeSlack
from tests.support import forks
from tests.support.waiting import RUN_SECONDS

DAY = "2024-11-20"
"""Long past: Dagster knows no partitions beyond the real clock."""
NOW = f"{DAY}T08:00:00Z"
SLACK_TOKEN = "xoxb-marked-SLACK-secret-4711"
STRIPE_KEY = "sk_test_marked_STRIPE_secret_0815"
INHERITED = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_CONFIG")
"""The last one lets `pytest --cov` measure the program's processes too."""
Process = subprocess.Popen[str] | forks.Fork
NOBODY = "http://127.0.0.1:9"
"""Where nothing listens: no test reaches a vendor by accident."""


@dataclass(frozen=True)
class Result:
    status: int
    stdout: str
    stderr: str


@dataclass
class Program:
    """`headroom` with an environment that is built here and not inherited."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    root: Path = PROJECT_ROOT
    """The checkout that is run."""

    def __post_init__(self) -> None:
        self.landing.mkdir(parents=True, exist_ok=True)
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        own = {"HEADROOM_DATA": str(self.data), "HEADROOM_LANDING": str(self.landing), "HEADROOM_NOW": NOW}
        # `.env` of a developer must not be read: empty values count as not set.
        files = ("HEADROOM_ACCOUNTS", "HEADROOM_SUBJECTS", "HEADROOM_CUSTOMERS")
        unset = dict.fromkeys(("SLACK_BOT_TOKEN", "HEADROOM_SLACK_CHANNEL", "STRIPE_API_KEY", *files), "")
        self.environment = {
            **inherited,
            **unset,
            "HEADROOM_ENV": "local",
            "HEADROOM_TIMEZONE": "UTC",
            "SLACK_API_URL": NOBODY,
            "STRIPE_API_BASE": NOBODY,
            **own,
            **self.environment,
        }

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def landing(self) -> Path:
        return self.folder / "landing"

    def with_slack(self, slack: FakeSlack) -> None:
        """From now on there is a token, and a channel to post to."""
        slack.token = SLACK_TOKEN
        self.environment |= {
            "SLACK_BOT_TOKEN": SLACK_TOKEN,
            "HEADROOM_SLACK_CHANNEL": slack.channel,
            "SLACK_API_URL": slack.url,
        }

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """Start `headroom` as people do, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestration.cli.main", *arguments],
            cwd=self.root,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def fork(self, *arguments: str, **environment: str) -> Process:
        """Start `headroom` as a fork of a process that has imported it, in a process group of its own."""
        if "COVERAGE_PROCESS_CONFIG" in self.environment:
            return self.start(*arguments, **environment)
        return forks.start(self.root, arguments, {**self.environment, **environment}, RUN_SECONDS)

    def run(self, *arguments: str, status: int = 0, **environment: str) -> Result:
        """Run `headroom` to its end, which must have this exit status, as a fork."""
        return finish(self.fork(*arguments, **environment), status)

    def ask(self, *arguments: str, status: int = 0, **environment: str) -> Result:
        """Like `run`, without a process of its own, which costs seconds: for commands that only look."""
        stdout, stderr, end = io.StringIO(), io.StringIO(), 0
        with (
            patch.dict(os.environ, {**self.environment, **environment}, clear=True),
            patch.object(sys, "argv", ["headroom", *arguments]),
            redirect_stdout(stdout),
            redirect_stderr(stderr),
        ):
            try:
                main.main()
            except SystemExit as error:
                end = error.code if isinstance(error.code, int) else 0
        result = Result(end, stdout.getvalue(), stderr.getvalue())
        assert result.status == status, result
        return result

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What the published copy answers."""
        return published_copy.query(self.data / "published.duckdb", query)

    def ledger(self, query: str, *parameters: str) -> list[tuple[object, ...]]:
        """A statement on the ledger, past the program."""
        with closing(sqlite3.connect(self.data / "ledger.sqlite")) as connection, connection:
            return connection.execute(query, parameters).fetchall()

    def let_the_doubt_end(self) -> None:
        """Attempts under way become so old that what Slack does not show did not arrive."""
        if not (self.data / "ledger.sqlite").exists():
            return  # there were none
        past = datetime.now(UTC) - timedelta(minutes=10)
        self.ledger("update deliveries set attempted_at = ? where state = 'sending'", f"{past:%Y-%m-%d %H:%M:%S.%f}")

    def files(self) -> Iterator[Path]:
        """Everything that the program has written."""
        return (path for path in self.data.rglob("*") if path.is_file())


def finish(process: Process, status: int = 0) -> Result:
    """Wait for the end of a started command, which must have this exit status."""
    stdout, stderr = process.communicate(timeout=RUN_SECONDS)
    assert process.returncode is not None
    result = Result(process.returncode, stdout, stderr)
    assert result.status == status, result
    return result


def kill(process: Process) -> None:
    """SIGKILL to the command and everything that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def duplicate_an_event(batches: Path) -> None:
    """What no run does: the newest accepted call a second time, by hand, in the lake's files."""
    path = max(batches.glob("*/calls/*/calls.parquet"), key=lambda path: path.parent.name)
    table = pq.read_table(path).sort_by("event_at")  # in the file they are in no order
    pq.write_table(pa.concat_tables([table, table.slice(table.num_rows - 1)]), path)
