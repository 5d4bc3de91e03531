"""The calls that DuckDB's JSON reader takes from a batch's lines, as an Arrow table: most lines are such calls.

They stay in Arrow until they are written: each conversion of a million rows costs as much as a third of their parse.
Which lines the reader can vouch for is in `event_sql.py`; the others are `batch.py`'s business.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.lake import id_hash, landing, parquet
from orchestration.lake.batch_lines import BatchLines, LineRun
from orchestration.lake.event_sql import READ_LINES
from orchestration.lake.meter_sql import read_terms
from orchestration.lake.statements import parsed_once
from orchestration.usage.meters import Meter

_UNPACK_PROPERTIES = """
    -- a statement of its own: within the other it would cost memory for properties of megabytes that are no text
    select
        case
            when starts_with(properties, '"') then cast(json(json_extract_string(properties, '$')) as varchar)
            else properties
        end as properties
    from packed
"""
FEW_DAYS = 8
"""Of so many days each call is copied when it is written. With more it is done at once, in a fourth of the time."""
SHARED_ROWS = 4 * parquet.ROW_GROUP_ROWS
"""The calls of a day, from so many on, are a file for each writer."""
_ONLY_HERE = ["seq", "is_judged", "has_time"]
"""Columns that are not written."""
_POOL = pa.system_memory_pool()
"""Arrow's own asks the system for huge pages, which cost more than the copies of lines in them, and keeps 60 MB."""


Calls = tuple[pa.RecordBatch, pa.Array | None]
"""Lines, and the positions of those that are meant; None is all."""


class ParsedLines:
    """A row for each staged line. Good calls are those where `is_judged`; only they are complete."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def register(self, connection: duckdb.DuckDBPyConnection) -> None:
        """As the view `parsed`."""
        connection.register("parsed", self._table)

    def taken_by_day(self, connection: duckdb.DuckDBPyConnection) -> dict[date, list[Calls]]:
        """Of each UTC day the good calls that are not in `repeated`. The view is gone, and so are the lines: what is
        in memory twice is some ten thousand of them.
        """
        repeated = connection.sql("select seq from repeated where item = 0").to_arrow_table()["seq"].combine_chunks()
        connection.unregister("parsed")
        left, self._table = self._table.to_batches(), self._table.schema.empty_table()
        found: defaultdict[date, list[Calls]] = defaultdict(list)
        while left:
            for day, calls_of_day in _split(left.pop(), repeated):
                found[day].append(calls_of_day)
            _POOL.release_unused()  # what DuckDB's threads had taken for the lines: 60 MB of the peak
        return found


def _split(lines: pa.RecordBatch, repeated: pa.Array) -> list[tuple[date, Calls]]:
    """The good calls by UTC day. Where days are few, none is copied yet."""
    kept = pc.and_(lines["is_judged"], pc.invert(pc.is_in(lines["seq"], value_set=repeated)))
    positions = pc.indices_nonzero(kept)
    days = lines["event_at"].take(positions).cast(pa.date32())
    order = pc.sort_indices(days)
    runs, positions = pc.run_end_encode(days.take(order)), positions.take(order)
    lines = lines.drop_columns(_ONLY_HERE)
    in_order = pc.take(lines, positions, memory_pool=_POOL) if len(runs.values) > FEW_DAYS else None
    start, found = 0, list[tuple[date, Calls]]()
    for end, day in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        place = start, end - start
        found.append((day, (in_order.slice(*place), None) if in_order else (lines, positions.slice(*place))))
        start = end
    return found


def parse(
    connection: duckdb.DuckDBPyConnection,
    staged: BatchLines,
    ingested_at: datetime,
    kept_from: date,
    meters: Sequence[Meter],
) -> tuple[ParsedLines, list[int] | None]:
    """The lines, and the numbers of those that have to be looked at one by one; None is all."""
    longest = landing.MAX_LINE_BYTES + 2**20
    terms = {"staged": str(staged.path), "longest": longest, "ingested_at": ingested_at, "kept_from": kept_from}
    lines = connection.sql(parsed_once(connection, READ_LINES), params={**terms, **read_terms(meters)}).to_arrow_table()
    if lines.num_rows != staged.lines:  # the reader has another notion of a line: nothing that it says can be placed
        return ParsedLines(_placed(connection, lines.slice(0, 0), [])), None
    lines = _unpacked(connection, lines)
    unvouched: list[int] = pc.indices_nonzero(pc.invert(lines["is_judged"])).to_pylist()
    return ParsedLines(_placed(connection, lines, staged.parts)), unvouched


def shares(found: list[Calls], writers: int) -> list[list[Calls]]:
    """The calls of a day by file: in one, or in as many as there are writers where they are many."""
    rows = sum(lines.num_rows if positions is None else len(positions) for lines, positions in found)
    return [found[first::writers] for first in range(writers)] if rows >= SHARED_ROWS else [found]


def calls(found: list[Calls], schema: pa.Schema, constant: Mapping[str, object]) -> Iterator[pa.RecordBatch]:
    """The lines with the columns of `schema`; one that they do not have is `constant`, or null. Empties the list."""
    while found:
        lines, positions = found.pop()
        if positions is not None:
            lines = pc.take(lines, positions, memory_pool=_POOL)
        columns = [
            lines[field.name]
            if field.name in lines.schema.names
            else pa.repeat(pa.scalar(constant.get(field.name), field.type), lines.num_rows)
            for field in schema
        ]
        columns = [
            column if column.type == field.type else column.cast(field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
        yield pa.record_batch(columns, schema=schema)


@contextmanager
def system_memory() -> Iterator[None]:
    """Arrow's memory is the system's within, and goes back to it: the next batch takes as much again."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(_POOL)
    try:
        yield
    finally:
        pa.set_memory_pool(before)
        _POOL.release_unused()


