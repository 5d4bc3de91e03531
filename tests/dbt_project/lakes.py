"""Lakes made by hand, in the layout of `lake/lake.py`: batches of calls with any history that a test wants."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.lake.batch import CALL_COLUMNS, OTHER_COLUMNS
from orchestration.lake.lake import Lake


@dataclass(frozen=True)
class Call:
    account_id: str
    event_at: datetime
    event_id: str
    sample_weight: int = 1
    endpoint: str | None = None
    status: int | None = None
    event_name: str = "api_call"
    properties: str | None = None


def create(lake: Path) -> None:
    """An empty lake, in the place of the one that may be there."""
    shutil.rmtree(lake, ignore_errors=True)
    with Lake(lake).writing():
        pass


def add(lake: Path, calls: Iterable[Call], number: int | None = None) -> Path:
    """Commit a batch with the calls; its folder. The manifest says which calls, as the real one says which lines."""
    rows = list(calls)
    last = max(int(folder.name) for folder in (lake / "batches").iterdir())
    number = last + 1 if number is None else number
    folder = lake / "batches" / f"{number:06d}"
    (folder / "calls").mkdir(parents=True)
    columns = [field.name for field in fields(Call)]
    given = pa.table({name: [getattr(row, name) for row in rows] for name in columns})
    constants = {"source": "''", "ingested_at": "now()", "batch": str(number)}
    values = [
        f"cast({name if name in columns else constants.get(name, 'null')} as {kind}) as {name}"
        for name, kind in CALL_COLUMNS.items()
    ]
    if rows:
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.register("given", given)
            connection.execute(
                f"""copy (select {", ".join(values)}, cast(event_at as date) as event_date from given)
                    to '{folder}/calls' (format parquet, partition_by (event_date))"""
            )
    (folder / "manifest.json").write_text(json.dumps([row.event_id for row in rows]))
    return folder


def add_quota(
    lake: Path, account_id: str, effective_at: datetime, quota: int | None, properties: str | None = None
) -> None:
    """Commit a batch with one quota_set."""
    folder = add(lake, [])
    values = {
        "source": "",
        "event_id": folder.name,
        "event_name": "quota_set",
        "account_id": account_id,
        "event_at": effective_at,
        "ingested_at": effective_at,
        "quota": quota,
        "properties": properties,
        "batch": int(folder.name),
    }
    columns = [f"cast(? as {kind}) as {name}" for name, kind in OTHER_COLUMNS.items()]
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            f"create table quota as select {', '.join(columns)}", [values.get(name) for name in OTHER_COLUMNS]
        )
        connection.execute(f"copy quota to '{folder}/others.parquet' (format parquet)")
