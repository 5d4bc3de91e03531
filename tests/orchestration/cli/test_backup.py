"""Backups of ledger and lake: whole or not there, consistent while jobs run, and safe where they are put in place."""

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from orchestration import settings
from orchestration.billing import reconcile
from orchestration.billing.meter import StoppedError
from orchestration.channels.stripe import connect_meter
from orchestration.cli import backup
from orchestration.lake.lake import Lake
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import Folder
from orchestration.ledger import restored as copies
from orchestration.ledger.ledger import Ledger, State
from orchestration.ledger.outbox import deliver
from orchestration.settings import Settings
from tests.fakes.stripe import FakeStripe
from tests.orchestration.ledger.test_outbox import FakeChannel
from tests.support.billing_world import HOUR, SEVEN, World
from tests.support.builders import land, make_event
from tests.support.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
KEY = "local|digest|2026-11-20"


def clock() -> datetime:
    return NOW


def ingest(config: Settings) -> None:
    """As the asset does: batches that the ledger does not know first, then what is new."""
    lake, ledger = Lake(config.lake), Ledger(config.ledger_url)
    with lake.writing():
        for batch in lake.batches(after=ledger.last_batch()):
            ledger.record_files(batch.number, [asdict(file) for file in batch.files])
        known = {file["path"]: LandedFile(**file) for file in ledger.landed_files()}
        batch = lake.ingest(Folder(config.landing), known, NOW)[0]
        if batch:
            ledger.record_files(batch.number, [asdict(file) for file in batch.files])
    ledger.close()


def ids(config: Settings) -> list[str]:
    calls = duckdb.sql(f"select event_id from '{config.lake}/batches/*/calls/*/*.parquet' order by event_id").fetchall()
    return [event_id for (event_id,) in calls]


