"""The ledger's subscription periods as Parquet under `lake/subscription_periods/`: dbt cannot read the ledger itself.

A copy, not the truth: it may be deleted. Few rows, so it is always replaced as a whole.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestration.lake import parquet

SUBSCRIPTION_PERIOD_COLUMNS = {
    "stripe_customer_id": "varchar",
    "subscription_id": "varchar",
    "subscription_item_id": "varchar",
    "meter": "varchar",
    "period_start": "timestamptz",
    "period_end": "timestamptz",
    "status": "varchar",
    "is_trial": "boolean",
    "ends_at": "timestamptz",
}


def create(lake: Path) -> None:
    """A copy without a period, if there is none: the dbt source always finds its file."""
    if not _file(lake).exists():
        write(lake, [])


def write(lake: Path, rows: Sequence[Sequence[Any]]) -> int:
    """Replace the copy by these rows, which have SUBSCRIPTION_PERIOD_COLUMNS; how many they were.

    Call it under `Lake.locked()`, as everything that writes in the lake.
    """
    return parquet.replace(_file(lake), SUBSCRIPTION_PERIOD_COLUMNS, rows)


def _file(lake: Path) -> Path:
    return lake / "subscription_periods" / "periods.parquet"
