"""The lake's small Parquet files that no engine is needed for: to start one takes longer than to write the file."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_TYPES = {
    "varchar": pa.string(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "decimal(18,2)": pa.decimal128(18, 2),
}


def write(
    path: Path,
    columns: Mapping[str, str],
    chunks: Iterable[Sequence[Sequence[Any]]] = (),
    note: Mapping[str, str] | None = None,
) -> int:
    """Write rows, each with a value for each column, chunk by chunk; how many they were.

    The columns' types are named as DuckDB names them. A note is in the file beside its rows. Nothing is synced.
    """
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()], metadata=dict(note) if note else None)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in chunks:
            arrays = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(rows)
    return count


def replace(path: Path, columns: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> int:
    """Write a file in the place of the one before, synced: readers see one of the two, a kill leaves one of them."""
    staged = path.parent.parent / f".{path.parent.name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    count = write(staged, columns, [rows])
    descriptor = os.open(staged, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    staged.replace(path)
    return count
