"""One batch of landed lines on its way into the lake: judged, and written.

Before that its lines are staged (`batch_lines.py`), in between events that were there before are found
(`deduplication.py`). The
rules are in `event_sql.py`; what makes a batch whole, and when it counts, in `lake.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.lake import id_hash, judged, parquet, parsed_lines
from orchestration.lake.batch_lines import BatchLines
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.meter_sql import judge_terms
from orchestration.lake.parsed_lines import Calls, ParsedLines
from orchestration.usage.events import OTHER_EVENTS, TYPICAL_EVENT_BYTES, Rejection
from orchestration.usage.meters import Meter

CALL_COLUMNS = {
    "source": "varchar",
    "event_id": "varchar",
    "event_name": "varchar",
    "account_id": "varchar",
    "event_at": "timestamptz",
    "ingested_at": "timestamptz",
    "sample_weight": "bigint",
    "endpoint": "varchar",
    "status": "integer",
    "properties": "varchar",
    "landed_file": "varchar",
    "line_number": "bigint",
    "batch": "bigint",
}
OTHER_COLUMNS = {
    "source": "varchar",
    "event_id": "varchar",
    "event_name": "varchar",
    "account_id": "varchar",
    "event_at": "timestamptz",
    "ingested_at": "timestamptz",
    "quota": "bigint",
    "properties": "varchar",
    "landed_file": "varchar",
    "line_number": "bigint",
    "batch": "bigint",
}
RECEIVED_COLUMNS = {"received_key": "varchar"}
"""Of calls and other events as well, in files younger than the names of keys. For people: no model reads them."""
REJECTED_COLUMNS = {
    "landed_file": "varchar",
    "origin": "varchar",
    "line_number": "bigint",
    "item": "bigint",
    "reason": "varchar",
    "line": "varchar",
    "arrived_at": "timestamptz",
    "rejected_at": "timestamptz",
    "generation": "bigint",
    "lost_bytes": "bigint",
    "lost_events": "bigint",
    "batch": "bigint",
}
_ENCODINGS = {
    "event_id": "DELTA_LENGTH_BYTE_ARRAY",
    "event_at": "DELTA_BINARY_PACKED",
    "properties": "PLAIN",
    "line_number": "DELTA_BINARY_PACKED",
}
"""Of columns with many values: what is written fastest. It is also a tenth smaller than plain values."""
WRITERS = 2
"""Files that are written at once: most of that is done in C++, outside of Python's lock."""
Again = Sequence[tuple[str, str, int]]
"""Contents that are read again: path, origin and the first of the lines."""
REFUSED_ROW_COLUMNS = {
    **{name: REJECTED_COLUMNS[name] for name in ("landed_file", "line_number", "reason", "line", "rejected_at")},
    "column_name": "varchar",
    "value": "varchar",
    "problem": "varchar",
}
"""Of the quarantine of a file of accounts."""
QUARANTINE_COLUMNS = {**REJECTED_COLUMNS, **REFUSED_ROW_COLUMNS}
"""Of all quarantine; a file has its part of them."""


def judge(
    connection: duckdb.DuckDBPyConnection,
    staged: BatchLines,
    ingested_at: datetime,
    kept_from: date,
    meters: Sequence[Meter],
) -> ParsedLines:
    """Make the table `judged` of lines that were looked at one by one, and the view `candidate` of all good events.

    Good calls that were not looked at one by one are returned: `write` wants them.
    """
    parsed, unvouched = parsed_lines.parse(connection, staged, ingested_at, kept_from, meters)
    connection.execute("set preserve_insertion_order = false")  # costs memory, and from here on nothing has an order
    if unvouched == []:
        judged.judge_none(connection)
    else:
        connection.register("lines", staged.raw(unvouched))
        judged.judge(connection, {"ingested_at": ingested_at, "kept_from": kept_from, **judge_terms(meters)})
        connection.unregister("lines")
    _candidates(connection)
    parsed.register(connection)
    connection.execute(f"""
        create temp view candidate as
        select {_CANDIDATE} from (
            select *, {id_hash.column()} as id_hash, 0 as item, cast(null as bigint) as quota,
                cast(null as varchar) as received_key
            from parsed
        )
        where is_judged
        union all
        from judged_candidate
    """).fetchall()
    return parsed


