"""The table `judged`: what `JUDGE_LINES` makes of the lines that are looked at one by one.

Most batches have none. To bind the statement takes 35 ms even then, a fifth of a small batch: its table is made by
its columns.
"""

from collections.abc import Mapping

import duckdb

from orchestration.lake.event_sql import JUDGE_LINES
from orchestration.lake.statements import parsed_once

COLUMNS = {
    "seq": "bigint",
    "item": "bigint",
    "own_source": "varchar",
    "own_id": "varchar",
    "event_name": "varchar",
    "account_id": "varchar",
    "event_at": "timestamptz",
    "has_time": "boolean",
    "sample_weight": "bigint",
    "quota": "bigint",
    "endpoint": "varchar",
    "status": "integer",
    "properties": "varchar",
    "landed_file": "varchar",
    "origin": "varchar",
    "line_number": "bigint",
    "arrived_at": "timestamptz",
    "reason": "varchar",
    "received_key": "varchar",
    "is_source_received": "boolean",
    "raw": "varchar",
    "lost_bytes": "bigint",
    "lost_events": "bigint",
}
"""As `JUDGE_LINES` selects them."""


def judge(connection: duckdb.DuckDBPyConnection, terms: Mapping[str, object]) -> None:
    """Of the lines in `lines`."""
    connection.execute(parsed_once(connection, JUDGE_LINES), terms).fetchall()


def judge_none(connection: duckdb.DuckDBPyConnection) -> None:
    """Without rows."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute(f"create temp table judged ({columns})").fetchall()
