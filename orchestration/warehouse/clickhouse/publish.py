"""Marts on ClickHouse into the published copy, which is a DuckDB file as ever: readers ask the same queries, and need
no server. One table after the other comes as Parquet, and is cast to the types that its contract names.
"""

from collections.abc import Mapping
from pathlib import Path

import duckdb
from filelock import FileLock

from orchestration.lake.batch import literal
from orchestration.warehouse.clickhouse.client import ClickHouse
from orchestration.warehouse.published_copy import log_of, swap_in

CONFIG = {"memory_limit": "700MB", "storage_compatibility_version": "v1.5.0"}
"""The format is that of dbt's profile: analysts' tools need not have the newest DuckDB."""


def publish(
    server: ClickHouse, columns: Mapping[str, Mapping[str, str]], published: Path, lock: Path
) -> dict[str, int]:
    """Replace `published` by these tables, atomically; the rows of each. Waits while a build runs, which has `lock`.

    :raises ClickHouseError: the server is away or refuses; the copy that was there stays.
    """
    staging, part = published.with_name(f".{published.name}"), published.with_name(".published.parquet")
    rows = {}
    try:
        with FileLock(lock):
            staging.unlink(missing_ok=True)
            log_of(staging).unlink(missing_ok=True)
            with duckdb.connect(str(staging), config={**CONFIG}) as connection:
                connection.execute("set TimeZone = 'UTC'")
                for table, types in columns.items():
                    names = ", ".join(f'"{name}"' for name in types)
                    server.download(f"select {names} from {table}", part)
                    typed = ", ".join(f'cast("{name}" as {kind}) as "{name}"' for name, kind in types.items())
                    rows_there = f"select {typed} from read_parquet({literal(str(part))})"
                    connection.execute(f"create table {table} as {rows_there}")
                    [[rows[table]]] = connection.execute(f"select count(*) from {table}").fetchall()
            swap_in(staging, published)
    finally:
        part.unlink(missing_ok=True)
    return rows
