"""What a landed file says, as NDJSON: compressed files inflated, CSV and Parquet rows turned into lines.

Line k of the content is line k of the file (of a Parquet file: row k), so that a line number leads back to it. Which
part of the content was read before is `landing.py`'s business; what a line means is decided in `parsing.py`.
"""

import csv
import errno
import io
import json
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from orchestration.storage.places import CHANGED, Found, Place
from orchestration.usage import events

CHUNK_BYTES = 2**20
"""Read at a time. Below, the calls cost more than the bytes; above, only memory grows."""
ZSTD_INPUT_BYTES = 2**11
"""Inflated at a time: at zstd's highest ratio still only some 64 MiB."""
SETTLED_SECONDS = 60
"""A file whose end is missing counts as still being written until it was left alone for so long."""


class StillGrowingError(OSError):
    """The end of the file is missing and it was written to just now."""


class Content:
    """The content of one file, read from its beginning; `damage` says afterwards what cut it short, if anything."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""
        self._given = 0
        self.damage: str | None = None

    def read(self, count: int) -> bytes:
        """At most `count` bytes, at least one before the end.

        :raises OSError: the file cannot be read, or changed meanwhile.
        """
        while not self._left:
            try:
                self._left = next(self._pieces)
            except StopIteration:
                return b""
            except DamagedError as error:
                self.damage = str(error)
                return b""
        piece, self._left = self._left[:count], self._left[count:]
        return piece

    def skip_lines(self, count: int) -> None:
        """Go behind line `count`."""
        while count > 0 and (piece := self.read(CHUNK_BYTES)):
            there = piece.count(b"\n")
            if there < count:
                count -= there
                continue
            end = -1
            for _ in range(count):
                end = piece.index(b"\n", end + 1)
            self._left, count = piece[end + 1 :] + self._left, 0


class DamagedError(ValueError):
    """From here on the file cannot be read, whoever tries."""


def is_plain(path: str) -> bool:
    """Whether the stored bytes are the content, so that reading can start anywhere."""
    return path.endswith((".ndjson", ".jsonl"))


def is_by_row(path: str) -> bool:
    """Whether the content is made from rows: such a file is known by its stored bytes."""
    return path.endswith((".csv", ".csv.gz", ".csv.zst", ".parquet"))


@contextmanager
def opened(place: Place, file: Found) -> Iterator[Content]:
    """The content of `file`.

    :raises OSError: it cannot be read, or changed meanwhile.
    :raises StillGrowingError: its end is missing and it may still come.
    """
    with place.open(file) as stored:
        yield Content(_pieces(file, stored))


@contextmanager
def opened_stored(place: Place, file: Found) -> Iterator[Content]:
    """The bytes of `file` as they are stored."""
    with place.open(file) as stored:
        yield Content(_stored(stored, file.stored_bytes))


@contextmanager
def opened_plain(place: Place, file: Found, offset: int) -> Iterator[Content]:
    """The content of a file that `is_plain`, from `offset` on."""
    with place.open(file) as stored:
        stored.seek(offset)
        yield Content(_stored(stored, file.stored_bytes - offset))


def _pieces(file: Found, stored: BinaryIO) -> Iterator[bytes]:
    settled = time.time_ns() - file.mtime_ns > SETTLED_SECONDS * 10**9
    try:
        if file.path.endswith(".parquet"):
            yield from _parquet_lines(stored)
            return
        pieces = _stored(stored, file.stored_bytes)
        name = file.path
        if name.endswith(".gz"):
            pieces, name = _gunzip(pieces), name.removesuffix(".gz")
        elif name.endswith(".zst"):
            pieces, name = _unzstd(pieces), name.removesuffix(".zst")
        if name.endswith(".csv"):
            pieces = _csv_lines(pieces, settled)
        yield from pieces
    except _CutShortError as error:
        if not settled:
            raise StillGrowingError(errno.EAGAIN, f"{error}, and was written to just now: left for later") from error
        raise DamagedError(str(error)) from error


class _CutShortError(ValueError):
    """The end is missing."""


def _stored(stored: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        chunk = stored.read(min(CHUNK_BYTES, left))
        if not chunk:
            raise OSError(errno.ESTALE, CHANGED)
        left -= len(chunk)
        yield chunk


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Inflated members, one after the other."""
    inflater = zlib.decompressobj(wbits=31)
    is_inside = False
    for piece in pieces:
        while piece:
            if not is_inside and not piece.strip(b"\0"):
                break  # padding behind the last member
            is_inside = True
            try:
                inflated = inflater.decompress(piece, CHUNK_BYTES)
            except zlib.error as error:
                raise DamagedError(f"the gzip data is damaged ({error})") from error
            if inflated:
                yield inflated
            piece = inflater.unconsumed_tail
            if inflater.eof:
                piece, inflater, is_inside = inflater.unused_data, zlib.decompressobj(wbits=31), False
            elif not piece and len(inflated) < CHUNK_BYTES:
                break
    while is_inside and (inflated := inflater.decompress(inflater.unconsumed_tail, CHUNK_BYTES)):
        yield inflated
    if is_inside and not inflater.eof:
        raise _CutShortError("the gzip data ends in the middle")


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    inflater = zstandard.ZstdDecompressor().decompressobj()
    is_inside = False
    for piece in pieces:
        for start in range(0, len(piece), ZSTD_INPUT_BYTES):
            part = piece[start : start + ZSTD_INPUT_BYTES]
            while part:
                is_inside = True
                try:
                    inflated = inflater.decompress(part)
                except zstandard.ZstdError as error:
                    raise DamagedError(f"the zstd data is damaged ({error})") from error
                if inflated:
                    yield inflated
                part = inflater.unused_data if inflater.eof else b""
                if inflater.eof:
                    inflater, is_inside = zstandard.ZstdDecompressor().decompressobj(), False
    if is_inside:
        raise _CutShortError("the zstd data ends in the middle")