def _unpacked(connection: duckdb.DuckDBPyConnection, lines: pa.Table) -> pa.Table:
    """The lines, properties that came as a text being the object that it says."""
    if not pc.any(pc.starts_with(lines["properties"], '"')).as_py():
        return lines
    connection.register("packed", lines.select(["properties"]))
    unpacked = connection.sql(_UNPACK_PROPERTIES).to_arrow_table()["properties"]
    connection.unregister("packed")
    return lines.set_column(lines.schema.get_field_index("properties"), "properties", unpacked)


def _placed(connection: duckdb.DuckDBPyConnection, lines: pa.Table, parts: Sequence[LineRun]) -> pa.Table:
    """The lines with their numbers, `seq`, and where they are from.

    The id of an event that has none is its place: where its file was first seen, and its line.
    """
    ends = [part.first_seq for part in parts[1:]] + [lines.num_rows]
    part_of, before = array("i"), array("q")
    for index, (part, end) in enumerate(zip(parts, ends, strict=False)):
        part_of.extend(array("i", [index]) * (end - part.first_seq))
        before.extend(array("q", [part.first_line - part.first_seq]) * (end - part.first_seq))
    seq = pa.chunked_array([pa.arange(0, lines.num_rows, 1)])
    numbers, places = pc.add(seq, _array(before, pa.int64())), _array(part_of, pa.int32())
    files = pa.DictionaryArray.from_arrays(places, pa.array([part.file.path for part in parts], pa.string()))
    origins = pa.DictionaryArray.from_arrays(places, pa.array([part.file.origin for part in parts], pa.string()))
    own_id, source = lines["own_id"], pc.coalesce(lines["own_source"], "")
    event_id, hashes = own_id, lines["id_hash"]
    if pc.any(pc.and_(lines["is_judged"], pc.is_null(own_id))).as_py():
        event_id = pc.coalesce(own_id, numbers.cast(pa.string()))
        source = pc.if_else(pc.is_null(own_id), origins.cast(pa.string()), source)
        named = pa.table({"source": source, "event_id": event_id})
        connection.register("named", named)
        hashes = connection.sql(f"select {id_hash.HASH} as id_hash from named").to_arrow_table()["id_hash"]
        connection.unregister("named")
    for name, column in {
        "seq": seq,
        "source": source,
        "event_id": event_id,
        "landed_file": files,
        "line_number": numbers,
        id_hash.column(): hashes,
    }.items():
        lines = lines.append_column(name, column)
    return lines.drop_columns(["own_id", "own_source", "id_hash"])


def _array(numbers: "array[int]", kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])
