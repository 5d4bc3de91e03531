"""`headroom doctor` on parts that are really broken: what it says of them, and that it goes on to the next."""

import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from orchestration import settings
from orchestration.billing.invoicing import Invoicing, SubscriptionPeriod
from orchestration.billing.meter_ledger import meter_ledger
from orchestration.cli import doctor, doctor_runs, run
from orchestration.cli.main import app
from orchestration.lake import landing
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import Folder
from orchestration.ledger.ledger import Ledger
from orchestration.usage.findings import Finding
from orchestration.warehouse import published_copy
from tests.fakes.slack import FakeSlack
from tests.support.builders import land, make_event
from tests.support.duckdb_file import opened
from tests.support.pipeline import ingest

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
runner = CliRunner()


@pytest.fixture(scope="module")
def healthy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a lake, a ledger and a published copy, all of them well."""
    folder = tmp_path_factory.mktemp("doctor")
    land(folder / "landing", "a.ndjson", make_event(at=(NOW - timedelta(hours=2)).isoformat()))
    ingest(folder, folder / "landing", NOW)
    Ledger(f"sqlite:///{folder / 'ledger.sqlite'}").close()
    publish(folder, NOW)
    return folder


@pytest.fixture
def data_folder(healthy_folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be broken."""
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    shutil.copytree(healthy_folder, data, dirs_exist_ok=True)
    return data


def publish(data: Path, as_of: datetime) -> None:
    with opened(data / "published.duckdb") as connection:
        connection.execute(
            "create or replace table data_quality as select ?::timestamp as as_of, 3 as rejected_lines",
            [as_of.replace(tzinfo=None)],
        )


def examine(status: int = 0) -> str:
    """What it says, without line breaks."""
    result = runner.invoke(app, ["doctor"])
    assert result.exit_code == status, result.output
    assert " Stripe: " in result.stdout, "whatever is broken, it goes on to the last check"
    return " ".join(result.stdout.split())


