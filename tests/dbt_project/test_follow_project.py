"""A warehouse that an earlier project has built follows the project of today, without hands."""

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from orchestration.lake.lake import Lake
from tests.dbt_project.builder import PROJECT, Builder

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
SEEDS = ("meters", "thresholds", "routing", "plans")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Seeds built over those of an earlier project: with fewer columns, in another order, as a view, of other types."""
    builder = Builder(tmp_path_factory.mktemp("data"))
    swapped = "is_in_digest boolean, severity varchar, threshold_units integer, threshold_pct bigint, plan varchar"
    for sql in (
        "create table meters as select 'seats' as meter, 'last' as aggregation, 'seats' as unit",
        f"create table thresholds ({swapped}, meter varchar)",
        "create view routing as select 1 as segment",
        "create table plans as select 'growth' as plan, 7 as a_column_that_was_removed",
        "create table usage_of_yore as select 1 as x",
        "create view stg_yore as select * from usage_of_yore",
        "create table daily_usage__dbt_backup as select 1 as x",
        "create table recount_progress as select 1 as x",
        "create schema mine",
        "create table mine.notes as select 1 as x",
    ):
        builder.query(sql)
    results = builder.build(NOW, *SEEDS)
    assert {name: results[name] for name in SEEDS} == dict.fromkeys(SEEDS, "success")
    return builder


@pytest.mark.parametrize("name", SEEDS)
def test_seed_has_the_columns_and_rows_of_its_file(followed: Builder, name: str) -> None:
    with (PROJECT / "seeds" / f"{name}.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    names = followed.query(
        f"select column_name from duckdb_columns() where table_name = '{name}' order by column_index"
    )
    values = ", ".join(f"coalesce(cast({column} as varchar), '')" for column in header)

    assert [column for (column,) in names] == header
    found = followed.query(f"select {values} from {name}")
    assert len(found) == len(rows)
    texts = [i for i, column in enumerate(header) if column in ("meter", "plan", "severity", "segment")]
    assert [[row[i] for i in texts] for row in found] == [[row[i] for i in texts] for row in rows]


def test_what_the_project_does_not_have_is_gone(followed: Builder) -> None:
    names = followed.query("select schema_name || '.' || table_name from duckdb_tables() where not internal order by 1")
    views = followed.query("select view_name from duckdb_views() where not internal")

    # tables of people are left alone in a schema of their own, and what a build keeps for the next one is no model
    kept = ["recount_progress", *SEEDS]
    assert [name for (name,) in names] == sorted([*(f"main.{name}" for name in kept), "mine.notes"])
    assert views == []


def test_view_and_table_take_each_others_place(tmp_path: Path) -> None:
    with Lake(tmp_path / "lake").locked():
        pass  # an empty one
    builder = Builder(tmp_path)
    builder.query("create table stg_limits_reached as select 1 as x")
    builder.query("create view stg_subjects as select 1 as x")
    for _ in range(2):
        results = builder.build(NOW, "stg_limits_reached", "stg_subjects")
        assert set(results.values()) == {"success"}
        assert builder.query("select table_name, table_type from information_schema.tables order by 1") == [
            ("stg_limits_reached", "VIEW"),
            ("stg_subjects", "BASE TABLE"),
        ]
    assert builder.query("from stg_limits_reached") == builder.query("from stg_subjects") == []