def judge_again(
    connection: duckdb.DuckDBPyConnection,
    rejected: str,
    ingested_at: datetime,
    kept_from: date,
    meters: Sequence[Meter],
) -> None:
    """The same for lines in quarantine, `rejected` being a query for them: other rules may be in force by now."""
    connection.execute(f"""
        create temp table lines as
        select row_number() over (order by landed_file, line_number, item) as seq, item, line as raw,
            cast(null as varchar) as undecoded, landed_file, origin, line_number, arrived_at
        from ({rejected})
    """).fetchall()
    judged.judge(connection, {"ingested_at": ingested_at, "kept_from": kept_from, **judge_terms(meters)})
    _candidates(connection)
    connection.execute("create temp view candidate as from judged_candidate").fetchall()


_CANDIDATE = """
    seq, item, source, event_id, has_time, event_name, account_id, event_at, sample_weight, quota, endpoint, status,
    properties, landed_file, line_number, received_key, id_hash
"""


def _candidates(connection: duckdb.DuckDBPyConnection) -> None:
    # The id of an event that has none is its place: where its file was first seen, and its line.
    connection.execute(f"""
        create temp view judged_candidate as
        select {_CANDIDATE} from (
            select
                *,
                coalesce(case when own_id is null then origin else own_source end, '') as source,
                coalesce(own_id, line_number || case when item > 0 then '.' || item else '' end) as event_id,
                {id_hash.HASH} as id_hash
            from judged where reason is null
        )
    """).fetchall()


REFUSED = "landed_file, origin, line_number, item, reason, line, arrived_at, lost_bytes, lost_events"
"""Columns of the view `refused`. By the time of arrival an event without a time is judged again."""


def refuse(connection: duckdb.DuckDBPyConnection, staged: BatchLines | None, ingested_at: datetime) -> None:
    """Make the view `refused`: what was judged bad, conflicts with their lines, and where files are damaged."""
    connection.execute(f"""
        create temp table refused_besides as
        select landed_file, origin, line_number, item, '{Rejection.ID_CONFLICT}' as reason, raw as line, arrived_at,
            strlen(raw) as lost_bytes, cast(1 as bigint) as lost_events
        from judged where raw is not null and (seq, item) in (select (seq, item) from repeated where is_conflict)
    """).fetchall()
    elsewhere = """select seq from repeated
        where is_conflict and (seq, item) not in (select (seq, item) from judged where raw is not null)"""
    conflicts = column_of(connection, f"{elsewhere} order by seq")
    if conflicts:
        if staged:
            connection.register("lines", staged.raw(conflicts))
        connection.execute(
            f"""
            insert into refused_besides
            select landed_file, origin, line_number, item, '{Rejection.ID_CONFLICT}', raw, coalesce(arrived_at, ?),
                strlen(raw), 1
            from lines where seq in ({elsewhere})
            """,
            [ingested_at],
        ).fetchall()
        if staged:
            connection.unregister("lines")
    for file in staged.damaged if staged else ():
        connection.execute(
            "insert into refused_besides values (?, ?, ?, 0, ?, ?, null, ?, ?)",
            [
                *(file.path, file.origin, file.read_lines + 1, str(Rejection.DAMAGED_FILE), file.damage),
                *estimate_loss(file, staged.unread_bytes.get(file.path)),
            ],
        ).fetchall()
    connection.execute(f"""
        create temp view refused as
        select {REFUSED.replace("reason, line", "reason, raw as line")} from judged where reason is not null
        union all
        from refused_besides
    """).fetchall()


def estimate_loss(file: LandedFile, unread_bytes: int | None) -> tuple[int | None, int]:
    """Stored bytes of a damaged file that were not read, None where nobody knows, and about how many events they are.

    By the stored bytes of an event of the file so far; where there is none, by those of a typical one.
    """
    if not unread_bytes:
        return unread_bytes, 1  # its end is missing: that is an event at least
    read_bytes = file.stored_bytes - unread_bytes
    event_bytes = read_bytes / file.read_lines if file.read_lines and read_bytes > 0 else TYPICAL_EVENT_BYTES
    return unread_bytes, max(1, round(unread_bytes / event_bytes))


