"""What ends a command early is one line: exit status, words, and no traceback unless it is asked for."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from orchestration.cli import failures, main
from orchestration.ledger.ledger import Ledger
from orchestration.settings import PROJECT_ROOT
from tests.orchestration.cli.test_doctor import NOW, publish
from tests.support.duckdb_file import opened
from tests.support.waiting import PATIENCE_SECONDS

NOBODY = 65534
WAITING = """
import signal, sys
from orchestration.cli import failures
sys.exit(failures.in_sentences(lambda: (print("ready", flush=True), signal.pause())))
"""


def headroom(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr of the command line."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["headroom", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.mark.usefixtures("heeded_signals")
def test_signal_ends_a_command_with_one_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=PATIENCE_SECONDS)

    assert stderr == "headroom: stopped by SIGTERM: finished work is kept, and the next run does the rest\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_traceback_is_shown_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    monkeypatch.setenv("HEADROOM_DATA", str(file))
    status, _, stderr = headroom(capsys, "deliveries")
    assert status == 1
    assert stderr == (
        f"headroom: {file} is a file, or is inside one, where a folder is needed. Move the file away, or set"
        " HEADROOM_DATA to a folder. --debug shows the traceback\n"
    )
    for arguments in (("--debug", "deliveries"), ("deliveries", "--debug")):
        status, _, stderr = headroom(capsys, *arguments)
        assert status == 1
        assert "Traceback (most recent call last)" in stderr
        assert f"headroom: {file} is a file" in stderr
    assert "--debug" in headroom(capsys, "--help")[1]


def test_copy_of_an_earlier_version_is_said_in_a_sentence(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with opened(data / "published.duckdb") as connection:
        connection.execute("create table utilization_mtd as select 'acme' as account_id, 'api-calls' as meter")
        connection.execute("create table data_quality as select date '2026-10-01' as kept_from")
    status, _, stderr = headroom(capsys, "usage", "acme")
    assert status == 1
    assert "headroom: another version of Headroom built the published copy: `headroom run` builds it again." in stderr
    assert 'column "is_main" not found' in stderr
    assert "Traceback" not in stderr


@pytest.mark.usefixtures("heeded_signals")
def test_fault_of_the_program_keeps_its_traceback(data: Path) -> None:
    def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        failures.in_sentences(broken)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_configuration_is_refused_with_what_is_right(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADROOM_TIMEZNE", "Europe/Berlin")
    status, _, stderr = headroom(capsys, "deliveries")
    assert (status, stderr) == (
        2,
        "headroom: configuration: HEADROOM_TIMEZNE (environment) has no effect: Headroom reads HEADROOM_TIMEZONE\n",
    )
    monkeypatch.delenv("HEADROOM_TIMEZNE")
    wrong = {
        "HEADROOM_ENV": ("prod", ": 'prod' would leave the schedules off; write production"),
        "HEADROOM_TIMEZONE": (
            "Europe/Berln",
            ": 'Europe/Berln' is not an IANA time zone; use a name such as Europe/Berlin",
        ),
        "HEADROOM_LANDING_COPIES": ("onec", " is not once or count: did you mean once?"),
        "HEADROOM_BILL_SAMPLED": ("ja", " is neither true nor false"),
        "HEADROOM_PORT": ("tcp://10.0.0.1:80", " is what Kubernetes sets for a Service of that name"),
        "HEADROOM_STALE_AFTER_HOURS": ("0", " is out of range: use at least 1"),
        "HEADROOM_LANDING_URL": (
            "bucket",
            " is in the wrong form. What it is: a bucket with more event files, ",
        ),
    }
    for name, (value, _) in wrong.items():
        monkeypatch.setenv(name, value)
    status, _, stderr = headroom(capsys, "deliveries")
    assert status == 2
    for name, (_, words) in wrong.items():
        assert f"headroom: configuration: {name} (environment){words}" in stderr
    assert len(stderr.splitlines()) == len(wrong)


def test_variable_of_another_name_is_named_and_stops_nothing(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLACK_TOKEN", "xoxb-marked-secret")
    monkeypatch.setenv("HEADROOM_OF_TOMORROW", "1")
    status, _, stderr = headroom(capsys, "deliveries")
    assert (status, stderr.splitlines()) == (
        0,
        [
            "headroom: HEADROOM_OF_TOMORROW (environment) has no effect: correct the name, or remove it",
            "headroom: SLACK_TOKEN (environment) has no effect: Headroom reads SLACK_BOT_TOKEN",
        ],
    )


@contextmanager
def reading_only(folder: Path) -> Iterator[None]:
    """This user may read the folder and not write to it. Root may always: it becomes nobody."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_commands_that_read_need_no_right_to_write(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    publish(data, NOW)
    with opened(data / "published.duckdb") as connection:
        connection.execute("create table events_rejected (reason varchar, lost_events bigint)")
        connection.execute(f"create table meters as from read_csv('{PROJECT_ROOT}/dbt_project/seeds/meters.csv')")
    Ledger(f"sqlite:///{data / 'ledger.sqlite'}").close()
    commands = (
        ("deliveries",),
        ("sql", "select 1 as one"),
        ("rejected",),
        ("stripe", "problems"),
        ("db", "upgrade", "--check"),
        ("doctor", "--configuration"),
        ("doctor",),
    )
    before = [headroom(capsys, *command) for command in commands]
    with _reachable(data), reading_only(data):
        after = [headroom(capsys, *command) for command in commands]
        written = headroom(capsys, "generate", "--accounts", "1", "--days", "1", "--events", "1")
    assert [status for status, _, _ in before] == [0] * len(commands), before
    assert after[:-1] == before[:-1]
    status, found, stderr = after[-1]
    assert status == 1
    assert "data folder: cannot be written (Permission denied)" in found
    assert found.splitlines()[-1] == before[-1][1].splitlines()[-1], "it goes on to the last check"
    assert stderr == ""
    assert written[0] == 1
    assert written[2].startswith("headroom: this user may not write to ")


@contextmanager
def _reachable(folder: Path) -> Iterator[None]:
    """pytest's folders are this user's alone."""
    modes = {parent: parent.stat().st_mode for parent in folder.parents if parent.stat().st_uid == os.geteuid()}
    try:
        for parent in modes:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o055)
        yield
    finally:
        for parent, mode in modes.items():
            parent.chmod(mode & 0o7777)


def test_ledger_is_read_beside_a_writer_and_without_one(data: Path) -> None:
    from orchestration.ledger import read_only

    path = data / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").close()
    with closing(read_only.connect(path)) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("delete from deliveries")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("insert into marks (name, value) values ('a', '1')")
        writer.commit()
        assert path.with_name(f"{path.name}-wal").exists()
        with closing(read_only.connect(path)) as reader:
            assert reader.execute("select value from marks").fetchall() == [("1",)]
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.execute("delete from marks")
    with closing(read_only.connect(path)) as reader:
        assert reader.execute("select value from marks").fetchall() == [("1",)]
