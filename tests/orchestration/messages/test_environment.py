"""Failures of the machine in words: each is really caused here, or is the text that a server or library has for it."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from orchestration import settings
from orchestration.ledger.ledger import Ledger
from orchestration.messages import environment
from orchestration.messages.environment import Cause

PASSWORD = "s3cr3t"
NOBODY = f"postgresql://u:{PASSWORD}@127.0.0.1:9/db"
HOLDING = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def said_of(act: Callable[[], object]) -> str | None:
    """The words for what the act fails with."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever it is
        return environment.sentence(list(environment.causes_of(error)), settings.load())
    raise AssertionError("nothing failed")


def said(text: str, kind: str = "OperationalError") -> str | None:
    return environment.sentence([Cause(kind, text)], settings.load())


def test_server_that_is_away_is_named_with_its_variable(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_LEDGER_URL", NOBODY)
    monkeypatch.setenv("HEADROOM_DESTINATION_URL", "postgresql://u:other@elsewhere/db")
    words = said_of(lambda: Ledger(NOBODY))
    assert words
    assert words.startswith(
        "Postgres at 127.0.0.1:9 does not answer: Connection refused. Start it, or correct HEADROOM_L"
    )
    assert PASSWORD not in words


def test_full_disk_is_named_whoever_says_it(data: Path) -> None:
    def fill() -> None:
        with closing(sqlite3.connect(data / "small.sqlite")) as connection:
            connection.execute("pragma max_page_count = 2")
            connection.execute(
                "create table t as with recursive n(i) as (select 1 union all select i + 1 from n"
                " limit 9999) select i from n"
            )

    for words in (
        said_of(fill),
        said("[Errno 28] No space left on device: '/mnt/lake/x.parquet'", "OSError"),
        said("IO Error: Could not write file: No space left on device", "IOException"),
    ):
        assert words
        assert words.startswith("the disk is full: ")
        assert "Free some space there" in words
    assert "/mnt/lake/x.parquet could not be written" in (said("[Errno 28] No space: '/mnt/lake/x.parquet'") or "")


def test_file_in_place_of_the_data_folder_is_named(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("no folder")
    words = said_of(lambda: (file / "landing").mkdir(parents=True))
    assert words
    assert words.startswith(f"{file}/landing is a file, or is inside one, where a folder is needed.")


def test_program_that_holds_a_duckdb_file_is_named(data: Path) -> None:
    path = data / "warehouse.duckdb"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        words = said_of(lambda: duckdb.connect(str(path)))
        # as dbt's process hands it on
        handed_on = said_of(lambda: _hand_on(path))
    finally:
        process.communicate()
    for each in (words, handed_on):
        assert each
        assert f"(process {process.pid}" in each
        assert f"has {path} open, and no run can write it meanwhile. Close it there, then run again" in each
        assert "duckdb -readonly" in each


def _hand_on(path: Path) -> None:
    try:
        duckdb.connect(str(path))
    except duckdb.Error as error:
        raise RuntimeError(f"dbt could not work on /project: Runtime Error\n  {error}") from None


def test_file_that_is_no_database_is_named(data: Path) -> None:
    path = data / "warehouse.duckdb"
    path.write_bytes(b"x" * 8192)
    words = said_of(lambda: duckdb.connect(str(path)))
    assert words
    assert words.startswith(f"{path} is not a file that this version of DuckDB reads")
    assert "`headroom run --only models`" in words


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("OperationalError", 'FATAL:  password authentication failed for user "u"', "refuses the connection: password"),
        (
            "OperationalError",
            'FATAL:  database "usage" does not exist',
            '"usage" does not exist. Correct user',
        ),
        ("OperationalError", "FATAL:  sorry, too many clients already", "has no free connection: too many clients"),
        ("OperationalError", "FATAL:  the database system is starting up", "the database system is starting up. Start"),
        (
            "OperationalError",
            "server closed the connection unexpectedly\n\tThis probably",
            "server closed the connection",
        ),
        ("OperationalError", 'could not translate host name "pg" to address: Name', "Postgres at pg does not answer"),
        ("DiskFull", 'could not extend file "base/1": No space left on device', "the disk of Postgres is full"),
        ("ReadOnlySqlTransaction", "cannot execute INSERT in a read-only transaction", "only reads: it is a standby"),
        ("PermissionError", "[Errno 13] Permission denied: '/srv/data/lake'", "may not write to /srv/data/lake"),
        ("OSError", "[Errno 30] Read-only file system: '/srv/x'", "/srv/x is on a disk that is mounted read-only"),
        ("OSError", "[Errno 24] Too many open files", "`ulimit -n 4096`"),
        ("OperationalError", "(sqlite3.OperationalError) no such column: runs.x\n[SQL: ...", "instance migrate`"),
        ("ProgrammingError", "column runs.run_type does not exist\nLINE 1", "is of another version of Dagster"),
        ("CommandError", "Can't locate revision identified by 'ab12'", "this version does not know its migration ab12"),
        ("OperationalError", "attempt to write a readonly database", "may only read the databases in"),
        ("OperationalError", "database is locked", "locked for a minute"),
        ("ModuleNotFoundError", "No module named 'dagster_postgres.x'", "package dagster_postgres is not installed"),
    ],
)
def test_failure_of_the_machine_is_a_sentence(data: Path, kind: str, text: str, words: str) -> None:
    found = said(text, kind)
    assert found
    assert words in found
    assert "\n" not in found


@pytest.mark.parametrize("text", ["'x'", "list index out of range", 'relation "hits" does not exist', ""])
def test_fault_of_the_program_has_no_sentence(data: Path, text: str) -> None:
    assert said(text, "KeyError") is None
    assert said(text, "ProgrammingError") is None
