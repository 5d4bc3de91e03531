"""Events that were counted before the collector said whose they are.

The source of an event that names none is its project or the name of its key (docs/data-in/http.md), and source and id
are what an event is known by. An event that was counted without a source, and is sent once more after the collector
learned one, says the same as before: it keeps the identity that it has, so that it does not count twice. Another event
with that id, of another sender, says something else, and counts.
"""

from collections.abc import Callable

import duckdb

from orchestration.lake.batch import column_of, literal


def keep_known(connection: duckdb.DuckDBPyConnection, stored_near: Callable[[], list[list[str]]]) -> None:
    """Take the received source back from events in `judged` that are known without one.

    `stored_near` names the lake's files of nearby days. Of these only row groups with events without a source are read,
    and none where no event of the batch has a received source.
    """
    is_concerned = "reason is null and own_id is not null and is_source_received"
    if not column_of(connection, f"select 1 from judged where {is_concerned} limit 1"):
        return
    connection.execute(
        f"create temp table sourced as select distinct own_id as event_id from judged where {is_concerned}"
    )
    columns = "event_id, event_name, account_id, event_at, md5(properties) as properties"
    connection.execute(f"""
        create temp table unsourced as
        select {columns} from candidate semi join sourced using (event_id) where source = ''
    """).fetchall()
    connection.execute("set disabled_optimizers = 'join_order,build_side_probe_side'").fetchall()
    for files in stored_near():
        known = f"from {_reader(files)} semi join sourced using (event_id) where source = ''"
        found = column_of(connection, f"select distinct filename {known}")
        if found:
            connection.execute(f"""
                insert into unsourced
                select {columns} from {_reader(found)} semi join sourced using (event_id) where source = ''
            """).fetchall()
    connection.execute("reset disabled_optimizers").fetchall()
    connection.execute(f"""
        update judged set own_source = null
        from unsourced
        where {is_concerned}
            and judged.own_id = unsourced.event_id
            and judged.event_name = unsourced.event_name and judged.account_id = unsourced.account_id
            and (judged.event_at = unsourced.event_at or not judged.has_time)
            and md5(judged.properties) is not distinct from unsourced.properties
    """).fetchall()
    connection.execute("drop table sourced").fetchall()
    connection.execute("drop table unsourced").fetchall()


def _reader(files: list[str]) -> str:
    return f"read_parquet([{', '.join(map(literal, files))}], hive_partitioning = false)"