def test_doctor_says_whose_usage_period_keeps_old_calls_in_the_lake(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_LAKE_KEEP_DAYS", "400")
    with opened(data_folder / "published.duckdb") as connection:
        connection.execute("alter table data_quality add column data_through timestamp")
        connection.execute("alter table data_quality add column kept_from date default '2024-05-01'")
        connection.execute("update data_quality set data_through = as_of")
        connection.execute(
            """create table account_periods as select 'ever' as account_id, timestamp '2024-05-01' as period_start,
            timestamp '9999-12-31' as period_end, 'lifetime' as source"""
        )
    held = "because of account ever, whose usage period began on 2024-05-01"
    assert f"lake: keeps calls since 2024-05-01: longer than HEADROOM_LAKE_KEEP_DAYS, {held}" in examine()


def test_doctor_names_producers_whose_clock_is_ahead(data_folder: Path) -> None:
    with opened(data_folder / "published.duckdb") as connection:
        connection.execute("alter table data_quality add column events_ahead bigint default 12")
        connection.execute("alter table data_quality add column lost_events bigint default 95")
        connection.execute(
            """create table events_ahead as
            select chr(27) || '[31m' || 'edge ' || number as producer, 2 as event_count,
                timestamp '2026-11-23 08:00:00' - number * interval 1 hour as furthest_at
            from range(12) as t (number)"""
        )
    said = examine()
    words = "clock of \ufffd[31medge 0: 2 events in the future, the furthest at 2026-11-23 08:00 UTC"
    assert f"missing {words}. They count once that time has passed. Correct the producer's clock" in said
    assert "edge 9:" in said
    assert "edge 10:" not in said
    assert "2 more producers with events in the future: see events_ahead" in said
    assert "quarantine: 3 lines, about 95 events; see `headroom rejected`" in said


def test_doctor_shows_the_configuration_and_masks_secrets(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_DESTINATION_URL", "postgresql://u:s3cr3t@127.0.0.1:9/db?password=s3cr3t")
    monkeypatch.setenv("HEADROOM_COLLECT_KEYS", "s3cr3t-of-16-characters")
    monkeypatch.setenv("SLACK_API_URL", "http://u:s3cr3t@127.0.0.1:9/api/")
    monkeypatch.setenv("SLACK_TOKEN", "s3cr3t")
    said = examine(1)
    for part in (
        "ok configuration: HEADROOM_ENV=local, schedules are off outside production",
        "ok configuration: HEADROOM_DESTINATION_URL=postgresql://********@127.0.0.1:9/db (environment)",
        "ok configuration: HEADROOM_COLLECT_KEYS=******** (environment)",
        "ok configuration: SLACK_API_URL=http://********@127.0.0.1:9/api/ (environment)",
        "missing configuration: SLACK_TOKEN (environment) has no effect: Headroom reads SLACK_BOT_TOKEN",
    ):
        assert part in said, part
    assert "HEADROOM_TIMEZONE" not in said
    listed = runner.invoke(app, ["doctor", "--configuration"]).stdout
    lines = [" ".join(line.split()) for line in listed.splitlines()]
    assert "HEADROOM_TIMEZONE UTC default" in lines
    assert f"HEADROOM_ACCOUNTS {data_folder}/accounts.csv default" in lines
    assert "HEADROOM_COLLECT_KEYS ******** environment" in lines
    assert "s3cr3t" not in said + listed


def test_doctor_finds_nothing_needed_when_all_is_well(data_folder: Path) -> None:
    said = examine()
    assert "FAILS" not in said
    for part in (
        "data folder can be written",
        "ledger opens and is whole",
        "landing: 1 file to read",  # nothing told the ledger of it
        "the newest call is 2 h old",
        "published copy: counted 0 h ago",
        "quarantine: 3 lines; see `headroom rejected`",
        "Slack: preview only, SLACK_BOT_TOKEN is not set",
    ):
        assert part in said, part


def test_doctor_names_events_of_a_killed_collector_that_wait(data_folder: Path) -> None:
    left = data_folder / "landing" / "collector" / "20261120T075900.000000Z-host-1.ndjson.part"
    left.parent.mkdir()
    left.write_bytes(b'{"received_at":"2026-11-20T07:59:00Z","batch":[]}\n')
    said = examine(1)
    assert "FAILS collector: 1 file of a killed collector: the events inside were acknowledged and do not count" in said
    assert left.name in said.replace(" ", "")
    with left.open("rb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        assert "collector: no file of a killed collector waits" in examine()


def test_doctor_says_how_to_begin_when_nothing_is_there(data: Path) -> None:
    said = examine(1)
    assert said.count("FAILS") == 1
    assert "FAILS published copy:" in said
    assert "ledger: none yet" in said
    assert not (data / "ledger.sqlite").exists()


def test_doctor_names_the_folder_when_it_cannot_be_written(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "file").write_text("no folder")
    monkeypatch.setenv("HEADROOM_DATA", str(data / "file"))
    assert f"FAILS data folder: {data / 'file'} is a file, or is inside one, where a folder is needed" in examine(1)


def test_doctor_counts_what_the_next_run_needs_of_the_disk(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "BATCH_BYTES", 2**60)
    assert "the next run may need 1,073,741,824.0 GiB" in examine(1)


def test_doctor_says_so_when_a_named_file_is_not_there(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_ACCOUNTS", str(data_folder / "crm.csv"))
    assert f"FAILS HEADROOM_ACCOUNTS: {data_folder / 'crm.csv'} does not exist" in examine(1)


def test_doctor_finds_a_ledger_that_is_no_database(data_folder: Path) -> None:
    (data_folder / "ledger.sqlite").write_bytes(b"not a database" * 1000)
    assert "cannot be relied on (file is not a database): stop the jobs, and restore a backup" in examine(1)


def test_doctor_finds_a_damaged_page_of_the_ledger(data_folder: Path) -> None:
    ledger = Ledger(settings.load().ledger_url)
    with ledger.transaction() as connection:
        for number in range(500):
            ledger.prepare(connection, f"local|digest|{number}", "slack", {"message": "x" * 500}, NOW)
    ledger.close()
    path = data_folder / "ledger.sqlite"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)
    assert "ledger.sqlite cannot be relied on" in examine(1)


def test_doctor_says_so_when_the_ledger_is_of_a_newer_version(data_folder: Path) -> None:
    engine = sa.create_engine(settings.load().ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    engine.dispose()
    assert "is at migration 9999, and this Headroom knows" in examine(1)


def test_doctor_names_a_file_that_cannot_be_read_when_no_run_has_seen_it(data_folder: Path) -> None:
    (data_folder / "landing" / "gone.ndjson").symlink_to("nowhere")
    assert "FAILS landing: gone.ndjson: cannot be read: No such file" in examine(1)


def test_doctor_names_a_file_of_another_kind_that_a_run_refused(data_folder: Path) -> None:
    (data_folder / "landing" / "a.ndjson").unlink()
    (data_folder / "landing" / "notes.txt").write_text("hello")
    folder = Folder(data_folder / "landing")
    planned = list(landing.plan(folder, folder.scan()[0], {}))
    ledger = Ledger(settings.load().ledger_url)
    ledger.record_files(1, [asdict(file) for file in planned if isinstance(file, LandedFile)])
    ledger.close()
    said = examine(1)
    assert "FAILS landing: notes.txt: is text without JSON or a CSV header: land NDJSON, CSV or Parquet" in said
    assert "all files are read" not in said


def test_doctor_finds_a_lake_whose_file_is_cut_off(data_folder: Path) -> None:
    [path] = (data_folder / "lake" / "batches").glob("000001/calls/*/calls.parquet")
    path.write_bytes(path.read_bytes()[:100])
    said = examine(1)
    assert "FAILS lake: cannot be read" in said
    assert str(path) in said


def test_doctor_says_when_nothing_arrives_or_nothing_is_counted(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_NOW", (NOW + timedelta(hours=26)).isoformat())
    said = examine(1)
    assert "FAILS lake: the newest call is 28 h old, the last one arrived 26 h ago: older than" in said
    assert "FAILS published copy: counted 26 h ago: no run has published since" in said


def test_doctor_says_of_which_copy_the_limits_are(data_folder: Path) -> None:
    published, snapshot = data_folder / "published.duckdb", data_folder / "limits.json"
    snapshot.write_text('{"version": 1, "copy": "killed before"}')
    assert "limits.json" not in examine()  # a run may just be writing it
    long_ago = time.time() - 3_600
    os.utime(published, (long_ago, long_ago))
    assert "FAILS limits.json: of the previous copy: gates get older figures than the published copy has." in examine(1)
    snapshot.write_text(json.dumps({"copy": published_copy.version_of(published)}))
    assert "ok limits.json: of the published copy" in examine()


def test_doctor_finds_a_published_copy_that_is_no_database(data_folder: Path) -> None:
    (data_folder / "published.duckdb").write_text("no database")
    said = examine(1)
    assert f"FAILS published copy: {data_folder / 'published.duckdb'} cannot be read" in said
    assert "Make a new copy: `headroom run --only models`" in said


WRITES = """
import os, signal, sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
connection.execute("create table mine as select 1 as one")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("is_published_meanwhile", "problem"),
    [
        (True, "cannot be read: another program opened it for writing and left the log"),
        (False, "may have figures of no run: another program opened it for writing and left the log"),
    ],
)
def test_doctor_removes_the_log_of_a_killed_writer_by_its_command(
    data_folder: Path, is_published_meanwhile: bool, problem: str
) -> None:
    published = data_folder / "published.duckdb"
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(published)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == "open\n"
        if is_published_meanwhile:
            other = data_folder / "other"
            other.mkdir()
            publish(other, NOW)
            published_copy.swap_in(other / "published.duckdb", published)
        writer.communicate("write\n")
    assert writer.returncode == -signal.SIGKILL
    log = data_folder / "published.duckdb.wal"
    assert log.exists()

    said = examine(1)
    assert f"FAILS published copy: {problem} {log}" in said
    [command] = re.findall(r"Run `(rm .*?)`", said)
    subprocess.run(shlex.split(command), check=True)
    assert "ok published copy: counted 0 h ago" in examine()


@pytest.mark.parametrize(
    ("env", "seconds", "status", "said"),
    [
        ("local", 60, 0, "ok Dagster's daemon runs"),
        ("local", 600, 0, "missing Dagster's daemon: has not run since"),
        ("production", 600, 1, "FAILS Dagster's daemon: has not run since"),
    ],
)
def test_doctor_looks_for_the_heartbeat_of_the_daemon(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, env: str, seconds: int, status: int, said: str
) -> None:
    if env == "production":
        monkeypatch.delenv("HEADROOM_NOW")
        now = datetime.now(UTC)
        land(data_folder / "landing", "b.ndjson", make_event(at=now.isoformat()))
        ingest(data_folder, data_folder / "landing", now)
        publish(data_folder, now)
    monkeypatch.setenv("HEADROOM_ENV", env)
    config = settings.load()
    config.export()
    run.make_dagster_home(config)
    with dg.DagsterInstance.get() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time() - seconds, "SENSOR", "one", []))
    assert said in examine(status)


def test_doctor_says_which_runs_were_killed_hang_or_are_overdue(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    config = settings.load()
    config.export()
    run.make_dagster_home(config)
    with dg.DagsterInstance.get() as instance:
        for run_id, status in (("killed00", dg.DagsterRunStatus.STARTED), ("hangs000", dg.DagsterRunStatus.STARTING)):
            instance.add_run(dg.DagsterRun("hourly_job", run_id=run_id, status=status))
        [hanging] = instance.get_run_records(dg.RunsFilter(run_ids=["hangs000"]))
        (data_folder / "runs").mkdir()
        (data_folder / "runs" / "killed00").touch()  # as a process leaves it that held its lock
    said = examine()
    killed = "missing run killed00 of hourly_job: was killed and still blocks the queue: close it with `headroom ui`"
    assert killed in said
    assert "hangs000" not in said

    class Tomorrow(datetime):
        now = staticmethod(lambda _: now + timedelta(days=1))  # type: ignore[assignment]

    monkeypatch.setattr(doctor_runs, "datetime", Tomorrow)
    began = f"{hanging.create_timestamp:%d %b %H:%M} UTC"
    since = f"has run since {began}, longer than any run should: end it in Dagster's UI"
    assert f"FAILS run hangs000 of hourly_job: {since}" in examine(1)
    monkeypatch.setenv("HEADROOM_ENV", "production")
    monkeypatch.delenv("HEADROOM_NOW")
    assert "FAILS hourly runs: No hourly run has ever succeeded; the first began" in examine(1)


def test_strict_doctor_prints_only_what_is_wrong_and_fails_for_anything(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_HEARTBEAT_URL", "https://monitor.example/ping/s3cr3t")
    assert "ok heartbeat: monitor.example gets a request after each successful hourly run and digest" in examine()
    strict = runner.invoke(app, ["doctor", "--strict"])
    lines = strict.stdout.splitlines()
    assert (strict.exit_code, {line.split()[0] for line in lines}) == (1, {"missing"}), strict.stdout
    monkeypatch.setattr(doctor, "examine", lambda _: iter([Finding("all is well")]))
    strict = runner.invoke(app, ["doctor", "--strict"])
    assert (strict.exit_code, strict.output) == (0, "")


def test_doctor_goes_on_when_dagsters_storage_is_broken(data_folder: Path) -> None:
    (data_folder / "dagster").mkdir()
    (data_folder / "dagster" / "dagster.yaml").write_text("storage: {nonsense: true}")
    assert "FAILS Dagster's daemon: Dagster's storage cannot be read" in examine(1)


def test_doctor_checks_slack_with_its_own_check(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeSlack() as slack:
        monkeypatch.setenv("SLACK_BOT_TOKEN", slack.token)
        monkeypatch.setenv("SLACK_API_URL", slack.url)
        assert "FAILS Slack: SLACK_BOT_TOKEN is set but HEADROOM_SLACK_CHANNEL is not" in examine(1)
        monkeypatch.setenv("HEADROOM_SLACK_CHANNEL", slack.channel)
        assert "ok Slack: token of headroom at Example" in examine()
        slack.is_member = False
        assert (
            f"FAILS Slack: channel {slack.channel} (sales, cs, engineering, data, finance): invite the bot"
            in examine(1)
        )


def test_doctor_checks_the_tables_of_a_postgres_with_their_own_check(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_DESTINATION_URL", "postgresql://u:s3cr3t@127.0.0.1:1/db")
    assert "FAILS Postgres: " in examine(1)
    (data_folder / "destination.toml").write_text('[t]\ncopy = "data_quality"')
    said = examine(1)
    assert "FAILS Postgres: Postgres: database db at 127.0.0.1 cannot be written" in said
    assert "s3cr3t" not in said


def test_doctor_checks_stripe_with_its_own_check(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_live_1")
    assert "FAILS Stripe: STRIPE_API_KEY is a live key and" in examine(1)


def test_doctor_says_when_the_requests_of_a_day_are_too_few(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_1")
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:1")
    start = settings.load().now() - timedelta(days=1)
    period = SubscriptionPeriod(
        *("cus_0", "sub_0", "si_0", "price_1", "usd", start, start + timedelta(days=30), "active", False, False, None),
        start,
    )
    some = [replace(period, stripe_customer_id=f"cus_{n}", subscription_item_id=f"si_{n}") for n in range(305)]
    Invoicing(meter_ledger(settings.load())).save(some, [])
    assert "Stripe: requests a day: 305 customers with usage need" in examine(1)
    assert "305 of their periods end. HEADROOM_STRIPE_READS_PER_DAY allows 300" in examine(1)
    monkeypatch.setenv("HEADROOM_STRIPE_READS_PER_DAY", "900")
    assert "ok Stripe: requests a day" in examine(1)
