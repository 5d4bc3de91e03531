"""Stored bytes to lines of JSON: gzip and zstd inflated, each row of CSV and Parquet as a line.

Everything here is a generator of pieces of bytes and keeps only a bounded part of the file in memory. What comes
before a damaged place is given before the error is raised. Which of this a file needs is `content.py`'s business.
"""

import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from orchestration.lake.csv_rows import Rows
from orchestration.lake.damage import CutShortError, DamagedError
from orchestration.lake.dialects import OUTER_FIELDS
from orchestration.usage.formatting import counted

STEP_BYTES = 2**20
"""Inflated and handed on at a time."""
ZSTD_INPUT_BYTES = 2**11
"""Inflated at a time: at zstd's highest ratio still only some 64 MiB."""


def gunzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Inflated members, one after the other, with padding between and behind them.

    :raises DamagedError: as near to the damage as zlib can come.
    """
    inflater, is_inside, step = zlib.decompressobj(wbits=31), False, STEP_BYTES
    for stored in chain(pieces, [b""]):  # the last one takes out what is still inside
        piece = stored
        while piece or is_inside:
            if not is_inside:
                piece = piece.lstrip(b"\0")
                if not piece:
                    break
                is_inside = True
            before = inflater.copy()
            try:
                inflated = inflater.decompress(piece, step)
            except zlib.error as error:
                if step == 1:
                    raise DamagedError(f"the gzip data is damaged ({error})", len(piece)) from error
                # zlib keeps to itself what it inflated in a call that fails
                inflater, step = before, step // 2
                continue
            if inflated:
                yield inflated
            piece = inflater.unconsumed_tail
            if inflater.eof:
                piece, inflater, is_inside = inflater.unused_data, zlib.decompressobj(wbits=31), False
            elif not piece and len(inflated) < step:
                break
    if is_inside:
        raise CutShortError("the gzip data ends in the middle")


def unzstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Inflated frames, one after the other.

    :raises DamagedError: in front of the 2 KiB of input that cannot be inflated.
    """
    import zstandard

    inflater, is_inside = zstandard.ZstdDecompressor().decompressobj(), False
    for piece in pieces:
        for start in range(0, len(piece), ZSTD_INPUT_BYTES):
            part = piece[start : start + ZSTD_INPUT_BYTES]
            while part:
                is_inside = True
                try:
                    inflated = inflater.decompress(part)
                except zstandard.ZstdError as error:
                    raise DamagedError(f"the zstd data is damaged ({error})", len(piece) - start) from error
                for begin in range(0, len(inflated), STEP_BYTES):
                    yield inflated[begin : begin + STEP_BYTES]
                part = b""
                if inflater.eof:
                    part, is_inside = inflater.unused_data, False
                    inflater = zstandard.ZstdDecompressor().decompressobj()
    if is_inside:
        raise CutShortError("the zstd data ends in the middle")


_WHOLE = ("properties",)


def _place(column: str) -> tuple[str, ...]:
    if column in OUTER_FIELDS or column == "properties":
        return (column,)
    return ("properties", column.removeprefix("properties."))


def csv_lines(pieces: Iterable[bytes], is_ended: Callable[[], bool]) -> Iterator[bytes]:
    """A line of JSON for each row, at the row's first line; its other lines, and the header's, become empty ones.

    A row of another width, and one that cannot be read, stays as it is, which is no JSON. A last row without a line
    break is given without one.

    :raises OpenEndError: there is such a row, and `is_ended` denies that the file is finished.
    """
    rows = Rows(pieces, is_ended)
    places: list[tuple[str, ...]] = []
    lines: list[bytes] = []
    size = 0
    problem: DamagedError | None = None
    try:
        for row in rows.read():
            if row.blanks:
                yield b"".join(line + b"\n" for line in lines)
                lines, size = [], 0
                for start in range(0, row.blanks, STEP_BYTES):
                    yield b"\n" * min(STEP_BYTES, row.blanks - start)
            if row.cells == []:
                lines += [b""] * len(row.lines)
                continue
            places = places or [_place(name) for name in rows.columns]
            lines.append(_csv_line(places, row.cells, b" ".join(row.lines)))
            size += len(lines[-1]) + len(row.lines)
            lines += [b""] * (len(row.lines) - 1)
            if size > STEP_BYTES and not rows.is_open:
                yield b"\n".join(lines) + b"\n"
                lines, size = [], 0
    except DamagedError as error:
        problem = error
    if lines:
        whole = b"\n".join(lines)
        yield whole.rstrip(b"\n") if rows.is_open and not problem else whole + b"\n"
    if problem:
        raise problem


