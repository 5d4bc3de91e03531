"""Ours: landing folder to lake, and the rollup over the lake's Parquet in DuckDB."""

import sys
from pathlib import Path

import duckdb

from tests.bench.ingest import into_lake
from tests.bench.others_answer import answer_from


def main(landing: Path, target: Path) -> None:
    into_lake(landing, target)
    calls = f"(select account_id, event_at as called_at from read_parquet('{target}/batches/*/calls/*/*.parquet'))"
    with duckdb.connect() as connection:
        answer_from(connection, calls, target, "duckdb")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
