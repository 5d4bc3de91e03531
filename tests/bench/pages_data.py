"""A published copy of very many accounts: a small one, each account of it many times, with other ids and names.

Rows lie as the models write them: hours in the order of time, days account by account, the rest in no order.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from orchestration.warehouse.queries import account_hash

HOURS = ("hourly_usage", "hourly_usage_by_endpoint", "hourly_usage_by_property", "billing_reconciliation_hourly")
UNREAD = (
    *("account_profiles", "cap_forecasts", "event_values", "events_rejected", "expected_usage", "forecast_backtest"),
    *("forecast_choice", "meter_events", "momentum", "period_usage", "quota_current", "quota_standings"),
    "stg_accounts",
)
"""No page asks for them: they stay as they are."""
NAMED = {
    "account_id": "{} || case when copy = 0 then '' else '-' || copy end",
    "stripe_customer_id": "{} || case when copy = 0 then '' else '-' || copy end",
    "account_name": "{} || case when copy = 0 then '' else ' ' || copy end",
}
NAMED["account_hash"] = account_hash(NAMED["account_id"].format("account_id"))
NAMED["customer_hash"] = account_hash(NAMED["stripe_customer_id"].format("stripe_customer_id"))


def multiply(source: Path, target: Path, copies: int, days: int | None = None) -> None:
    """`target` is `source` with each account so many times. With `days` the usage of that many last days alone, and of
    each day one hour: what a million accounts have on average.
    """
    target.unlink(missing_ok=True)
    with duckdb.connect(str(target), config={"storage_compatibility_version": "v1.5.0", "threads": 2}) as connection:
        connection.execute(f"set TimeZone = 'UTC'; attach '{source}' as few (read_only)")
        connection.execute("copy from database few to " + f'"{target.stem}" (schema)')
        tables = connection.execute(
            "select table_name, list(column_name order by column_index) from duckdb_columns()"
            " semi join duckdb_tables() as tables using (database_name, table_name)"
            " where database_name = 'few' and schema_name = 'main' group by table_name order by table_name"
        ).fetchall()
        for table, columns in tables:
            _fill(connection, table, columns, copies, days)


def _fill(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[str], copies: int, days: int | None
) -> None:
    names = [name for name in NAMED if name in columns]
    if not names or table in UNREAD:
        connection.execute(f"insert into {table} select * from few.{table}")
        return
    selected = ", ".join(NAMED[name].format(name) + f" as {name}" if name in names else name for name in columns)
    many, read = f"range({copies}) as copies (copy)", f"few.{table}"
    insert = f"insert into {table} select {selected} from"
    if table in HOURS:
        _fill_hours(connection, insert, table, names[0], many, days)
        return
    if table == "daily_usage" and days:
        read = f"(select * from {read} where usage_date > (select max(usage_date) from {read}) - {days})"
    [[ordered]] = connection.execute(
        f"select avg(({names[0]} >= before)::int) > 0.9 from (select {names[0]}, lag({names[0]}) over () as before"
        f" from few.{table})"
    ).fetchall()
    # the table on the right is gone through for each two thousand rows of the one on the left
    connection.execute(f"{insert} {many}, {read}" if ordered else f"{insert} {read}, {many}")


def _fill_hours(
    connection: duckdb.DuckDBPyConnection, insert: str, table: str, key: str, many: str, days: int | None
) -> None:
    connection.execute(f"""
        create or replace temp table hours as
        select * from few.{table}
        where {f"hour_start::date > (select max(hour_start)::date from few.{table}) - {days}" if days else "true"}
        {f"qualify row_number() over (partition by {key}, hour_start::date order by hour_start) = 1" if days else ""}
    """)
    for (day,) in connection.execute("select distinct hour_start::date as day from hours order by day").fetchall():
        connection.execute(f"{insert} (select * from hours where hour_start::date = '{day}') as hours, {many}")
