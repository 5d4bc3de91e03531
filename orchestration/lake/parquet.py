"""The lake's Parquet files that Arrow writes: small ones, as an engine takes longer to start, and those of calls."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_BYTES = 32 * 2**20
"""Held in memory while a file is written. Counted in rows alone, it could be the whole batch."""
ROW_GROUP_ROWS = 122_880
VECTOR_ROWS = 2048
"""What DuckDB works on at a time."""

_TYPES = {
    "varchar": pa.string(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "ubigint": pa.uint64(),
    "decimal(18,2)": pa.decimal128(18, 2),
}


def schema_of(columns: Mapping[str, str], note: Mapping[str, str] | None = None) -> pa.Schema:
    return pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()], metadata=dict(note) if note else None)


def write(
    path: Path,
    columns: Mapping[str, str],
    chunks: Iterable[Sequence[Sequence[Any]]] = (),
    note: Mapping[str, str] | None = None,
) -> int:
    """Write rows, each with a value for each column, chunk by chunk; how many they were.

    The columns' types are named as DuckDB names them. A note is in the file beside its rows. Nothing is synced.
    """
    schema = schema_of(columns, note)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in chunks:
            arrays = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(rows)
    return count


def write_batches(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], encodings: Mapping[str, str]
) -> None:
    """Write the rows as they come, in row groups of bounded size. Nothing is synced.

    Twice as fast as DuckDB's own writer: of columns with many values, those of `encodings`, it builds no dictionary.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        # a level more costs a sixth more time and saves nothing on such columns
        compression_level=1,
        use_dictionary=[name for name in schema.names if name not in encodings],
        column_encoding=dict(encodings),
        store_schema=False,
    ) as writer:
        held: list[pa.RecordBatch] = []
        rows, size_bytes = 0, 0
        for batch in batches:
            held.append(batch)
            rows, size_bytes = rows + batch.num_rows, size_bytes + batch.nbytes
            if rows >= ROW_GROUP_ROWS or size_bytes >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held, rows, size_bytes = [], 0, 0
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))


def replace(path: Path, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> int:
    """Write a file in the place of the one before, synced: readers see one of the two, a kill leaves one of them."""
    staged = path.parent.parent / f".{path.parent.name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = write(staged, columns, [rows])
    sync(staged)
    staged.replace(path)
    return count


def sync(path: Path) -> None:
    """Wait until a file, or which entries a folder has, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
