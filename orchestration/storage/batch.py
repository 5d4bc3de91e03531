"""One batch of landed lines on its way into the lake: staged, judged, compared with what is there, written.

Staging puts the new lines of many files, inflated and without blank ones, into one file that DuckDB's JSON reader can
take as it is; `Part` remembers where each came from. The rules are in `parsing.py`; what makes a batch whole, and when
it counts, in `lake.py`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.storage import landing
from orchestration.storage.content import CHUNK_BYTES
from orchestration.storage.landing import LandedFile
from orchestration.storage.parsing import JUDGE_LINES, READ_LINES
from orchestration.storage.places import Place, Skipped
from orchestration.usage.events import API_CALL, Rejection

RETRY_DAYS = 1
"""A known id is looked for on the event's UTC day and so many days before and after it. A retry that keeps its time is
always found; one that gives the event another time, within these days."""
UNTIMED_RETRY_DAYS = 7
"""The same for events that carry an id and no time, in days before their arrival: each arrival has another time."""

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
}


@dataclass(frozen=True)
class Part:
    """Staged lines in a row that are lines in a row of one file."""

    first_seq: int
    file: LandedFile
    first_line: int


@dataclass
class Staged:
    """The new lines of a batch, one after the other in one file; line numbers of it, `seq`, start at 0."""

    path: Path
    parts: list[Part] = field(default_factory=list)
    lines: int = 0
    files: dict[str, LandedFile] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    damaged: list[LandedFile] = field(default_factory=list)
    """Files that this batch read up to where they are damaged."""

    def raw(self, wanted: Iterable[int] | None = None) -> pa.RecordBatchReader:
        """The lines with the numbers `wanted`, in ascending order, or all, for `JUDGE_LINES`."""
        return pa.RecordBatchReader.from_batches(_LINES, self._raw(iter(wanted) if wanted is not None else None))

    def _raw(self, wanted: Iterator[int] | None) -> Iterator[pa.RecordBatch]:
        starts = [part.first_seq for part in self.parts]
        following = next(wanted, None) if wanted else 0
        seq, rest = 0, b""
        with self.path.open("rb", buffering=0) as stream:
            while following is not None and (chunk := stream.read(CHUNK_BYTES)):
                count = chunk.count(b"\n")
                if following >= seq + count:
                    seq, rest = seq + count, chunk[chunk.rfind(b"\n") + 1 :] if count else rest + chunk
                    continue
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                if wanted:
                    picked: list[tuple[int, bytes]] = []
                    while following is not None and following < seq + count:
                        picked.append((following, lines[following - seq].strip()))
                        following = next(wanted, None)
                else:
                    picked = [(seq + index, line.strip()) for index, line in enumerate(lines)]
                seq += count
                yield self._piece(picked, starts)

    def _piece(self, lines: list[tuple[int, bytes]], starts: list[int]) -> pa.RecordBatch:
        parts = [self.parts[bisect_right(starts, seq) - 1] for seq, _ in lines]
        texts = [line for _, line in lines]
        try:
            raw = pa.array(texts, pa.binary()).cast(pa.string())
            is_utf8 = pa.repeat(True, len(texts))
        except pa.ArrowInvalid:
            raw = pa.array([line.decode("utf-8", "backslashreplace") for line in texts], pa.string())
            is_utf8 = pa.array([_is_utf8(line) for line in texts], pa.bool_())
        return pa.record_batch(
            [
                pa.array([seq for seq, _ in lines], pa.int64()),
                pa.repeat(pa.scalar(0, pa.int64()), len(texts)),
                raw,
                is_utf8,
                pa.array([part.file.path for part in parts], pa.string()),
                pa.array([part.file.origin for part in parts], pa.string()),
                pa.array(
                    [part.first_line + seq - part.first_seq for (seq, _), part in zip(lines, parts, strict=True)],
                    pa.int64(),
                ),
                pa.nulls(len(texts), pa.timestamp("us", "UTC")),
            ],
            schema=_LINES,
        )


_LINES = pa.schema(
    [
        ("seq", pa.int64()),
        ("item", pa.int64()),
        ("raw", pa.string()),
        ("is_utf8", pa.bool_()),
        ("landed_file", pa.string()),
        ("origin", pa.string()),
        ("line_number", pa.int64()),
        ("arrived_at", pa.timestamp("us", "UTC")),
    ]
)


def stage(place: Place, plan: Iterable[LandedFile | Skipped], path: Path, limit_bytes: int) -> Staged:
    """Copy about `limit_bytes` of new lines of the planned files to `path`."""
    staged, left = Staged(path), limit_bytes
    with path.open("wb", buffering=0) as stream:
        for entry in plan:
            if isinstance(entry, Skipped):
                staged.skipped.append(entry)
                continue
            if entry.is_complete:
                staged.files[entry.path] = entry
                continue
            try:
                for state, pieces in landing.read(place, entry, left):
                    for piece in pieces:
                        staged.parts.append(Part(staged.lines, entry, piece.first_line))
                        staged.lines += piece.lines.count(b"\n")
                        stream.write(piece.lines)
                        left -= len(piece.lines)
                    staged.files[entry.path] = state
                    if state.is_complete and state.damage:
                        staged.damaged.append(state)
            except OSError as error:
                staged.skipped.append(Skipped(entry.path, f"cannot be read: {error.strerror}"))
            if left <= 0:
                break
    staged.parts = list(_merged(staged.parts))
    return staged


def _merged(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, those that go on where the one before ended put together with it."""
    last: Part | None = None
    for part in parts:
        if (
            last is None
            or part.file is not last.file
            or part.first_line - last.first_line != part.first_seq - last.first_seq
        ):
            last = part
            yield part


