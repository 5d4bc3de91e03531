"""A warehouse that grew build by build holds what one that is built anew does: every table, row by row."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration import demo
from orchestration.warehouse import published_copy
from tests.support.pipeline import build_marts

NOW = datetime(2026, 11, 20, 8, 17, 5, tzinfo=UTC)
TABLES = """select table_name from duckdb_tables() where database_name = current_database()
    and schema_name = 'main' and table_name <> 'recount_progress' order by table_name"""


def test_every_table_is_the_same_after_many_builds_and_after_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, landing, later = tmp_path / "data", tmp_path / "data" / "landing", tmp_path / "later"
    monkeypatch.setenv("HEADROOM_DATA", str(data))
    demo.generate(landing, data / "accounts.csv", now=NOW, accounts=60, days=60, events=10_000)
    later.mkdir()
    for path in landing.glob("usage-*.ndjson"):
        path.rename(later / path.name)
    for ago in (20, 2, 0):
        now = NOW - timedelta(days=ago)
        for path in later.glob("usage-*.ndjson"):
            if path.stem.removeprefix("usage-") <= now.date().isoformat():
                path.rename(landing / path.name)
        published = build_marts(data, landing, now)
        for path in landing.iterdir():
            path.unlink()  # the lake has it, and nothing here remembers that it was read
    grown = contents(published)
    (data / "warehouse.duckdb").unlink()

    anew = contents(build_marts(data, landing, NOW))
    assert grown.keys() == anew.keys()
    for table, rows in anew.items():
        assert grown[table] == rows, table
    assert sum(map(bool, anew.values())) > 25


def contents(published: Path) -> dict[str, list[tuple[Any, ...]]]:
    names = [row["table_name"] for row in published_copy.query(published, TABLES)]
    return {
        name: [tuple(row.values()) for row in published_copy.query(published, f'select * from "{name}" order by all')]
        for name in names
    }
