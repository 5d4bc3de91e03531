"""dlt into DuckDB, in an environment of its own: merge on the uuid, in each of the ways that its documentation offers.

- arrow: DuckDB parses, Arrow record batches go through dlt.
- parquet: records as Python objects, Parquet as the format between dlt and DuckDB.
- defaults: the same with the format that dlt takes by itself.

The last two are dlt's filesystem source; `read_jsonl` as it is stops at the first malformed line, so this is the same
reader with those left out. The merge strategy is the default one, delete-insert: upsert and insert-only keep both
copies of an event that comes twice in one load.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}

import dlt
import duckdb
from dlt.common import json
from dlt.common.runtime import run_context
from dlt.sources.filesystem import filesystem

from tests.bench.others_answer import answer_from

RECORDS_AT_ONCE = 1000  # as in read_jsonl
ROWS_AT_ONCE = 100_000


@dlt.resource(name="calls", write_disposition="merge", primary_key="uuid")
def arrow(landing: Path) -> Iterator[Any]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield from connection.sql(f"""
            select event, uuid, distinct_id, timestamp, properties.*
            from read_json(
                '{landing}/*.ndjson', format = 'newline_delimited', ignore_errors = true,
                columns = {{
                    event: 'VARCHAR', uuid: 'VARCHAR', distinct_id: 'VARCHAR', timestamp: 'TIMESTAMPTZ',
                    properties: 'STRUCT(account_id VARCHAR, endpoint VARCHAR, "method" VARCHAR, status INTEGER,
                                        region VARCHAR, duration_ms INTEGER)'
                }}
            )
            where uuid is not null
        """).to_arrow_reader(ROWS_AT_ONCE)


@dlt.transformer(name="calls", write_disposition="merge", primary_key="uuid")
def records(files: Iterable[Any]) -> Iterator[list[Any]]:
    for file in files:
        chunk = []
        with file.open() as lines:
            for line in lines:
                try:
                    chunk.append(json.loadb(line))
                except ValueError:
                    continue
                if len(chunk) >= RECORDS_AT_ONCE:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk


def main(how: str, landing: Path, target: Path) -> None:
    target.mkdir(parents=True)
    run_context.global_dir = lambda: str(target)  # else it leaves an id in the home folder, telemetry or not
    warehouse = target / "warehouse.duckdb"
    pipeline = dlt.pipeline(
        "calls",
        destination=dlt.destinations.duckdb(str(warehouse)),
        dataset_name="usage",
        pipelines_dir=str(target / "pipelines"),
    )
    if how == "arrow":
        pipeline.run(arrow(landing))
        account = "account_id"
    else:
        files = filesystem(bucket_url=str(landing), file_glob="*.ndjson")
        pipeline.run(files | records(), loader_file_format="parquet" if how == "parquet" else None)
        account = "properties__account_id"
    with duckdb.connect(str(warehouse)) as connection:
        calls = f"(select {account} as account_id, timestamp as called_at from usage.calls)"
        answer_from(connection, calls, target, "dlt", "duckdb")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