def judge(connection: duckdb.DuckDBPyConnection, staged: Staged, ingested_at: datetime) -> None:
    """Make the table `judged` of lines that were looked at one by one, and the view `candidate` of all good events."""
    longest = landing.MAX_LINE_BYTES + 2**20
    parameters = {"staged": str(staged.path), "ingested_at": ingested_at, "longest": longest}
    connection.execute(READ_LINES, parameters).fetchall()
    [[read]] = connection.execute("select count(*) from parsed").fetchall()
    odd: list[int] | None = None
    if read == staged.lines:
        odd = _column(connection, "select rowid from parsed where not is_judged order by rowid")
    else:  # the reader has another notion of a line: nothing that it says can be placed
        connection.execute("update parsed set is_judged = false").fetchall()
    connection.register("lines", staged.raw(odd))
    connection.execute(JUDGE_LINES, {"ingested_at": ingested_at}).fetchall()
    connection.unregister("lines")
    parts = pa.table(
        {
            "first_seq": pa.array([part.first_seq for part in staged.parts], pa.int64()),
            "landed_file": pa.array([part.file.path for part in staged.parts], pa.string()),
            "origin": pa.array([part.file.origin for part in staged.parts], pa.string()),
            "first_line": pa.array([part.first_line for part in staged.parts], pa.int64()),
        }
    )
    connection.register("parts", parts)
    connection.execute("create temp table part as from parts").fetchall()
    connection.unregister("parts")
    _candidates(connection, is_one_part=len(staged.parts) == 1)


def judge_again(connection: duckdb.DuckDBPyConnection, rejected: str, ingested_at: datetime) -> None:
    """The same for lines in quarantine, `rejected` being a query for them: other rules may be in force by now."""
    connection.execute(f"""
        create temp table lines as
        select row_number() over (order by landed_file, line_number, item) as seq, item, line as raw, true as is_utf8,
            landed_file, origin, line_number, arrived_at
        from ({rejected})
    """).fetchall()
    connection.execute(JUDGE_LINES, {"ingested_at": ingested_at}).fetchall()
    connection.execute("create temp table parsed as select *, true as is_judged from judged where false").fetchall()
    connection.execute(
        "create temp table part as select 0 as first_seq, '' as landed_file, '' as origin, 0 as first_line"
    ).fetchall()
    _candidates(connection, is_one_part=True)


def _candidates(connection: duckdb.DuckDBPyConnection, is_one_part: bool) -> None:
    # The id of an event that has none is its place: where its file was first seen, and its line.
    found = "cross join part" if is_one_part else "asof join part on parsed.rowid >= part.first_seq"
    connection.execute(f"""
        create temp view candidate as
        select
            parsed.rowid as seq, 0 as item,
            coalesce(case when own_id is null then origin else own_source end, '') as source,
            coalesce(own_id, cast(parsed.rowid - first_seq + first_line as varchar)) as event_id,
            has_time,
            event_name, account_id, event_at, sample_weight, cast(null as bigint) as quota, endpoint, status,
            properties, landed_file, parsed.rowid - first_seq + first_line as line_number
        from parsed {found}
        where is_judged
        union all
        select
            seq, item,
            coalesce(case when own_id is null then origin else own_source end, ''),
            coalesce(own_id, line_number || case when item > 0 then '.' || item else '' end),
            has_time,
            event_name, account_id, event_at, sample_weight, quota, endpoint, status,
            properties, landed_file, line_number
        from judged where reason is null
    """).fetchall()


