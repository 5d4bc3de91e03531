"""Which engine the environment names. Only that one is imported."""

from typing import TYPE_CHECKING

from orchestration.warehouse.engine import Engine

if TYPE_CHECKING:
    from orchestration.settings import Settings


def engine_of(config: "Settings") -> Engine:
    """ClickHouse where its address is set, else DuckDB's file."""
    if config.clickhouse_url:
        from orchestration.warehouse.clickhouse.engine import ClickHouseEngine

        return ClickHouseEngine(config.clickhouse_url, config.lake_at_clickhouse, config.build_lock, config.published)
    from orchestration.warehouse.duckdb import DuckDbEngine

    return DuckDbEngine(config.warehouse, config.published)