def test_backup_goes_on_to_every_event_once_when_made_while_jobs_run(data: Path) -> None:
    config, made, two_made = settings.load(), threading.Event(), threading.Event()

    def work() -> None:
        for number in range(8):
            if number == 7:
                two_made.wait(PATIENCE_SECONDS)
            land(config.landing, f"{number}.ndjson", make_event(uuid=f"event {number}"))
            ingest(config)
        made.set()

    ingest(config)
    worker = threading.Thread(target=work)
    worker.start()
    backups: list[Path] = []
    while not made.is_set():
        backups.append(backup.make(config, data.parent / f"backup-{len(backups)}", clock).folder)
        if len(backups) == 2:
            two_made.set()
    worker.join()
    assert len(backups) >= 2
    for folder in (backups[0], backups[len(backups) // 2], backups[-1]):
        restored = Settings(HEADROOM_DATA=folder, HEADROOM_LANDING=config.landing)
        for _ in range(9):
            ingest(restored)
        assert ids(restored) == [f"event {number}" for number in range(8)]


def test_backup_has_the_days_that_were_kept_and_the_boundary(data: Path) -> None:
    config, days = settings.load(), ["2026-11-18", "2026-11-19"]
    land(config.landing, "a.ndjson", *(make_event(uuid=day, at=f"{day}T12:00:00Z") for day in days))
    ingest(config)
    older = Settings(HEADROOM_DATA=backup.make(config, data.parent / "older", clock).folder)
    lake = Lake(config.lake)
    with lake.writing():
        lake.keep_from(date(2026, 11, 19))
        lake.compact(nullcontext())
    newer = Settings(HEADROOM_DATA=backup.make(config, data.parent / "newer", clock).folder)
    for restored, kept in ((older, days), (newer, days[1:])):
        assert ids(restored) == kept
        land(restored.landing, "again.ndjson", make_event(uuid="2026-11-18", at="2026-11-18T12:00:00Z"))
        ingest(restored)
        assert ids(restored) == kept
    assert str(Lake(newer.lake).kept_from()) == "2026-11-19"


def test_backup_is_made_once_when_two_begin_under_one_name(data: Path) -> None:
    config, target, started = settings.load(), data.parent / "backup", threading.Barrier(2, timeout=PATIENCE_SECONDS)
    land(config.landing, "a.ndjson", make_event())
    ingest(config)
    outcomes: list[str] = []

    def make() -> None:
        started.wait()
        try:
            backup.make(config, target, clock)
            outcomes.append("made")
        except ValueError as error:
            outcomes.append(str(error))

    workers = [threading.Thread(target=make) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    refused, made = sorted(outcomes)
    assert made == "made"
    assert "already exists. Name a new folder" in refused
    assert ids(Settings(HEADROOM_DATA=target)) == ["acme-2026-11-19T12:00:00Z"]


KILLED = """
import os, signal, sys, threading
from datetime import UTC, datetime
from pathlib import Path
from orchestration import settings
from orchestration.cli import backup
left = int(sys.argv[1])
def trace(frame, event, _):
    global left
    if frame.f_code.co_filename.endswith(("/backup.py", "/restored.py")) and event == "line":
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace
sys.settrace(trace)
backup.make(settings.load(), Path(sys.argv[2]), lambda: datetime.now(UTC))
"""


def test_a_backup_that_was_killed_is_not_there_and_the_next_one_is(data: Path) -> None:
    config = settings.load()
    land(config.landing, "a.ndjson", make_event())
    ingest(config)
    ends = []
    for line in (5, 15, 25):
        target = data.parent / f"killed-{line}"
        ended = subprocess.run([sys.executable, "-c", KILLED, str(line), str(target)], cwd=settings.PROJECT_ROOT)
        ends.append(ended.returncode)
        assert target.exists() == (ended.returncode == 0)
        if ended.returncode:
            backup.make(config, target, clock)
        assert ids(Settings(HEADROOM_DATA=target)) == ["acme-2026-11-19T12:00:00Z"]
    assert -signal.SIGKILL in ends


def test_the_accounts_are_in_the_backup(data: Path) -> None:
    (data / "accounts.csv").write_text("account_id\nacme\n")
    config = settings.load()
    assert (backup.make(config, data.parent / "b", clock).folder / "accounts.csv").read_text() == "account_id\nacme\n"


def prepare(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        if ledger.delivery(KEY, connection) is None:
            ledger.prepare(connection, KEY, "slack", {}, NOW)


@pytest.fixture
def ledger_and_copy(tmp_path: Path) -> Iterator[tuple[Ledger, Ledger]]:
    """A ledger, and a copy of it from before it sent."""
    url, target = f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path / "copy.sqlite"
    copies.copy(url, target, NOW)
    ledgers = Ledger(url), Ledger(f"sqlite:///{target}")
    for ledger in ledgers:
        prepare(ledger)
    yield ledgers
    for ledger in ledgers:
        ledger.close()


def test_a_copy_looks_for_a_message_before_it_sends_it(ledger_and_copy: tuple[Ledger, Ledger]) -> None:
    channel, (original, copied) = FakeChannel(), ledger_and_copy
    deliver(original, KEY, channel, clock)
    assert channel.looked_up == 0
    found = deliver(copied, KEY, channel, clock)
    assert (found.state, found.receipt) == (State.SENT, "receipt 1")
    assert len(channel.arrived) == 1


def test_a_copy_sends_what_is_not_there_and_looks_no_more_after_two_days(
    ledger_and_copy: tuple[Ledger, Ledger],
) -> None:
    channel, (_, copied) = FakeChannel(), ledger_and_copy
    assert deliver(copied, KEY, channel, clock).state is State.SENT
    assert (channel.looked_up, len(channel.arrived)) == (1, 1)
    just_before = NOW + copies.LOOKED_FOR - timedelta(seconds=1)
    assert copies.copied_at(copied, just_before) == NOW
    assert copies.copied_at(copied, just_before + timedelta(seconds=1)) is None


@pytest.mark.parametrize("window", ["hour", None], ids=["totals", "differences"])
def test_a_copy_reports_nothing_to_stripe_until_it_has_adopted(tmp_path: Path, window: str | None) -> None:
    with FakeStripe() as stripe:
        stripe.add_customer("cus_a")
        stripe.add_meter("api-calls", window)
        world = World(tmp_path, stripe)
        world.usage = {("a", "cus_a", SEVEN): 7}
        world.run()
        copies.copy(world.config.ledger_url, tmp_path / "copy.sqlite", world.now)
        world.usage["a", "cus_a", SEVEN] = 9
        world.run()
        for path in tmp_path.glob("ledger.sqlite*"):
            path.unlink()
        shutil.move(tmp_path / "copy.sqlite", tmp_path / "ledger.sqlite")
        world.usage["a", "cus_a", SEVEN] = 12
        sent = len(stripe.events)
        with pytest.raises(StoppedError, match="headroom stripe adopt --all"):
            world.run()
        assert len(stripe.events) == sent
        world.now += 3 * HOUR
        assert [row.units for row in reconcile.adopt_all(world.config, connect_meter, world.clock)] == [9]
        world.run()
        assert world.totals("cus_a") == {SEVEN: 12}
        assert len(stripe.events) == sent + 1
