"""What is left of customers' prepaid credit as Parquet under `lake/prepaid_credit/`, as Stripe said when it was read.

A copy, not the truth: it may be deleted. Few rows, so it is always replaced as a whole.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestration.lake import parquet

PREPAID_CREDIT_COLUMNS = {
    "stripe_customer_id": "varchar",
    "currency": "varchar",
    "remaining": "decimal(18,2)",
    "burns_down_at": "timestamptz",
    "read_at": "timestamptz",
}


def create(lake: Path) -> None:
    """A copy without credit, if there is none: the dbt source always finds its file."""
    if not _file(lake).exists():
        write(lake, [])


def write(lake: Path, rows: Sequence[Sequence[Any]]) -> int:
    """Replace the copy by these rows, which have PREPAID_CREDIT_COLUMNS; how many they were.

    Call it under `Lake.locked()`, as everything that writes in the lake.
    """
    return parquet.replace(_file(lake), PREPAID_CREDIT_COLUMNS, rows)


def _file(lake: Path) -> Path:
    return lake / "prepaid_credit" / "credit.parquet"
