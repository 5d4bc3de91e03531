"""What became of events: in sealed segments of the collector, and counted in the lake."""

from collections.abc import Sequence
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


class Rejected(NamedTuple):
    """A line in quarantine."""

    reason: str
    line: str


def in_lake(data: Path, rejected: Sequence[str] = ()) -> list[Counted]:
    """The calls that count after an ingestion. Nothing may be in quarantine for other reasons than these."""
    pipeline.ingest(data, data / "landing", datetime.now(UTC) + timedelta(minutes=1))
    in_quarantine = rejected_lines(data)
    assert [line.reason for line in in_quarantine] == list(rejected), in_quarantine
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        calls = _read(
            connection, "account_id, event_id, event_at", data / "lake" / "batches" / "*" / "calls" / "*" / "*.parquet"
        )
    return sorted(Counted(account, event, at.replace(tzinfo=UTC)) for account, event, at in calls)


def rejected_lines(data: Path) -> list[Rejected]:
    """What is in quarantine after an ingestion."""
    with duckdb.connect() as connection:
        found = _read(connection, "reason, line", data / "lake" / "batches" / "*" / "rejected*.parquet")
    return [Rejected(str(reason), str(line)) for reason, line in found]


def _read(connection: duckdb.DuckDBPyConnection, columns: str, files: Path) -> list[tuple[object, ...]]:
    return connection.execute(
        f"select {columns} from read_parquet(?, hive_partitioning = false, union_by_name = true)", [str(files)]
    ).fetchall()
