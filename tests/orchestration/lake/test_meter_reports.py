"""The copy of the meter reports in the lake: there as a whole day or not at all, with the columns of the dbt source."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration.lake import meter_reports
from orchestration.lake.meter_reports import METER_REPORT_COLUMNS
from tests.support.duckdb_file import memory

DAY = date(2026, 11, 20)
AT = datetime(2026, 11, 20, 7, tzinfo=UTC)
ROW = ("cus_a", AT, 1, 10**15, -5, "id", "sent", AT, 2, AT, AT, "no 'reason'", None, None)


def rows(lake: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    with memory() as connection:
        connection.execute("set TimeZone = 'UTC'")
        files = f"read_parquet('{lake}/meter_reports/*/*.parquet', hive_partitioning = true)"
        return connection.execute(f"select {columns} from {files} order by hour_start, hour_date").fetchall()


def test_empty_copy_has_the_columns(tmp_path: Path) -> None:
    meter_reports.create(tmp_path)

    assert rows(tmp_path) == []
    with memory() as connection:
        found = connection.execute(f"describe from '{tmp_path}/meter_reports/*/*.parquet'").fetchall()
    kinds = {"timestamptz": "timestamp with time zone"}
    assert [(name, kind.lower()) for name, kind, *_ in found if name != "hour_date"] == [
        (name, kinds.get(kind, kind)) for name, kind in METER_REPORT_COLUMNS.items()
    ]


def test_day_is_replaced_as_a_whole_and_others_stay(tmp_path: Path) -> None:
    meter_reports.create(tmp_path)
    assert meter_reports.write(tmp_path, DAY, [[ROW, ROW], [ROW]]) == 3
    meter_reports.write(tmp_path, date(2026, 11, 19), [[ROW]])
    assert meter_reports.write(tmp_path, DAY, [[ROW]]) == 1

    assert rows(tmp_path) == [(*ROW, date(2026, 11, 19)), (*ROW, DAY)]


def test_day_stays_as_it_was_when_writing_it_fails(tmp_path: Path) -> None:
    def broken() -> Iterator[Sequence[Sequence[Any]]]:
        yield [ROW, ROW]
        raise OSError

    meter_reports.write(tmp_path, DAY, [[ROW]])
    with pytest.raises(OSError):
        meter_reports.write(tmp_path, DAY, broken())

    assert len(rows(tmp_path)) == 1


def test_days_of_another_ledger_are_removed(tmp_path: Path) -> None:
    meter_reports.create(tmp_path)
    for day in (18, 19, 20):
        meter_reports.write(tmp_path, date(2026, 11, day), [[ROW]])
    meter_reports.keep_only(tmp_path, [DAY])

    assert rows(tmp_path, "hour_date") == [(DAY,)]
    meter_reports.keep_only(tmp_path, [])
    assert rows(tmp_path) == []
