"""Which engine builds the marts, and that the engines do not get into each other's way."""

from pathlib import Path

import pytest

from orchestration.settings import load
from orchestration.warehouse.clickhouse.engine import ClickHouseEngine
from orchestration.warehouse.dbt import DbtProject
from orchestration.warehouse.duckdb import DuckDbEngine
from orchestration.warehouse.engines import engine_of

URL = "http://u:s3cr3t@host/database"


def test_engine_is_the_configured_one_and_its_address_stays_secret(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine_of(load()) == DuckDbEngine(data / "warehouse.duckdb", data / "published.duckdb")
    monkeypatch.setenv("HEADROOM_CLICKHOUSE_URL", URL)
    assert isinstance(engine_of(load()), ClickHouseEngine)
    assert "s3cr3t" not in repr(DbtProject.of(load()))


def test_engines_do_not_share_what_dbt_writes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_duckdb = DbtProject.of(load())
    monkeypatch.setenv("HEADROOM_CLICKHOUSE_URL", URL)
    assert DbtProject.of(load()).target != on_duckdb.target


def test_dbt_builds_on_the_configured_engine_whatever_the_shell_says(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_WAREHOUSE", "clickhouse")
    assert engine_of(load()).dbt_environment == {"HEADROOM_WAREHOUSE": "duckdb"}
    monkeypatch.setenv("HEADROOM_CLICKHOUSE_URL", URL)
    assert engine_of(load()).dbt_environment["HEADROOM_CLICKHOUSE_PASSWORD"] == "s3cr3t"
