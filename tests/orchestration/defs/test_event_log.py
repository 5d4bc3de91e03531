"""Dagster's event log in fewer transactions: the same events for every reader, and none lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite import sqlite_event_log

from orchestration.cli import run as job
from orchestration.defs.event_log import KEPT_OPEN, EventLog
from tests.support import ledgers

RUN = "11111111-2222-3333-4444-555555555555"


@dg.asset(check_specs=[dg.AssetCheckSpec("is_even", asset="counted")])
def counted() -> Iterator[dg.MaterializeResult[None]]:
    yield dg.MaterializeResult(metadata={"rows": 2}, check_results=[dg.AssetCheckResult(passed=True)])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    (tmp_path / "dagster.yaml").write_text(job.DAGSTER_YAML + job.SQLITE_STORAGE)
    return tmp_path


def entry(message: str, run_id: str = RUN) -> dg.EventLogEntry:
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level="info",
        user_message=message,
        run_id=run_id,
        timestamp=1.0,
        job_name="hourly_job",
    )


def messages(storage: SqliteEventLogStorage, run_id: str = RUN) -> list[str]:
    return [each.user_message for each in storage.get_logs_for_run(run_id)]


def store(storage: SqliteEventLogStorage, texts: Sequence[str], run_id: str = RUN) -> None:
    for text in texts:
        storage.store_event(entry(text, run_id))


def test_run_is_told_whole_by_it_and_by_dagsters_own(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = dg.materialize([counted], instance=instance)
        run_id, events = result.run_id, [each.user_message for each in instance.all_logs(result.run_id)]

    (home / "dagster.yaml").write_text(job.DAGSTER_YAML)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        assert [each.user_message for each in instance.all_logs(run_id)] == events
        last = instance.get_latest_materialization_event(dg.AssetKey("counted"))
        assert last is not None and last.run_id == run_id
        [check] = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("counted"), "is_even"), limit=9
        )
        assert (check.run_id, check.status.value) == (run_id, "SUCCEEDED")


def test_both_classes_write_into_the_same_files(tmp_path: Path) -> None:
    ours, theirs = EventLog(str(tmp_path)), SqliteEventLogStorage(str(tmp_path))
    store(ours, ["a"])
    store(theirs, ["b"])
    store(ours, ["c"])
    assert messages(ours) == messages(theirs) == ["a", "b", "c"]
    ours.dispose()
    store(ours, ["d"])  # it opens again what it closed
    assert messages(theirs) == ["a", "b", "c", "d"]
    ours.dispose()


def test_batch_is_stored_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = EventLog(str(tmp_path))
    storage.store_event_batch([entry("a"), entry("b")])

    def refuse(
        event: dg.EventLogEntry, insert: Callable[[dg.EventLogEntry], object] = storage.prepare_insert_event
    ) -> object:
        if event.user_message == "d":
            raise OSError("disk full")
        return insert(event)

    monkeypatch.setattr(storage, "prepare_insert_event", refuse)
    with pytest.raises(OSError, match="disk full"):
        storage.store_event_batch([entry("c"), entry("d")])
    monkeypatch.undo()
    assert messages(storage) == ["a", "b"]
    store(storage, ["e"])
    assert messages(SqliteEventLogStorage(str(tmp_path))) == ["a", "b", "e"]
    storage.dispose()


def test_killed_process_loses_none_of_its_events(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from tests.orchestration.defs.test_event_log import EventLog, entry, store\n"
        "storage = EventLog(sys.argv[1])\n"
        "store(storage, ['a', 'b'])\n"
        "storage.store_event_batch([entry('c'), entry('d')])\n"
        "print('stored', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stored\n"
        os.kill(process.pid, signal.SIGKILL)
    assert messages(SqliteEventLogStorage(str(tmp_path))) == ["a", "b", "c", "d"]


def test_events_of_a_removed_file_go_into_a_new_one(tmp_path: Path) -> None:
    storage = EventLog(str(tmp_path))
    store(storage, ["a"])
    for ending in ("", "-wal", "-shm"):
        Path(storage.path_for_shard(RUN) + ending).unlink(missing_ok=True)
    assert messages(storage) == []
    store(storage, ["b"])
    assert messages(SqliteEventLogStorage(str(tmp_path))) == ["b"]
    storage.dispose()


def test_threads_and_many_runs_keep_few_files_open(tmp_path: Path) -> None:
    storage = EventLog(str(tmp_path))
    runs = [f"{number:08}-2222-3333-4444-555555555555" for number in range(9)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda run: store(storage, ["a", "b"], run), runs * 2))
        assert list(pool.map(lambda run: sorted(messages(storage, run)), runs)) == [["a", "a", "b", "b"]] * 9
    held = {link.resolve() for link in Path("/proc/self/fd").iterdir()}
    assert len([path for path in held if path.parent == tmp_path and path.suffix == ".db"]) <= KEPT_OPEN
    storage.dispose()


def test_commits_do_not_wait_for_the_disk_and_connections_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = EventLog(str(tmp_path))
    with ledgers.real_disk():
        store(storage, ["a"])
    opened = []
    monkeypatch.setattr(sa, "create_engine", lambda *_, **__: opened.append("engine"))
    monkeypatch.setattr(sqlite_event_log, "create_engine", lambda *_, **__: opened.append("engine"))
    with ledgers.real_disk():
        store(storage, ["b", "c"])
        assert opened == []
        with storage.run_connection(RUN) as connection:
            assert connection.exec_driver_sql("pragma synchronous").scalar() == 1
            assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
    storage.dispose()


def test_table_is_looked_for_until_it_is_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    has_table = SqliteEventLogStorage.has_table

    def asking(storage: SqliteEventLogStorage, table_name: str) -> bool:
        asked.append(table_name)
        return has_table(storage, table_name)

    monkeypatch.setattr(SqliteEventLogStorage, "has_table", asking)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        storage = instance.event_log_storage
        assert [storage.has_table("later") for _ in range(2)] == [False, False]
        assert [storage.has_table("event_logs") for _ in range(2)] == [True, True]
    assert asked == ["later", "later", "event_logs"]


def test_columns_and_indexes_are_looked_for_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("_has_asset_key_col_on_connection", "has_secondary_index"):
        original = getattr(SqliteEventLogStorage, name)

        def asking(storage: object, *args: object, original: Callable[..., bool] = original) -> bool:
            asked.append(str(args[-1]))
            return original(storage, *args)

        monkeypatch.setattr(SqliteEventLogStorage, name, asking)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        dg.materialize([counted], instance=instance)
        instance.get_asset_records([dg.AssetKey("counted")])
        assert {"last_materialization_timestamp", "cached_status_data"} <= set(asked), "this Dagster still asks"
        asked.clear()
        dg.materialize([counted], instance=instance)
        instance.get_asset_records([dg.AssetKey("counted")])
        assert asked == []


def test_records_of_assets_are_those_that_dagsters_own_class_reads(home: Path) -> None:
    keys = [dg.AssetKey(name) for name in ("counted", "wiped", "planned", "unknown")]

    @dg.asset
    def wiped() -> None: ...

    @dg.asset
    def planned() -> None:
        raise OSError("disk full")

    with dg.DagsterInstance.from_config(str(home)) as instance:
        for asset in (counted, wiped, planned, counted):
            dg.materialize([asset], instance=instance, raise_on_error=False)
        instance.wipe_assets([keys[1]])
        dg.materialize([planned, counted], instance=instance, raise_on_error=False)
        ours, theirs = instance.event_log_storage, SqliteEventLogStorage(str(home / "history" / "runs"))
        assert [record.asset_entry.asset_key.to_user_string() for record in ours.get_asset_records(keys)] == [
            "counted",
            "planned",
        ]
        for storage_keys in (keys, keys[:1], keys[1:2], keys[2:3], None):
            assert ours.get_asset_records(storage_keys) == theirs.get_asset_records(storage_keys)
        assert ours.get_latest_materialization_events(keys) == theirs.get_latest_materialization_events(keys)


def test_no_query_looks_for_materializations_that_are_known(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the row has it")

    with dg.DagsterInstance.from_config(str(home)) as instance:
        run_id = dg.materialize([counted], instance=instance).run_id
        monkeypatch.setattr(SqliteEventLogStorage, "_get_latest_materialization_records", refuse)
        [record] = instance.get_asset_records([dg.AssetKey("counted")])
        assert record.asset_entry.last_run_id == run_id