def find_repeated(connection: duckdb.DuckDBPyConnection, batches: Path) -> None:
    """Make the table `repeated` of candidates whose id was there before, in the lake or in this batch.

    An event is known by (source, event_id), whenever it came and whatever else it says: the first one stays. One
    that says something else is a conflict.
    """
    connection.execute("""
        create temp table suspect as
        select source, event_id from candidate group by source, event_id having count(*) > 1
    """).fetchall()
    stored = _stored_near(connection, batches)
    columns = "source, event_id, event_name, account_id, event_at, properties"
    connection.execute(f"create temp table stored as select {columns} from candidate where false").fetchall()
    for files in stored:
        relation = f"read_parquet({files}, hive_partitioning = false)"
        # First by id alone: reading the other columns of every stored event would cost ten times as much.
        connection.execute(f"""
            create or replace temp table known as
            select distinct source, event_id from {relation}
            where (source, event_id) in (select (source, event_id) from candidate)
        """).fetchall()
        [[count]] = connection.execute("select count(*) from known").fetchall()
        if count:
            connection.execute(f"""
                insert into stored
                select {columns} from {relation} where (source, event_id) in (select (source, event_id) from known)
            """).fetchall()
    connection.execute(f"""
        create temp table repeated as
        with first_stored as (
            select {columns} from stored
            qualify row_number() over (partition by source, event_id order by event_at) = 1
        ),
        suspicious as (
            select *, row_number() over (partition by source, event_id order by seq, item) as nth
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


def _stored_near(connection: duckdb.DuckDBPyConnection, batches: Path) -> list[str]:
    """Lists of the lake's files, as SQL, in which an id of the candidates can be."""
    days: set[date] = set()
    for day in _column(connection, "select distinct cast(event_at as date) from candidate"):
        days.update(_plus(day, distance) for distance in range(-RETRY_DAYS, RETRY_DAYS + 1))
    for day in _column(connection, "select distinct cast(event_at as date) from candidate where not has_time"):
        days.update(_plus(day, -distance) for distance in range(UNTIMED_RETRY_DAYS + 1))
    names = {f"event_date={day}" for day in days}
    calls: list[str] = []
    others: list[str] = []
    for batch in sorted(path for path in batches.glob("[0-9]*")):
        for folder in (batch / "calls").glob("event_date=*"):
            if folder.name in names:
                calls += sorted(str(path) for path in folder.iterdir())
        if (batch / "others.parquet").exists():
            others.append(str(batch / "others.parquet"))
    return [f"[{', '.join(map(_literal, files))}]" for files in (calls, others) if files]


def _plus(day: date, days: int) -> date:
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return day


def refuse(connection: duckdb.DuckDBPyConnection, staged: Staged | None) -> None:
    """Make the view `refused`: what was judged bad, conflicts with their lines, and where files are damaged."""
    columns = "landed_file, origin, line_number, item, reason, line, arrived_at"
    connection.execute(f"""
        create temp table refused_besides as
        select {columns.replace("reason, line", f"'{Rejection.ID_CONFLICT}' as reason, raw as line")}
        from judged where (seq, item) in (select (seq, item) from repeated where is_conflict)
    """).fetchall()
    if staged:
        conflicts = _column(
            connection,
            """select seq from repeated
               where is_conflict and seq not in (select seq from judged) order by seq""",
        )
        connection.register("lines", staged.raw(conflicts))
        connection.execute(f"""
            insert into refused_besides
            select {columns.replace("reason, line", f"'{Rejection.ID_CONFLICT}', raw")} from lines
        """).fetchall()
        connection.unregister("lines")
        for file in staged.damaged:
            connection.execute(
                "insert into refused_besides values (?, ?, ?, 0, ?, ?, null)",
                [file.path, file.origin, file.read_lines + 1, str(Rejection.DAMAGED_FILE), file.damage],
            ).fetchall()
    connection.execute(f"""
        create temp view refused as
        select {columns.replace("reason, line", "reason, raw as line")} from judged where reason is not null
        union all
        from refused_besides
    """).fetchall()


def write(
    connection: duckdb.DuckDBPyConnection, folder: Path, number: int, generation: int, ingested_at: datetime
) -> None:
    """Write the batch's calls by UTC day, its other events, and its refused lines."""
    connection.execute("set preserve_insertion_order = false")  # costs memory, and the files have no order
    moment = f"timestamptz '{ingested_at.isoformat()}'"
    constant = {"ingested_at": moment, "batch": str(number), "rejected_at": moment, "generation": str(generation)}

    def copy(columns: Mapping[str, str], rows: str, target: Path) -> None:
        selected = ", ".join(f"cast({constant.get(name, name)} as {kind}) as {name}" for name, kind in columns.items())
        target.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(
            f"copy (select {selected} from {rows}) to {_literal(str(target))}"
            # a level more costs a sixth more time and saves nothing on such columns
            " (format parquet, compression zstd, compression_level 1)"
        ).fetchall()

    calls = ", ".join(_literal(name) for name in API_CALL)
    accepted = "candidate anti join repeated using (seq, item)"
    days = f"select distinct cast(event_at as date) as day from {accepted} where event_name in ({calls}) order by day"
    for day in _column(connection, days):
        copy(
            CALL_COLUMNS,
            f"{accepted} where event_name in ({calls})"
            f" and event_at >= timestamptz '{day}' and event_at < timestamptz '{day}' + interval 1 day",
            folder / "calls" / f"event_date={day}" / "calls.parquet",
        )
    [[others]] = connection.execute(f"select count(*) from {accepted} where event_name not in ({calls})").fetchall()
    if others:
        copy(OTHER_COLUMNS, f"{accepted} where event_name not in ({calls})", folder / "others.parquet")
    [[refused]] = connection.execute("select count(*) from refused").fetchall()
    if refused:
        copy(REJECTED_COLUMNS, "refused", folder / "rejected.parquet")


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


def _column(connection: duckdb.DuckDBPyConnection, query: str) -> list[Any]:
    return [value for (value,) in connection.execute(query).fetchall()]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
