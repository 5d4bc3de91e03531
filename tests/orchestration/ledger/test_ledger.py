import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from filelock import FileLock, Timeout

from orchestration.ledger import decided, migrate
from orchestration.ledger.ledger import Delivery, Ledger, State
from tests.support import ledgers, programs
from tests.support.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
HOUR = datetime(2026, 11, 19, 12, tzinfo=UTC)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(url(tmp_path / "ledger.sqlite"))
    yield ledger
    ledger.close()


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def prepare(ledger: Ledger, key: str = "local|digest|2026-11-20", at: datetime = NOW, channel: str = "slack") -> None:
    with ledger.transaction() as connection:
        ledger.prepare(connection, key, channel, {"message": {"text": "über 80 %"}}, at)


def get(ledger: Ledger, key: str = "local|digest|2026-11-20") -> Delivery:
    delivery = ledger.delivery(key)
    assert delivery is not None
    return delivery


def make_file(path: str = "a.ndjson", **fields: Any) -> dict[str, Any]:
    numbers = {
        "size_bytes": 2**40,
        "mtime_ns": 2**60,
        "inode": 2**62,
        "read_bytes": 10,
        "read_lines": 1,
        "stored_bytes": 2**39,
    }
    return {
        "path": path,
        **numbers,
        "sha256": "0" * 64,
        "origin": path,
        "is_complete": True,
        "copy_of": None,
        "damage": None,
        "format": None,
        "rows_sha256": None,
        "head_sha256": None,
        **fields,
    }


def make_crossing(threshold: str = "80%", **fields: Any) -> dict[str, Any]:
    return {
        "env": "local",
        "account_id": "acme",
        "meter": "api-calls",
        "period_start": datetime(2026, 11, 1, tzinfo=UTC),
        "quota": 1,
        "threshold": threshold,
        "crossed_at": HOUR,
        "detected_at": NOW,
        "outcome": "announced",
        "message_key": "local|digest|2026-11-20",
        **fields,
    }


# Opening


def test_ledger_is_created_with_its_folder_when_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ledger.sqlite"
    ledger = Ledger(url(path))

    assert path.exists()
    assert ledger.deliveries() == []
    assert ledger.last_batch() == 0
    ledger.close()


def test_ledger_remembers_when_it_is_opened_again(ledger: Ledger, ledger_url: str) -> None:
    prepare(ledger)
    ledger.close()

    second = Ledger(ledger_url)
    assert get(second).payload == {"message": {"text": "über 80 %"}}
    second.close()


def test_ledger_is_one_file_when_it_is_closed(on_sqlite: Ledger, tmp_path: Path) -> None:
    prepare(on_sqlite)
    assert (tmp_path / "ledger.sqlite-wal").exists()

    on_sqlite.close()

    assert not (tmp_path / "ledger.sqlite-wal").exists()


def test_ledger_survives_power_loss_and_lets_readers_read(tmp_path: Path) -> None:
    with ledgers.real_disk(), Ledger(f"sqlite:///{tmp_path}/ledger.sqlite").transaction() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"pragma {name}").scalar() for name in pragmas]

    assert found == ["wal", 2, 1, 60_000]


def test_fresh_ledger_is_made_once_when_processes_open_it_at_once(tmp_path: Path) -> None:
    process = programs.run(open_fresh_ledgers, tmp_path)

    assert process.stderr == ""
    assert process.returncode == 0
    assert len(list(tmp_path.glob("*.sqlite"))) == FRESH_LEDGERS


def test_ledger_is_opened_by_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = migrate.missing

    def look_alone(engine: sa.Engine) -> list[str]:
        with pytest.raises(Timeout):
            FileLock(tmp_path / "ledger.sqlite.lock", timeout=0, is_singleton=False).acquire()
        return missing(engine)

    monkeypatch.setattr(migrate, "missing", look_alone)
    Ledger(url(tmp_path / "ledger.sqlite")).close()

    FileLock(tmp_path / "ledger.sqlite.lock", timeout=0).acquire().lock.release()


