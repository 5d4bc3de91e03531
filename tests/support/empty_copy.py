"""A published copy without accounts: enough for pages that show the ledger."""

from pathlib import Path

from orchestration.warehouse import published_copy
from tests.support.duckdb_file import opened


def publish(data: Path) -> None:
    """Swap one in that has what the foot of each page shows."""
    staging = data / "staging.duckdb"
    with opened(staging) as connection:
        connection.execute(
            "create table data_quality as"
            " select now()::timestamp as as_of, as_of as data_through, 0 as hours_since_call"
        )
    published_copy.swap_in(staging, data / "published.duckdb")
