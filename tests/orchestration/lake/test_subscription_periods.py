"""The copy of the subscription periods in the lake: replaced as a whole, with the columns of the dbt source."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake import subscription_periods
from orchestration.lake.subscription_periods import SUBSCRIPTION_PERIOD_COLUMNS
from tests.support.duckdb_file import memory

START, END = datetime(2026, 10, 17, 14, 0, 7, tzinfo=UTC), datetime(2026, 11, 17, 14, 0, 7, tzinfo=UTC)
ROW = ("cus_a", "sub_a", "si_a", "api-calls", START, END, "active", False, None)


def rows(lake: Path) -> list[tuple[Any, ...]]:
    with memory() as connection:
        connection.execute("set TimeZone = 'UTC'")
        return connection.execute(f"from '{lake}/subscription_periods/periods.parquet'").fetchall()


def test_empty_copy_of_periods_has_the_columns(tmp_path: Path) -> None:
    subscription_periods.create(tmp_path)

    assert rows(tmp_path) == []
    with memory() as connection:
        found = connection.execute(f"describe from '{tmp_path}/subscription_periods/periods.parquet'").fetchall()
    kinds = {"timestamptz": "timestamp with time zone"}
    assert [(name, kind.lower()) for name, kind, *_ in found] == [
        (name, kinds.get(kind, kind)) for name, kind in SUBSCRIPTION_PERIOD_COLUMNS.items()
    ]


def test_copy_is_replaced_as_a_whole(tmp_path: Path) -> None:
    assert subscription_periods.write(tmp_path, [ROW, (*ROW[:2], "si_b", *ROW[3:])]) == 2
    assert subscription_periods.write(tmp_path, [ROW]) == 1

    assert rows(tmp_path) == [ROW]


def test_create_keeps_a_copy_that_is_there(tmp_path: Path) -> None:
    subscription_periods.write(tmp_path, [ROW])
    subscription_periods.create(tmp_path)

    assert rows(tmp_path) == [ROW]


def test_copy_stays_as_it_was_when_writing_it_fails(tmp_path: Path) -> None:
    subscription_periods.write(tmp_path, [ROW])
    with pytest.raises(IndexError):
        subscription_periods.write(tmp_path, [ROW[:3]])

    assert rows(tmp_path) == [ROW]
