"""What became of events: in sealed segments of the collector, and counted in the lake."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb

from tests.orchestration.collector import loopback
from tests.support import pipeline


class Counted(NamedTuple):
    """An event in the lake."""

    account_id: str
    event_id: str
    event_at: datetime


def in_segments(collector: loopback.Program) -> int:
    """How many events are stored, repeated ones included. All segments must be sealed."""
    assert not list(collector.folder.glob("*.part"))
    return len(loopback.events(collector.folder))


def in_lake(data: Path) -> list[Counted]:
    """The calls that count after an ingestion. Nothing may be in quarantine."""
    pipeline.ingest(data, data / "landing", datetime.now(UTC) + timedelta(minutes=1))
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        rejected = _read(connection, "reason, line", data / "lake" / "batches" / "*" / "rejected*.parquet")
        assert not rejected, rejected
        calls = _read(
            connection, "account_id, event_id, event_at", data / "lake" / "batches" / "*" / "calls" / "*" / "*.parquet"
        )
    return sorted(Counted(account, event, at.replace(tzinfo=UTC)) for account, event, at in calls)


def _read(connection: duckdb.DuckDBPyConnection, columns: str, files: Path) -> list[tuple[object, ...]]:
    return connection.execute(
        f"select {columns} from read_parquet(?, hive_partitioning = false, union_by_name = true)", [str(files)]
    ).fetchall()
