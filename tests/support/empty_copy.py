"""A published copy without accounts: enough for pages that show the ledger."""

from contextlib import closing
from pathlib import Path

import duckdb

from orchestration.warehouse import published_copy


def publish(data: Path) -> None:
    """Swap one in that has what the foot of each page shows."""
    staging = data / "staging.duckdb"
    with closing(duckdb.connect(str(staging))) as connection:
        connection.execute(
            "create table data_quality as"
            " select now()::timestamp as as_of, as_of as data_through, 0 as hours_since_call"
        )
    published_copy.swap_in(staging, data / "published.duckdb")