def write(
    connection: duckdb.DuckDBPyConnection,
    parsed: ParsedLines | None,
    folder: Path,
    number: int,
    generation: int,
    ingested_at: datetime,
    is_replay: bool,
    read_again: Again = (),
) -> None:
    """Write the batch's calls by UTC day, its other events, and its refused lines.

    A replay that refuses nothing leaves a row without a reason, so that readers see that a generation began. So does
    each content that was read again, with its first line, so that what was refused of it before is forgotten.

    The lines are not there any more afterwards: count them before.
    """
    moment = f"timestamptz '{ingested_at.isoformat()}'"
    constant = {"ingested_at": moment, "batch": str(number), "rejected_at": moment, "generation": str(generation)}
    hashed = id_hash.column()
    constant[hashed] = "id_hash"

    def selected(columns: Mapping[str, str]) -> str:
        return ", ".join(f"cast({constant.get(name, name)} as {kind}) as {name}" for name, kind in columns.items())

    def copy(columns: Mapping[str, str], rows: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(
            f"copy (select {selected(columns)} from {rows}) to {literal(str(target))}"
            # a level more costs a sixth more time and saves nothing on such columns
            f" (format parquet, compression zstd, compression_level 1, row_group_size_bytes {parquet.ROW_GROUP_BYTES})"
        ).fetchall()

    is_call = f"event_name not in ({', '.join(map(literal, OTHER_EVENTS))})"
    accepted = "judged_candidate anti join repeated using (seq, item)"
    columns = {**CALL_COLUMNS, **RECEIVED_COLUMNS, hashed: "ubigint"}
    schema = parquet.schema_of(columns)
    found = parsed.taken_by_day(connection) if parsed else {}
    days = column_of(connection, f"select distinct cast(event_at as date) as day from {accepted} where {is_call}")

    def write_calls(day: date, name: str, calls: list[Calls], others: Iterable[pa.RecordBatch] = ()) -> None:
        batches = parsed_lines.calls(calls, schema, {"ingested_at": ingested_at, "batch": number})
        target = folder / "calls" / f"event_date={day}" / f"{name}.parquet"
        parquet.write_batches(target, schema, chain(batches, others), {**_ENCODINGS, hashed: "PLAIN"})

    with ThreadPoolExecutor(WRITERS) as pool:
        writing = []
        for day in sorted({*found, *days}):
            first, *others = parsed_lines.shares(found.pop(day, []), WRITERS)
            for place, share in enumerate(others, 2):
                writing.append(pool.submit(write_calls, day, f"calls-{place}", share))
            if day in days:
                rows = f"{accepted} where {is_call} and cast(event_at as date) = date '{day}'"
                found_singly = connection.sql(f"select {selected(columns)} from {rows}")
                write_calls(day, "calls", first, found_singly.to_arrow_reader(parquet.VECTOR_ROWS))
            else:
                writing.append(pool.submit(write_calls, day, "calls", first))
        for written in writing:
            written.result()
    [[others]] = connection.execute(f"select count(*) from {accepted} where not {is_call}").fetchall()
    if others:
        copy({**OTHER_COLUMNS, **RECEIVED_COLUMNS}, f"{accepted} where not {is_call}", folder / "others.parquet")
    [[refused]] = connection.execute("select count(*) from refused").fetchall()
    if refused or is_replay or read_again:
        connection.execute("create temp table forgotten as from refused limit 0").fetchall()
        for path, origin, line_number in read_again:
            connection.execute(
                "insert into forgotten (landed_file, origin, line_number) values (?, ?, ?)", [path, origin, line_number]
            ).fetchall()
        if is_replay and not refused:
            connection.execute("insert into forgotten (reason) values (null)").fetchall()
        copy(REJECTED_COLUMNS, "(from refused union all from forgotten)", folder / "rejected.parquet")


@dataclass(frozen=True)
class Counts:
    """What became of the events of a batch; an event of a list in one line counts like a line."""

    accepted: int
    duplicates: int
    rejected: dict[str, int]


def count(connection: duckdb.DuckDBPyConnection) -> Counts:
    reasons = connection.execute("select reason, count(*) from refused group by reason order by reason").fetchall()
    [[candidates]] = connection.execute("select count(*) from candidate").fetchall()
    [[repeated, conflicts]] = connection.execute(
        "select count(*), count(*) filter (is_conflict) from repeated"
    ).fetchall()
    return Counts(candidates - repeated, repeated - conflicts, dict(reasons))


def column_of(connection: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
    return [value for (value,) in connection.execute(query).fetchall()]


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
