"""The ledger's meter reports as Parquet under `lake/meter_reports/`, a folder for each UTC day of their hours: dbt
cannot read the ledger itself.

A copy, not the truth: it may be deleted. Days are replaced one by one, whichever changed; a seal that the ledger has,
too, says that the other days are as in that ledger. What is in the reports, and which days changed, the ledger says.
"""

import shutil
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from orchestration.lake import parquet

METER_REPORT_COLUMNS = {
    "stripe_customer_id": "varchar",
    "hour_start": "timestamptz",
    "revision": "integer",
    "units": "bigint",
    "value": "bigint",
    "identifier": "varchar",
    "state": "varchar",
    "created_at": "timestamptz",
    "attempts": "integer",
    "first_attempt_at": "timestamptz",
    "finished_at": "timestamptz",
    "error": "varchar",
    "stripe_units": "bigint",
    "checked_at": "timestamptz",
}
_EMPTY_DAY = date(1970, 1, 1)
"""Has no rows: the glob of the dbt source always finds a file, and its columns."""


def create(lake: Path) -> None:
    """A copy without a report, if there is none."""
    if not _file(lake, _EMPTY_DAY).exists():
        write(lake, _EMPTY_DAY, [])


def write(lake: Path, day: date, chunks: Iterable[Sequence[Sequence[Any]]]) -> int:
    """Replace a day by these rows, which have METER_REPORT_COLUMNS; how many they were."""
    target, staged = _file(lake, day), lake / ".meter_reports.parquet"
    target.parent.mkdir(parents=True, exist_ok=True)
    count = parquet.write(staged, METER_REPORT_COLUMNS, chunks)
    parquet.sync(staged)
    staged.replace(target)
    return count


def keep_only(lake: Path, days: Iterable[date]) -> None:
    """Remove all days but these: they are of another ledger."""
    kept = {_file(lake, day).parent for day in (*days, _EMPTY_DAY)}
    for folder in (lake / "meter_reports").glob("hour_date=*"):
        if folder not in kept:
            shutil.rmtree(folder)


def seal(lake: Path) -> str:
    """The seal of the last copy that was finished; empty where none was."""
    path = lake / "meter_reports" / "seal"
    return path.read_text() if path.exists() else ""


def set_seal(lake: Path, value: str) -> None:
    staged = lake / ".meter_reports.seal"
    staged.write_text(value)
    staged.replace(lake / "meter_reports" / "seal")


def _file(lake: Path, day: date) -> Path:
    return lake / "meter_reports" / f"hour_date={day}" / "reports.parquet"
