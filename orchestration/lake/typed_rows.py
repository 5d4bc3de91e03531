"""The typed rows of a file of accounts, held as Arrow: 200,000 of them take 40 MB, as Python's own objects 400."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.lake import parquet

CHUNK = 8_192
"""Rows that are Python's at a time."""
Values = tuple[object, ...]


class TypedRows(Sequence[Values]):
    """Rows with a value for each column, as tuples. A file's are read once somebody asks for more than their number."""

    def __init__(self, columns: Mapping[str, str], file: Path | None = None) -> None:
        self._schema = parquet.schema_of(columns)
        self._file = file
        self._stored = int(pq.read_metadata(file).num_rows) if file else 0
        self._packed: list[pa.RecordBatch] = []
        self._new: list[Values] = []
        self._places: dict[object, list[int]] = {}

    def append(self, row: Values) -> None:
        self._places.clear()
        self._new.append(row)
        if len(self._new) == CHUNK:
            self._pack()

    def extend(self, rows: Iterable[Values]) -> None:
        for row in rows:
            self.append(row)

    def of(self, key: str) -> list[Values]:
        """The rows of which the first column has this value."""
        if not self._places:
            for place, each in enumerate(self.column(0).to_pylist()):
                self._places.setdefault(each, []).append(place)
            self._packed = self.table().combine_chunks().to_batches()  # 25 chunks are 25 places to look at
        return [self[place] for place in self._places.get(key, ())]

    def column(self, place: int) -> pa.ChunkedArray:
        """All values of a column, in the order of the rows."""
        return self._read([self._schema.names[place]])[0] if self._file else self.table()[place]

    def table(self) -> pa.Table:
        """All of them."""
        if self._file:
            self._packed, self._file = self._read(self._schema.names).to_batches(), None
        self._pack()
        return pa.Table.from_batches(self._packed, self._schema)

    def _read(self, names: Sequence[str]) -> pa.Table:
        """These columns of the file; empty ones where it has none, as one of an earlier Headroom."""
        assert self._file
        there = pq.read_schema(self._file).names
        # not read_table, which imports what reads folders of files: 40 MB
        with pq.ParquetFile(self._file) as file:
            stored = file.read([name for name in names if name in there], use_threads=False)
        schema = pa.schema([self._schema.field(name) for name in names])
        empty = pa.nulls(self._stored)
        return pa.table(
            [(stored[name] if name in there else empty).cast(schema.field(name).type) for name in names], schema=schema
        )

    def __len__(self) -> int:
        if self._file:
            return self._stored
        return sum(map(len, self._packed)) + len(self._new)

    def __iter__(self) -> Iterator[Values]:
        for batch in self.table().to_batches(max_chunksize=CHUNK):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    @overload
    def __getitem__(self, place: int) -> Values: ...
    @overload
    def __getitem__(self, place: slice) -> list[Values]: ...
    def __getitem__(self, place: int | slice) -> Values | list[Values]:
        if isinstance(place, slice):
            return list(self)[place]
        [batch] = (
            self._packed if len(self._packed) == 1 and not self._new else self.table().combine_chunks().to_batches()
        )
        return tuple(column[place].as_py() for column in batch.columns)

    def _pack(self) -> None:
        if self._new:
            columns = zip(self._schema, zip(*self._new, strict=True), strict=True)
            self._packed.append(
                pa.record_batch([pa.array(values, field.type) for field, values in columns], schema=self._schema)
            )
            self._new = []