def _csv_line(places: list[tuple[str, ...]], row: list[str] | None, raw: bytes) -> bytes:
    if row is not None and len(row) == len(places):
        try:
            return json.dumps(_event(places, row), ensure_ascii=False).encode("utf-8", "surrogateescape")
        except (RecursionError, UnicodeEncodeError):
            pass  # JSON in a cell that is nested too deeply, or has half a surrogate
    return raw.replace(b"\r", b" ")


def _event(places: list[tuple[str, ...]], row: list[str]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for place, cell in zip(places, row, strict=True):
        if not cell:
            continue
        if place == _WHOLE:
            try:
                whole = json.loads(cell)
            except ValueError:
                whole = None
            properties = {**whole, **properties} if isinstance(whole, dict) else {"properties": cell, **properties}
        elif len(place) == 1:
            event[place[0]] = cell
        else:
            properties[place[1]] = None if cell == "null" else cell
    return {**event, "properties": properties} if properties else event


def parquet_lines(stored: BinaryIO) -> Iterator[bytes]:
    """A line of JSON for each row."""
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    from orchestration.lake import in_memory
    from orchestration.lake.binary_columns import as_text

    size_bytes = stored.seek(0, io.SEEK_END)
    stored.seek(max(0, size_bytes - 4))
    if stored.read(4) != b"PAR1":
        raise CutShortError("the Parquet file has no end", size_bytes)
    given, rows = 0, 0
    try:
        file = pq.ParquetFile(pa.PythonFile(stored, mode="r"))
        rows = file.metadata.num_rows
        query = _parquet_query(file.schema_arrow.names)
        with in_memory.engine(threads=1) as connection:
            for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata)):
                names = [f"c{index}" for index in range(batch.num_columns)]
                table = pa.table([as_text(column) for column in batch.columns], names)
                connection.register("batch", table)
                lines = connection.execute(query).fetchall()
                given += len(lines)
                yield b"".join(line.encode() + b"\n" for (line,) in lines)
    except (pa.ArrowException, duckdb.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # Arrow's own have no number
        lost = f": {counted(rows - given, 'row')} lost" if rows else ""
        words = f"the Parquet file cannot be read on ({str(error).partition(chr(10))[0]}){lost}"
        raise DamagedError(words, round(size_bytes * (1 - given / rows)) if rows else size_bytes) from error


def _rows_at_once(metadata: Any) -> int:
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    row_bytes = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    return int(max(1, min(8192, 8 * STEP_BYTES // max(row_bytes, 1))))


def _parquet_query(columns: list[str]) -> str:
    outer: list[str] = []
    inner: list[str] = []
    properties, whole = "", ""
    for index, column in enumerate(columns):
        place = _place(column)
        if place == _WHOLE:
            whole = f"to_json(c{index})"
            whole = f"case json_type({whole}) when 'VARCHAR' then try_cast({whole} ->> '$' as json) else {whole} end"
        else:
            key = place[-1].replace("'", "''")
            (outer if len(place) == 1 else inner).append(f"'{key}', c{index}")
    if inner:
        properties = f"json_object({', '.join(inner)})"
    if inner and whole:
        # as in CSV a column of its own stands above the same field in `properties`, but not where it is null
        flat = f"json_merge_patch('{{}}', {properties})"
        properties = f"case when json_type({whole}) = 'OBJECT' then json_merge_patch({whole}, {flat}) else {flat} end"
    if inner or whole:
        outer.append(f"'properties', {properties or whole}")
    return f"select cast(json_object({', '.join(outer)}) as varchar) from batch"
