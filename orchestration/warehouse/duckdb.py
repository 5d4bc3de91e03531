"""DuckDB as the engine of the marts: one file, which dbt writes. The models read the lake in place."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock

from orchestration.lake.lake import Lake
from orchestration.usage.findings import Finding
from orchestration.warehouse.engine import Columns
from orchestration.warehouse.published_copy import count_rows, log_of, rows_of, swap_in
from orchestration.warehouse.queries import DATA_QUALITY

BOOKKEEPING = ("recount_progress", "crossing_moments")
"""What a build keeps for the next one (macros/recount.sql): nothing for readers."""


@dataclass(frozen=True)
class DuckDbEngine:
    """The file `warehouse`, whose copy for readers is `published`."""

    warehouse: Path
    published: Path
    dbt_folder = "dbt"

    @property
    def dbt_environment(self) -> Mapping[str, str]:
        return {"HEADROOM_WAREHOUSE": "duckdb"}

    def load(self, lake: Lake, say: Callable[[str], object]) -> None:
        """Nothing to do."""

    def inspect(self, tables: list[str]) -> tuple[dict[str, int], dict[str, Any]]:
        return inspect(self.warehouse, tables)

    def publish(self, columns: Callable[[], Columns]) -> dict[str, int]:
        return publish(self.warehouse, self.published)

    def examine(self, lake: Lake) -> Iterator[Finding]:
        """Nothing to look at: the file is made by the first build."""
        return iter(())


def publish(warehouse: Path, published: Path) -> dict[str, int]:
    """Copy the warehouse to `published`, atomically, without `BOOKKEEPING`; the rows of each table of its main schema.

    :raises duckdb.IOException: another process writes the warehouse outside the jobs (`dbt build` by hand).
    """
    staging = published.with_name(f".{published.name}")
    with FileLock(warehouse.with_suffix(".lock")):
        duckdb.connect(str(warehouse)).close()  # what a killed build had committed is in the file itself then
        # A publication that was killed while it dropped a table leaves a log beside its file, which is not this one's.
        log_of(staging).unlink(missing_ok=True)
        staging.unlink(missing_ok=True)
        shutil.copyfile(warehouse, staging)
        with duckdb.connect(str(staging)) as connection:
            for name in BOOKKEEPING:
                connection.execute(f"drop table if exists main.{name}")
            names = connection.execute(
                """select table_name from duckdb_tables()
                   where database_name = current_database() and schema_name = 'main' order by table_name"""
            ).fetchall()
            rows = {name: count_rows(connection, f'main."{name}"') for (name,) in names}
        swap_in(staging, published)
    return rows


def inspect(warehouse: Path, tables: Sequence[str]) -> tuple[dict[str, int], dict[str, Any]]:
    """Rows of the named tables right after a build, and the row of data_quality where it is one of them."""
    with (
        FileLock(warehouse.with_suffix(".lock")),
        duckdb.connect(str(warehouse), read_only=True) as connection,
    ):
        rows = {table: count_rows(connection, f'main."{table}"') for table in tables}
        return rows, rows_of(connection, DATA_QUALITY)[0] if "data_quality" in rows else {}