def test_transaction_leaves_nothing_behind_when_it_fails(ledger: Ledger) -> None:
    with pytest.raises(RuntimeError, match="stop"), ledger.transaction() as connection:
        ledger.prepare(connection, "key", "slack", {}, NOW)
        ledger.record_crossings(connection, [make_crossing(message_key="key")])
        raise RuntimeError("stop")

    assert ledger.deliveries() == []
    with ledger.transaction() as connection:
        assert ledger.announced(connection, "local") == set()


def test_transaction_reads_what_is_still_true_when_it_writes(on_sqlite: Ledger, tmp_path: Path) -> None:
    impatient = sa.create_engine(url(tmp_path / "ledger.sqlite"), connect_args={"timeout": 0}, poolclass=sa.NullPool)
    ledger = on_sqlite
    with ledger.transaction() as connection:
        assert ledger.delivery("key", connection) is None
        with pytest.raises(sa.exc.OperationalError, match="locked"), impatient.begin() as other:
            other.execute(sa.text("delete from deliveries"))


# Landing files


def test_landing_file_replaces_what_was_known_of_its_path(ledger: Ledger) -> None:
    ledger.record_files(1, [make_file("a"), make_file("b")])
    ledger.record_files(2, [make_file("a", read_bytes=20, copy_of="b")])

    assert sorted(ledger.landed_files(), key=lambda file: str(file["path"])) == [
        make_file("a", read_bytes=20, copy_of="b"),
        make_file("b"),
    ]
    assert ledger.last_batch() == 2


def test_landing_files_of_a_batch_are_recorded_together_or_not_at_all(ledger: Ledger) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        ledger.record_files(1, [make_file("a"), make_file("b", sha256=None)])

    assert ledger.landed_files() == []


# Deliveries


def test_delivery_is_frozen_when_it_is_prepared(ledger: Ledger) -> None:
    prepare(ledger)

    assert get(ledger) == Delivery(
        key="local|digest|2026-11-20",
        channel="slack",
        payload={"message": {"text": "über 80 %"}},
        state=State.PREPARED,
        attempts=0,
        created_at=NOW,
        attempted_at=None,
        finished_at=None,
        receipt=None,
        error=None,
        parent=None,
        address=None,
        permalink=None,
        message="local|digest|2026-11-20",
    )
    with pytest.raises(sa.exc.IntegrityError):
        prepare(ledger)


def test_delivery_is_none_when_the_key_is_unknown(ledger: Ledger) -> None:
    assert ledger.delivery("nothing") is None


