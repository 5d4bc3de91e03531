"""Long SQL without a part that changes: parsed once in a process, as that takes as long as to run it on few lines."""

import duckdb

_PARSED: dict[str, duckdb.Statement] = {}


def parsed_once(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one statement of the text, for any connection's `execute` and `sql`. It is kept as long as the process."""
    if sql not in _PARSED:
        [_PARSED[sql]] = connection.extract_statements(sql)
    return _PARSED[sql]
