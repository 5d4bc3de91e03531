"""Which events of a batch were there before, in the lake or in the batch itself, and which of those say something else.

Only the lake's files of nearby days are looked at: what a batch costs depends on the days that it touches, not on the
length of the history. Within a batch the same days count as between two: how files fall into batches changes no figure.
"""

from datetime import date, timedelta
from pathlib import Path

import duckdb

from orchestration.lake import id_hash, received_sources
from orchestration.lake.batch import column_of, literal
from orchestration.usage.events import OTHER_EVENTS

RETRY_DAYS = 1
"""A known id is looked for on the event's UTC day and so many days before and after it. A retry that keeps its time is
always found; one that gives the event another time, within these days. Of two events that are no calls, always."""
UNTIMED_RETRY_DAYS = 7
"""The same for events that carry an id and no time, in days before their arrival: each arrival has another time."""

_CONTENT = "source, event_id, event_name, account_id, event_at"
_NEARNESS = (
    f"cast(event_at as date) as event_on, event_name not in ({', '.join(map(literal, OTHER_EVENTS))}) as is_call"
)
_KEY = "source, event_id, event_on, has_time, is_call"
"""What two events with the same id are near to is the same where these are: the first of them decides for all."""
_IS_NEAR = f"""
    earlier.source = later.source and earlier.event_id = later.event_id and (
        earlier.event_on - later.event_on
            between case when later.has_time then -{RETRY_DAYS} else -{UNTIMED_RETRY_DAYS} end and {RETRY_DAYS}
        or not (earlier.is_call or later.is_call)
    )"""


def find_repeated(connection: duckdb.DuckDBPyConnection, batches: Path) -> None:
    """Make the table `repeated` of candidates whose id was there before, in the lake or in this batch.

    An event is known by (source, event_id), whenever it came and whatever else it says: the first one stays, and each
    later one that is near none that stays. One that says something else than those that it is near is a conflict.
    """
    received_sources.keep_known(connection, lambda: _stored_near(connection, batches))
    _find_stored(connection, batches)
    # Properties are compared by their hashes: they may have megabytes.
    connection.execute(f"""
        create temp table suspicious as
        -- ids that share a hash by chance are separated afterwards
        with suspect as (
            select id_hash from candidate group by id_hash having count(*) > 1
            union all
            select {id_hash.HASH} from stored
        )
        select seq, item, {_CONTENT}, md5(properties) as properties, has_time, {_NEARNESS}
        from candidate
        where id_hash in (from suspect)
    """).fetchall()
    if not column_of(connection, "select 1 from suspicious limit 1"):
        connection.execute("create temp table repeated as select seq, item, false as is_conflict from suspicious")
        return
    connection.execute(f"""
        create temp table kept as
        select *, {_NEARNESS}, cast(-1 as bigint) as seq, cast(0 as bigint) as item from stored
    """).fetchall()
    connection.execute(f"""
        create temp table undecided as
        select {_KEY}, min(row(seq, item)) as place
        from suspicious as later anti join kept as earlier on {_IS_NEAR}
        group by {_KEY}
    """).fetchall()
    # One round for each event that stays of the id that has most of them: nearly always one.
    while column_of(connection, "select 1 from undecided limit 1"):
        connection.execute(f"""
            create or replace temp table first_here as
            select {_CONTENT}, properties, event_on, is_call, seq, item
            from suspicious where (seq, item) in (select min(place) from undecided group by source, event_id)
        """).fetchall()
        connection.execute("insert into kept from first_here").fetchall()
        connection.execute(f"""
            create or replace temp table undecided as
            select later.* from undecided as later anti join first_here as earlier on {_IS_NEAR}
        """).fetchall()
    connection.execute(f"""
        create temp table repeated as
        with later as (select distinct {_KEY} from suspicious),
        near as (
            select later.*, earlier.* exclude (source, event_id, event_on, is_call)
            from later join kept as earlier on {_IS_NEAR}
        )
        select
            suspicious.seq, suspicious.item,
            bool_and(
                suspicious.event_name <> near.event_name or suspicious.account_id <> near.account_id
                or (suspicious.has_time and suspicious.event_at <> near.event_at)
                or suspicious.properties is distinct from near.properties
            ) as is_conflict
        from suspicious join near using ({_KEY})
        where (near.seq, near.item) < (suspicious.seq, suspicious.item)
        group by suspicious.seq, suspicious.item
    """).fetchall()


def _find_stored(connection: duckdb.DuckDBPyConnection, batches: Path) -> None:
    """Make the table `stored` of the lake's events with an id of the candidates that can be near one of them."""
    columns = f"{_CONTENT}, md5(properties) as properties"
    connection.execute(f"create temp table stored as select {columns} from candidate where false").fetchall()
    # DuckDB guesses from one file how many rows all have. Left to its guess, it makes its hash table of the lake.
    connection.execute("set disabled_optimizers = 'join_order,build_side_probe_side'").fetchall()
    hashed = id_hash.column()
    for files in _stored_near(connection, batches):
        schemas = f"from parquet_schema([{', '.join(map(literal, files))}]) where name = '{hashed}'"
        with_hash = set(column_of(connection, f"select file_name {schemas}"))
        for stored_hash, some in (
            (hashed, [file for file in files if file in with_hash]),
            (id_hash.HASH, [file for file in files if file not in with_hash]),
        ):
            if not some:
                continue
            # First by the hash alone: reading the other columns of every stored event would cost more.
            connection.execute(f"""
                create or replace temp table known as
                select distinct {stored_hash} as id_hash, filename
                from {_reader(some)}
                where {stored_hash} in (select id_hash from candidate)
            """).fetchall()
            found = column_of(connection, "select distinct filename from known")
            if found:
                connection.execute(f"""
                    insert into stored
                    select {columns} from {_reader(found)} where {stored_hash} in (select id_hash from known)
                """).fetchall()
    connection.execute("reset disabled_optimizers").fetchall()


def _reader(files: list[str]) -> str:
    return f"read_parquet([{', '.join(map(literal, files))}], hive_partitioning = false)"


def _stored_near(connection: duckdb.DuckDBPyConnection, batches: Path) -> list[list[str]]:
    """The lake's files in which an id of the candidates can be: those of calls, and the others."""
    days: set[date] = set()
    found = connection.execute("select distinct cast(event_at as date), has_time from candidate").fetchall()
    for day, has_time in found:
        days.update(_plus(day, distance) for distance in range(-RETRY_DAYS, RETRY_DAYS + 1))
        if not has_time:
            days.update(_plus(day, -distance) for distance in range(UNTIMED_RETRY_DAYS + 1))
    names = {f"event_date={day}" for day in days}
    calls: list[str] = []
    others: list[str] = []
    for batch in sorted(path for path in batches.glob("[0-9]*") if int(path.name)):  # the first one is empty
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
