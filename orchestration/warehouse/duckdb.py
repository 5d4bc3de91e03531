"""DuckDB as the engine of the marts: one file, which dbt writes."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock

from orchestration.warehouse.published_copy import count_rows, rows_of
from orchestration.warehouse.queries import DATA_QUALITY


def publish(warehouse: Path, published: Path) -> dict[str, int]:
    """Copy the warehouse to `published`, atomically; the rows of each table of its main schema.

    :raises duckdb.IOException: another process writes the warehouse outside the jobs (`dbt build` by hand).
    """
    staging = published.with_name(f".{published.name}")
    with FileLock(warehouse.with_suffix(".lock")):
        duckdb.connect(str(warehouse)).close()  # what a killed build had committed is in the file itself then
        shutil.copyfile(warehouse, staging)
        with duckdb.connect(str(staging), read_only=True) as connection:
            names = connection.execute(
                """select table_name from duckdb_tables()
                   where database_name = current_database() and schema_name = 'main' order by table_name"""
            ).fetchall()
            rows = {name: count_rows(connection, f'main."{name}"') for (name,) in names}
        staging.replace(published)
    return rows


def inspect(warehouse: Path, tables: Sequence[str]) -> tuple[dict[str, int], dict[str, Any]]:
    """Rows of the named tables right after a build, and the row of data_quality where it is one of them."""
    with (
        FileLock(warehouse.with_suffix(".lock")),
        duckdb.connect(str(warehouse), read_only=True) as connection,
    ):
        rows = {table: count_rows(connection, f'main."{table}"') for table in tables}
        return rows, rows_of(connection, DATA_QUALITY)[0] if "data_quality" in rows else {}