def test_delivery_is_seen_inside_the_transaction_that_prepares_it(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        ledger.prepare(connection, "key", "slack", {}, NOW)
        found = ledger.delivery("key", connection)

    assert found is not None
    assert found.state is State.PREPARED


def test_deliveries_are_listed_newest_first_and_by_channel(ledger: Ledger) -> None:
    prepare(ledger, "a", NOW)
    prepare(ledger, "c", NOW + timedelta(days=1), channel="mail")
    prepare(ledger, "b", NOW + timedelta(days=1))

    assert [delivery.key for delivery in ledger.deliveries()] == ["b", "c", "a"]
    assert [delivery.key for delivery in ledger.deliveries("slack")] == ["b", "a"]


def test_claim_is_given_to_one_of_two_who_saw_the_same_state(ledger: Ledger) -> None:
    prepare(ledger)
    seen = get(ledger)

    claimed = ledger.claim(seen, NOW)

    assert claimed == get(ledger)
    assert (get(ledger).state, get(ledger).attempts, get(ledger).attempted_at) == (State.SENDING, 1, NOW)
    assert ledger.claim(seen, NOW) is None
    assert get(ledger).attempts == 1


def test_claim_forgets_the_outcome_of_the_attempt_before(ledger: Ledger) -> None:
    prepare(ledger)
    first = ledger.claim(get(ledger), NOW)
    assert first is not None
    ledger.finish(first, State.FAILED, NOW, receipt=None, error="no such channel")

    ledger.claim(get(ledger), NOW + timedelta(hours=1))

    assert (get(ledger).finished_at, get(ledger).error) == (None, None)
    assert (get(ledger).attempts, get(ledger).attempted_at) == (2, NOW + timedelta(hours=1))


def test_finish_is_refused_when_a_later_attempt_has_the_delivery(ledger: Ledger) -> None:
    prepare(ledger)
    first = ledger.claim(get(ledger), NOW)
    assert first is not None
    second = ledger.claim(first, NOW + timedelta(minutes=2))
    assert second is not None

    assert not ledger.finish(first, State.FAILED, NOW, receipt=None, error="too late")
    assert get(ledger) == second
    assert ledger.finish(second, State.SENT, NOW, "C1/17", error=None)
    assert (get(ledger).state, get(ledger).receipt, get(ledger).finished_at) == (State.SENT, "C1/17", NOW)


def test_change_of_one_delivery_leaves_the_others_alone(ledger: Ledger) -> None:
    prepare(ledger, "a")
    prepare(ledger, "b")

    ledger.claim(get(ledger, "a"), NOW)

    assert get(ledger, "b").state is State.PREPARED


def test_replies_are_prepared_with_their_parent_or_not_at_all(ledger: Ledger) -> None:
    prepare(ledger, "a:2")
    with pytest.raises(sa.exc.IntegrityError), ledger.transaction() as connection:
        ledger.prepare(connection, "a", "slack", {}, NOW, [{}, {}])
    assert [delivery.key for delivery in ledger.deliveries()] == ["a:2"]

    with ledger.transaction() as connection:
        ledger.prepare(connection, "b", "slack", {"n": 0}, NOW, [{"n": 1}, {"n": 2}])
    assert [(part.key, part.payload, part.parent) for part in ledger.parts("b")] == [
        ("b:1", {"n": 1}, "b"),
        ("b:2", {"n": 2}, "b"),
    ]
    assert get(ledger, "b").parent is None


def test_waiting_are_those_of_the_prefix_that_were_not_sent(ledger: Ledger) -> None:
    for key in ("local|digest|3", "local|digest|1", "local|digest|2", "locality|digest|1", "local|alert|1"):
        prepare(ledger, key)
    sent = ledger.claim(get(ledger, "local|digest|2"), NOW, "C1")
    assert sent is not None
    ledger.finish(sent, State.SENT, NOW, "C1/17", error=None)
    ledger.finish(get(ledger, "local|digest|3"), State.PREVIEWED, NOW, None, error=None)

    assert ledger.waiting("local|digest|") == ["local|digest|1"]


def test_last_digest_is_the_newest_of_its_environment(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        assert decided.last_digest_at(connection, "local") is None
    prepare(ledger, "local|digest|2026-11-20", NOW)
    prepare(ledger, "local|digest|2026-11-19", NOW - timedelta(days=1))
    prepare(ledger, "local|alert|1", NOW + timedelta(days=1))
    prepare(ledger, "locality|digest|2026-11-22", NOW + timedelta(days=2))
    prepare(ledger, "staging_1|digest|2026-11-20", NOW + timedelta(days=3))

    with ledger.transaction() as connection:
        assert decided.last_digest_at(connection, "local") == NOW
        assert decided.last_digest_at(connection, "staging%") is None
        assert decided.last_digest_at(connection, "stagingx1") is None
        assert decided.last_digest_at(connection, "staging_1") == NOW + timedelta(days=3)


def test_last_digest_but_one_is_neither_that_one_nor_a_reply_to_it(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        ledger.prepare(connection, "local|digest|2026-11-20", "slack", {}, NOW, [{}])

    with ledger.transaction() as connection:
        assert decided.last_digest_at(connection, "local") == NOW
        assert decided.last_digest_at(connection, "local", but="local|digest|2026-11-20") is None


# Crossings


def test_crossing_is_remembered_with_its_verdict_once(ledger: Ledger) -> None:
    prepare(ledger)
    with ledger.transaction() as connection:
        ledger.record_crossings(connection, [make_crossing("80%"), make_crossing("95%")])
        ledger.record_crossings(connection, [])
    with ledger.transaction() as connection:
        period = datetime(2026, 11, 1, tzinfo=UTC)
        assert ledger.announced(connection, "local") == {
            ("acme", "api-calls", period, 1, "80%"),
            ("acme", "api-calls", period, 1, "95%"),
        }
        assert ledger.announced(connection, "production") == set()
    with pytest.raises(sa.exc.IntegrityError), ledger.transaction() as connection:
        ledger.record_crossings(connection, [make_crossing("80%")])


def test_account_may_have_any_characters_in_its_id(ledger: Ledger) -> None:
    prepare(ledger)
    ids = {"nul\0byte", "\0", "\ud7ff\U0010ffff", "50%", "a'b\\"}
    with ledger.transaction() as connection:
        ledger.record_crossings(connection, [make_crossing(account_id=each) for each in ids])
        ledger.withdraw_crossings(connection, [make_crossing(account_id="\0")], "local|digest|2026-11-21")

    with ledger.transaction() as connection:
        assert {account for account, *_ in ledger.announced(connection, "local")} == ids - {"\0"}


def test_crossing_that_was_withdrawn_stays_until_it_gets_another_verdict(ledger: Ledger) -> None:
    prepare(ledger)
    with ledger.transaction() as connection:
        ledger.record_crossings(connection, [make_crossing("80%"), make_crossing("95%", outcome="superseded")])
        ledger.withdraw_crossings(connection, [make_crossing("80%")], "local|digest|2026-11-21")
        ledger.withdraw_crossings(connection, [], "local|digest|2026-11-21")
    with ledger.transaction() as connection:
        assert [(key[4], outcome) for key, outcome in ledger.verdicts(connection, "local").items()] == [
            ("95%", "superseded")
        ]
        by = "select threshold, withdrawn_by from announced_crossings order by 1"
        assert connection.exec_driver_sql(by).all() == [("80%", "local|digest|2026-11-21"), ("95%", None)]
        ledger.record_crossings(connection, [make_crossing("80%")])
        assert len(ledger.announced(connection, "local")) == 2


def test_crossing_needs_its_digest(ledger: Ledger) -> None:
    with pytest.raises(sa.exc.IntegrityError, match=r"(?i)foreign key"), ledger.transaction() as connection:
        ledger.record_crossings(connection, [make_crossing()])


def test_announced_crossings_are_found_by_prefix_and_moment(
    ledger: Ledger,
) -> None:
    """Those of the deliveries under the prefix, each with the time at which its delivery was done."""
    for number, key in enumerate(("local|critical|1", "local|critical|2", "local|digest|1", "locally|critical|1")):
        prepare(ledger, key)
        row = {**make_crossing(), "account_id": str(number), "message_key": key, "detected_at": NOW}
        lower = {**row, "threshold": "50%", "outcome": "superseded"}
        with ledger.transaction() as connection:
            ledger.record_crossings(connection, [row, lower])
    ledger.finish(get(ledger, "local|critical|2"), State.SENT, NOW, "C1/1", error=None)

    with ledger.transaction() as connection:
        told = decided.told(connection, "local|critical|", NOW - timedelta(seconds=1))
        assert [(key[0], at) for key, at in told] == [("0", None), ("1", NOW)]
        assert decided.told(connection, "local|critical|", NOW) == []


# The processes that open fresh ledgers at the same moment.

FRESH_LEDGERS, PROCESSES = 25, 4


def open_fresh_ledgers(folder: str) -> None:
    import alembic.command  # noqa: F401 - ahead, so that the processes open together

    context = get_context("fork")
    barrier = context.Barrier(PROCESSES, timeout=PATIENCE_SECONDS)
    processes = [context.Process(target=_open_each, args=(Path(folder), barrier)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        sys.exit(1)


def _open_each(folder: Path, barrier: Any) -> None:
    for number in range(FRESH_LEDGERS):
        barrier.wait()
        try:
            ledger = Ledger(url(folder / f"{number}.sqlite"))
            prepare(ledger, key=f"{os.getpid()}")
            ledger.close()
        except BaseException:
            barrier.abort()
            raise
