"""A landing folder and a lake for tests."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from orchestration.lake import quarantine
from orchestration.lake.lake import BATCH_BYTES, Lake
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.manifests import Batch
from orchestration.lake.sources import Folder, Skipped, Source
from orchestration.usage.meters import Meter
from tests.support.builders import NOW, land


class World:
    """A landing folder and a lake, whose manifests stand in for the ledger."""

    def __init__(self, root: Path, place: Source | None = None, lake_url: str | None = None) -> None:
        self.root = root
        self.landing = root / "landing"
        self.place = place or Folder(self.landing)
        self.lake = Lake(root / "lake", lake_url)
        self.meters: Sequence[Meter] = ()
        """Whose events the lake takes, beside calls."""
        self.skipped: list[Skipped] = []
        self.landing.mkdir(parents=True, exist_ok=True)

    def land(self, *lines: object, name: str = "a.ndjson") -> Path:
        return land(self.landing, name, *lines)

    def ingest(self, batch_bytes: int = BATCH_BYTES, now: datetime = NOW) -> list[Batch]:
        batches: list[Batch] = []
        with self.lake.writing():
            for _ in range(1000):
                batch, self.skipped = self.lake.ingest(self.place, self.known(), now, batch_bytes, meters=self.meters)
                if batch is None:
                    return batches
                batches.append(batch)
        raise AssertionError("ingestion never comes to an end")

    def replay(self, now: datetime = NOW) -> Batch | None:
        with self.lake.writing():
            return self.lake.replay(now, self.meters)

    def known(self) -> Mapping[str, LandedFile]:
        return {file.path: file for batch in self.lake.batches() for file in batch.files}

    def rows(self, columns: str, *files: str) -> list[Any]:
        sources = [str(self.lake.root / file) for file in files]
        found = _engine().execute(
            f"select {columns} from read_parquet(?, hive_partitioning = false, union_by_name = true) order by all",
            [sources],
        )
        return [row[0] if len(row) == 1 else row for row in found.fetchall()]

    def calls(self, columns: str = "event_id") -> list[Any]:
        return self.rows(columns, "batches/*/calls/*/*.parquet")

    def events(self, columns: str = "event_id") -> list[Any]:
        return self.rows(columns, "batches/*/calls/*/*.parquet", "batches/*/others*.parquet")

    def rejected(self, columns: str = "line_number, reason") -> list[Any]:
        """The quarantine as readers see it: what the last replay left, and what came after it."""
        files = sorted(self.lake.root.glob("batches/*/rejected*.parquet"))
        generation = max((batch.generation for batch in self.lake.batches()), default=0)
        found = _engine().execute(f"select {columns} from {quarantine.standing(files, generation)} order by all")
        return [row[0] if len(row) == 1 else row for row in found.fetchall()]

    def accounts(self, columns: str = "*") -> list[Any]:
        return self.rows(columns, "accounts.parquet")

    def accounts_rejected(self) -> list[Any]:
        return self.rows("landed_file, line_number, reason", "accounts_rejected.parquet")


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """One for all questions, most of which take less time than to start it."""
    connection = duckdb.connect(config={"enable_external_file_cache": False})  # other files come in their places
    return connection.execute("set TimeZone = 'UTC'")