_TOP_LEVEL = {
    *events.NAME_FIELDS,
    *events.ID_FIELDS,
    events.SOURCE_FIELD,
    *(name for name in events.ACCOUNT_FIELDS if "." not in name),
    *events.TIME_FIELDS,
}
"""Columns that are fields of the event itself. All others are its properties, with or without `properties.`"""


def _csv_lines(pieces: Iterator[bytes], settled: bool) -> Iterator[bytes]:
    """A line of JSON for each row; the header becomes an empty line. A row of another width stays as it is."""

    def text() -> Iterator[str]:
        rest = b""
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                # bytes that are no UTF-8 pass through, so that the line is refused for what it is
                yield line.decode("utf-8", "surrogateescape") + "\n"
        if rest:
            if not settled:
                raise _CutShortError("the last row has no line break")
            yield rest.decode("utf-8", "surrogateescape")

    rows = csv.reader(text(), strict=True)
    lines: list[bytes] = []
    try:
        header = [name.strip() for name in next(rows, [])]
        if header:
            header[0] = header[0].removeprefix("\ufeff")
        place_of = [_path(name) for name in header]
        lines.append(b"")
        for row in rows:
            lines.append(_encoded(",".join(row) if len(row) != len(header) else _event(place_of, row)) if row else b"")
            if len(lines) >= 4096:
                yield b"\n".join(lines) + b"\n"
                lines = []
    except (csv.Error, ValueError) as error:
        if lines:
            yield b"\n".join(lines) + b"\n"
        raise (
            DamagedError(f"the CSV cannot be read on ({error})") if isinstance(error, csv.Error) else error
        ) from error
    if lines:
        yield b"\n".join(lines) + b"\n"


def _path(column: str) -> tuple[str, ...]:
    if column in _TOP_LEVEL or column == "properties":
        return (column,)
    return ("properties", column.removeprefix("properties."))


def _event(places: list[tuple[str, ...]], row: list[str]) -> dict[str, Any]:
    event: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for place, cell in zip(places, row, strict=True):
        if not cell:
            continue
        if place == ("properties",):
            try:
                whole = json.loads(cell)
            except ValueError:
                whole = None
            properties = {**whole, **properties} if isinstance(whole, dict) else {**properties, "properties": cell}
        elif len(place) == 1:
            event[place[0]] = cell
        else:
            properties[place[1]] = None if cell == "null" else cell
    return {**event, "properties": properties} if properties else event


def _encoded(row: str | dict[str, Any]) -> bytes:
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)
    return text.replace("\n", " ").replace("\r", " ").encode("utf-8", "surrogateescape")


def _parquet_lines(stored: BinaryIO) -> Iterator[bytes]:
    """A line of JSON for each row."""
    import duckdb
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored.seek(-4, io.SEEK_END)
    if stored.read(4) != b"PAR1":
        raise _CutShortError("the Parquet file has no end")
    try:
        file = pq.ParquetFile(pa.PythonFile(stored, mode="r"))
        if not file.schema_arrow.names:
            return
        query = _parquet_query(file.schema_arrow)
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.execute("set TimeZone = 'UTC'")
            for batch in file.iter_batches(batch_size=8192):
                connection.register("batch", pa.Table.from_batches([batch]))
                lines = connection.execute(query).fetchall()
                yield b"".join(line.encode() + b"\n" for (line,) in lines)
    except (pa.ArrowException, duckdb.Error) as error:
        raise DamagedError(f"the Parquet file cannot be read on ({str(error).partition(chr(10))[0]})") from error


def _parquet_query(schema: Any) -> str:
    import pyarrow as pa

    tops: list[str] = []
    properties: list[str] = []
    for field in schema:
        name = '"' + field.name.replace('"', '""') + '"'
        where = _path(field.name)
        is_text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if where == ("properties",):
            tops.append(f"properties := {f'try_cast({name} as json)' if is_text else name}")
        elif len(where) == 1:
            tops.append(f"{name} := {name}")
        else:
            key = '"' + where[1].replace('"', '""') + '"'
            properties.append(f"{key} := {name}")
    if properties:
        flat = f"to_json(struct_pack({', '.join(properties)}))"
        whole = next((top for top in tops if top.startswith("properties := ")), None)
        if whole:
            tops.remove(whole)
            flat = f"json_merge_patch({flat}, to_json({whole.removeprefix('properties := ')}))"
        tops.append(f"properties := {flat}")
    return f"select cast(to_json(struct_pack({', '.join(tops)})) as varchar) from batch"
