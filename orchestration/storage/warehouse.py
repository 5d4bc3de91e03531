"""The warehouse as everyone but dbt sees it: the published copy, and the queries that deliveries are made of.

While dbt writes the warehouse file no other process can open it, so after each build it is copied and swapped in
under the published name. Readers never wait and never see half a build. Nothing here computes a figure: queries
select columns of marts.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock


class NothingPublishedError(RuntimeError):
    """There is no published copy yet."""


def publish(warehouse: Path, published: Path) -> dict[str, int]:
    """Copy the warehouse to `published`, atomically; the rows of each table of its main schema.

    :raises duckdb.IOException: another process writes the warehouse outside the jobs (`dbt build` by hand).
    """
    staging = published.with_name(f".{published.name}")
    with FileLock(warehouse.with_suffix(".lock")):
        duckdb.connect(str(warehouse)).close()  # what a killed build had committed is in the file itself then
        shutil.copyfile(warehouse, staging)
        with duckdb.connect(str(staging), read_only=True) as connection:
            names = connection.execute(
                """select table_name from duckdb_tables()
                   where database_name = current_database() and schema_name = 'main' order by table_name"""
            ).fetchall()
            rows = {name: _count(connection, f'main."{name}"') for (name,) in names}
        staging.replace(published)
    return rows


def query(published: Path, sql: str, parameters: Sequence[object] | None = None) -> list[dict[str, Any]]:
    """Rows of a query against the published copy; timestamps come back as aware UTC datetimes.

    :raises NothingPublishedError: nothing was built yet.
    """
    with _connected(published) as connection:
        return _rows(connection, sql, parameters)


def inspect(warehouse: Path, tables: Sequence[str]) -> tuple[dict[str, int], dict[str, Any]]:
    """Rows of the named tables right after a build, and the row of data_quality where it is one of them."""
    with (
        FileLock(warehouse.with_suffix(".lock")),
        duckdb.connect(str(warehouse), read_only=True) as connection,
    ):
        rows = {table: _count(connection, f'main."{table}"') for table in tables}
        return rows, _rows(connection, DATA_QUALITY)[0] if "data_quality" in rows else {}


def data_quality(published: Path) -> dict[str, Any]:
    """The one row of the mart of that name, from the published copy."""
    [row] = query(published, DATA_QUALITY)
    return row


UTILIZATION = """
    select * from utilization_mtd
    order by hits_cap_on nulls last, pct_of_cap desc nulls last, mrr desc nulls last, account_id
"""

CROSSINGS = """
    select
        crossings.account_id, crossings.period_start, crossings.period_end, crossings.quota_version,
        crossings.threshold_pct, crossings.severity, crossings.crossed_at, crossings.cause, crossings.quota,
        crossings.used, crossings.pct_of_cap, utilization.ci95_pct,
        utilization.account_name, utilization.owner, utilization.plan, utilization.mrr,
        utilization.projected_eom, utilization.hits_cap_on, utilization.hits_cap_in_period,
        crossings.period_start = utilization.period_start as is_current_period
    from threshold_crossings as crossings
    join utilization_mtd as utilization using (account_id)
    where
        crossings.is_in_digest and not utilization.is_internal and not utilization.is_test
        -- when the snooze is over, they are news
        and coalesce(utilization.snoozed_until <= cast(utilization.as_of as date), true)
"""

DAILY_CALLS = """
    select account_id, list(calls order by usage_date) as calls from daily_usage
    where usage_date > (select max(usage_date) from daily_usage) - 14 group by account_id
"""

DATA_QUALITY = "select * from data_quality"

BILLABLE_HOURS = """
    select stripe_customer_id, hour_start, sum(billable_units)::bigint as units
    from billable_usage_hourly where hour_start >= ? and hour_start < ?
    group by stripe_customer_id, hour_start order by stripe_customer_id, hour_start
"""


def billable_hours(published: Path, start: datetime, end: datetime) -> list[tuple[str | None, datetime, int]]:
    """(Stripe customer, UTC hour, units) in `[start, end)`; the customer is None for accounts without one."""
    naive = [moment.astimezone(UTC).replace(tzinfo=None) for moment in (start, end)]
    with _connected(published) as connection:
        rows = connection.execute(BILLABLE_HOURS, naive).fetchall()
    return [(customer, hour.replace(tzinfo=UTC), units) for customer, hour, units in rows]


@contextmanager
def _connected(published: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    if not published.exists():
        raise NothingPublishedError(f"{published} does not exist yet: `headroom run` builds and publishes it")
    # Attached, not opened: opened, it would be shared with every reader in this process that still holds an older copy.
    with duckdb.connect() as connection:
        connection.execute(f"attach '{_quoted(published)}' as \"{published.stem}\" (read_only)")
        connection.execute(f'use "{published.stem}"')
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object] | None = None
) -> list[dict[str, Any]]:
    connection.execute(sql, parameters)
    columns = [column[0] for column in connection.description or []]
    return [dict(zip(columns, map(_aware, row), strict=True)) for row in connection.fetchall()]


def _aware(value: object) -> object:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    [[count]] = connection.execute(f"select count(*) from {relation}").fetchall()
    return int(count)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
