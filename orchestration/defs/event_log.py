"""Dagster's event log on SQLite, in fewer and cheaper transactions. `cli/run.py` names it in Dagster's dagster.yaml.

Dagster opens a connection for each event, waits for the disk once or twice, and closes it again, by which SQLite
copies its write-ahead log: 5 to 14 ms, for some 450 events of a run. Here the connections stay, a commit does not wait
for the disk, and what a run announces at its start is one transaction. The files are Dagster's own: either class reads
what the other wrote.

A killed process loses nothing. When the machine itself stops, the last events may be missing from the history in
Dagster's UI. What was counted and sent is in the lake and in the ledger, which wait for the disk.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import sqlalchemy as sa
from dagster import AssetKey, EventLogEntry, EventLogRecord, StringSource
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData, deserialize_value
from sqlalchemy.pool import NullPool

from orchestration.defs import dagster_migrations

INDEX = "index"
"""The file with what concerns all runs."""
KEPT_OPEN = 4
"""Files at most: the index of all runs, and the runs that are written or looked at right now."""


class EventLog(SqliteEventLogStorage):
    """Events of runs, in `history/runs` of Dagster's home."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._open: dict[str, tuple[sa.Connection, tuple[int, int] | None]] = {}
        self._batch: ExitStack | None = None
        self._in_batch: dict[str, sa.Connection] = {}
        self._writer = 0
        self._there: set[str] = set()
        dagster_migrations.keep()
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {"home": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> "EventLog":
        return cls(str(Path(config_value["home"]) / "history" / "runs"), inst_data)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """All of them in one transaction of each file, or none."""
        with self._db_lock, ExitStack() as transactions:
            self._batch = transactions
            self._writer = get_ident()
            try:
                super().store_event_batch(events)
            finally:
                self._batch = None
                self._in_batch.clear()

    def has_table(self, table_name: str) -> bool:
        return self._stays(f"table {table_name}", super().has_table, table_name)

    def has_secondary_index(self, name: str) -> bool:
        return self._stays(f"secondary index {name}", super().has_secondary_index, name)

    def _has_asset_key_col_on_connection(self, conn: sa.Connection, column_name: str) -> bool:
        return self._stays(f"column {column_name}", super()._has_asset_key_col_on_connection, conn, column_name)

    def _stays(self, what: str, is_there: Callable[..., bool], *args: Any) -> bool:
        """Dagster asks several times for each asset's event. What is there stays."""
        if what not in self._there and is_there(*args):
            self._there.add(what)
        return what in self._there

    def _get_latest_materialization_records(
        self, raw_asset_rows: Iterable[Mapping[str, Any]]
    ) -> Mapping[AssetKey, EventLogRecord | None]:
        """Of most assets it stands in the row. Dagster looks for that of the others also when there are none."""
        rows = list(raw_asset_rows)
        others, found = [], {}
        for row in rows:
            last = row["last_materialization"] and deserialize_value(row["last_materialization"])
            key = AssetKey.from_db_string(row["asset_key"])
            if key and isinstance(last, EventLogRecord) and not row["asset_details"]:
                found[key] = last
            else:  # never materialized, wiped, or stored by an old version
                others.append(row)
        return {**found, **(super()._get_latest_materialization_records(others) if others else {})}

    def dispose(self) -> None:
        with self._db_lock:
            for shard in list(self._open):
                self._close(shard)
        super().dispose()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        if self._batch is not None and self._writer == get_ident():
            if shard not in self._in_batch:
                connection = self._connection(shard)
                self._batch.enter_context(self._transaction(shard, connection))
                self._in_batch[shard] = connection
            yield self._in_batch[shard]
        else:
            with self._db_lock:
                connection = self._connection(shard)
                with self._transaction(shard, connection):
                    yield connection

    @contextmanager
    def _transaction(self, shard: str, connection: sa.Connection) -> Iterator[None]:
        try:
            with connection.begin():
                yield
        except BaseException:
            self._close(shard)  # whatever happened, the next event gets a connection that works
            raise

    def _connection(self, shard: str) -> sa.Connection:
        """The kept one, or a new one where its file was removed or replaced, as that of an old run is."""
        path = Path(self.path_for_shard(shard))
        if shard in self._open:
            connection, file = self._open[shard]
            if file == _identity(path):
                return connection
            self._close(shard)
            self._initialized_dbs.discard(shard)
        engine = sa.create_engine(
            self.conn_string_for_shard(shard),
            poolclass=NullPool,
            connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
        )
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        connection = engine.connect()
        connection.exec_driver_sql("pragma synchronous = normal")
        connection.commit()
        for oldest in [name for name in self._open if name != INDEX][: len(self._open) + 1 - KEPT_OPEN]:
            self._close(oldest)
        self._open[shard] = connection, _identity(path)
        return connection

    def _close(self, shard: str) -> None:
        if opened := self._open.pop(shard, None):
            opened[0].close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
