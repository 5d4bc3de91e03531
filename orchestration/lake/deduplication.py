"""Which events of a batch were there before, in the lake or in the batch itself, and which of those say something else.

Only the lake's files of nearby days are looked at: what a batch costs depends on the days that it touches, not on the
length of the history.
"""

from datetime import date, timedelta
from pathlib import Path

import duckdb

from orchestration.lake import received_sources
from orchestration.lake.batch import column_of, literal

RETRY_DAYS = 1
"""A known id is looked for on the event's UTC day and so many days before and after it. A retry that keeps its time is
always found; one that gives the event another time, within these days."""
UNTIMED_RETRY_DAYS = 7
"""The same for events that carry an id and no time, in days before their arrival: each arrival has another time."""


def find_repeated(connection: duckdb.DuckDBPyConnection, batches: Path) -> None:
    """Make the table `repeated` of candidates whose id was there before, in the lake or in this batch.

    An event is known by (source, event_id), whenever it came and whatever else it says: the first one stays. One
    that says something else is a conflict.
    """
    received_sources.keep_known(connection, lambda: _stored_near(connection, batches))
    connection.execute("""
        create temp table suspect as
        select source, event_id from candidate group by source, event_id having count(*) > 1
    """).fetchall()
    # Properties are compared by their hashes: they may have megabytes.
    columns = "source, event_id, event_name, account_id, event_at, md5(properties) as properties"
    connection.execute(f"create temp table stored as select {columns} from candidate where false").fetchall()
    # DuckDB guesses from one file how many rows all have. Left to its guess, it makes its hash table of the lake.
    connection.execute("set disabled_optimizers = 'join_order,build_side_probe_side'").fetchall()
    for files in _stored_near(connection, batches):
        # First by id alone: reading the other columns of every stored event would cost ten times as much.
        connection.execute(f"""
            create or replace temp table known as
            select distinct source, event_id, filename
            from {_reader(files)} semi join candidate using (source, event_id)
        """).fetchall()
        found = column_of(connection, "select distinct filename from known")
        if found:
            connection.execute(f"""
                insert into stored
                select {columns} from {_reader(found)} semi join known using (source, event_id)
            """).fetchall()
    connection.execute("reset disabled_optimizers").fetchall()
    connection.execute(f"""
        create temp table repeated as
        with first_stored as (
            from stored
            qualify row_number() over (partition by source, event_id order by event_at) = 1
        ),
        suspicious as (
            select
                seq, item, has_time, {columns},
                row_number() over (partition by source, event_id order by seq, item) as nth
            from candidate
            where
                (source, event_id) in (select (source, event_id) from suspect)
                or (source, event_id) in (select (source, event_id) from stored)
        ),
        compared as (
            select
                suspicious.*,
                coalesce(first_stored.event_name, first_here.event_name) as first_event_name,
                coalesce(first_stored.account_id, first_here.account_id) as first_account_id,
                coalesce(first_stored.event_at, first_here.event_at) as first_event_at,
                case when first_stored.event_id is null then first_here.properties
                    else first_stored.properties end as first_properties
            from suspicious
            left join first_stored using (source, event_id)
            left join (from suspicious where nth = 1) as first_here using (source, event_id)
            where suspicious.nth > 1 or first_stored.event_id is not null
        )
        select
            seq, item,
            event_name <> first_event_name or account_id <> first_account_id
            or (has_time and event_at <> first_event_at)
            or properties is distinct from first_properties as is_conflict
        from compared
    """).fetchall()


def _reader(files: list[str]) -> str:
    return f"read_parquet([{', '.join(map(literal, files))}], hive_partitioning = false)"


def _stored_near(connection: duckdb.DuckDBPyConnection, batches: Path) -> list[list[str]]:
    """The lake's files in which an id of the candidates can be: those of calls, and the others."""
    days: set[date] = set()
    for day in column_of(connection, "select distinct cast(event_at as date) from candidate"):
        days.update(_plus(day, distance) for distance in range(-RETRY_DAYS, RETRY_DAYS + 1))
    for day in column_of(connection, "select distinct cast(event_at as date) from candidate where not has_time"):
        days.update(_plus(day, -distance) for distance in range(UNTIMED_RETRY_DAYS + 1))
    names = {f"event_date={day}" for day in days}
    calls: list[str] = []
    others: list[str] = []
    for batch in sorted(path for path in batches.glob("[0-9]*")):
        for folder in (batch / "calls").glob("event_date=*"):
            if folder.name in names:
                calls += sorted(str(path) for path in folder.iterdir())
        others += sorted(str(path) for path in batch.glob("others*.parquet"))
    return [files for files in (calls, others) if files]


def _plus(day: date, days: int) -> date:
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return day
