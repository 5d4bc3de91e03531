"""What the ledger has of alerts as Parquet under `lake/alerts/`: announced crossings, and what people answered to them.

A copy, not the truth: it may be deleted. A few rows a day, so it is always replaced as a whole.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestration.lake import parquet

ALERT_COLUMNS = {
    "account_id": "varchar",
    "meter": "varchar",
    "period_start": "timestamptz",
    "quota": "bigint",
    "threshold": "varchar",
    "crossed_at": "timestamptz",
    "alerted_at": "timestamptz",
    "message_key": "varchar",
}
DISPOSITION_COLUMNS = {
    "message_key": "varchar",
    "source": "varchar",
    "account_id": "varchar",
    "meter": "varchar",
    "disposition": "varchar",
    "said_at": "timestamptz",
    "withdrawn_at": "timestamptz",
}


def create(lake: Path) -> None:
    """A copy without an alert, if there is none: the dbt sources always find their files."""
    for path, columns in _files(lake).items():
        if not path.exists():
            _write(path, columns, [])


def write(lake: Path, alerts: Iterable[Mapping[str, Any]], dispositions: Iterable[Mapping[str, Any]]) -> None:
    """Replace the copy by these rows. Call it under `Lake.locked()`, as everything that writes in the lake."""
    for (path, columns), rows in zip(_files(lake).items(), (alerts, dispositions), strict=True):
        _write(path, columns, rows)


def _write(path: Path, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    parquet.replace(path, columns, [[row[name] for name in columns] for row in rows])


def _files(lake: Path) -> dict[Path, Mapping[str, str]]:
    return {
        lake / "alerts" / "alerts.parquet": ALERT_COLUMNS,
        lake / "alerts" / "dispositions.parquet": DISPOSITION_COLUMNS,
    }
