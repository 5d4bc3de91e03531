"""A lake of the first Headroom, brought to the layout of today: all that it counted, and all that it refused.

There a batch had `events/event_date=…/*.parquet`, calls and other events together, and its files of refused lines and
manifest said less. The whole tree is made beside it and exchanged with it in one step, so that a kill leaves the one or
the other.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from orchestration.lake.batch import CALL_COLUMNS, OTHER_COLUMNS, REJECTED_COLUMNS, literal
from orchestration.usage.events import API_CALL

_CALLS = f"event_name in ({', '.join(map(literal, API_CALL))})"


def is_of_first_layout(batches: Path) -> bool:
    return (batches / "000000" / "events").exists()


def convert(connection: duckdb.DuckDBPyConnection, batches: Path, tree: Path) -> None:
    """Write the batches of such a lake to `tree`, as they are today; the empty one is left to `Lake.create`."""
    tree.mkdir(parents=True)
    connection.execute("set preserve_insertion_order = false")
    for folder in sorted(batches.glob("[0-9]*")):
        if int(folder.name):
            _convert(connection, folder, tree / folder.name)


def _convert(connection: duckdb.DuckDBPyConnection, folder: Path, target: Path) -> None:
    target.mkdir(parents=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    for file in manifest["files"]:
        file["stored_bytes"] = file["size_bytes"]  # none was compressed
    (target / "manifest.json").write_text(json.dumps(manifest))
    constants = {"batch": folder.name, "sample_weight": "1", "generation": "0", "item": "0"}
    constants |= {"arrived_at": "rejected_at", "lost_bytes": "null", "lost_events": "null"}
    every = sorted(folder.glob("events/*/*.parquet"))
    for day in sorted({path.parent.name for path in every}):
        of_day = [path for path in every if path.parent.name == day]
        calls = f"{_reader(of_day)} where {_CALLS}"
        _copy(connection, CALL_COLUMNS, constants, calls, target / "calls" / day / "calls.parquet")
    _copy(connection, OTHER_COLUMNS, constants, f"{_reader(every)} where not {_CALLS}", target / "others.parquet")
    origins = [(file["path"], file["origin"]) for file in manifest["files"]]
    connection.execute("create or replace temp table origins (path varchar, origin varchar)")
    if origins:
        connection.executemany("insert into origins values (?, ?)", origins)
    refused = f"{_reader([folder / 'rejected.parquet'])} left join origins on landed_file = path"
    _copy(connection, REJECTED_COLUMNS, {**constants, "batch": "null"}, refused, target / "rejected.parquet")


def _reader(files: Sequence[Path]) -> str:
    names = ", ".join(literal(str(path)) for path in files)
    return f"read_parquet([{names}], hive_partitioning = false)"


def _copy(
    connection: duckdb.DuckDBPyConnection, columns: dict[str, str], constants: dict[str, str], rows: str, target: Path
) -> None:
    """A file without rows is not there."""
    found: list[Any] = connection.execute(f"select 1 from {rows} limit 1").fetchall()
    if found:
        target.parent.mkdir(parents=True, exist_ok=True)
        selected = ", ".join(f"cast({constants.get(name, name)} as {kind}) as {name}" for name, kind in columns.items())
        connection.execute(
            f"copy (select {selected} from {rows}) to {literal(str(target))} (format parquet, compression zstd)"
        ).fetchall()
