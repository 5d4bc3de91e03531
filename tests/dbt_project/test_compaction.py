"""A lake that was compacted: every table is the same to the last row, and no build counts a day again because of it."""

from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestration import demo
from orchestration.lake import compaction
from orchestration.lake.account_files import ACCOUNTS_FILES
from tests.dbt_project.builder import COUNTED, Builder
from tests.orchestration.lake.world import World
from tests.support.builders import make_event, make_quota

NOW = datetime(2026, 11, 20, 8, tzinfo=UTC)
NODES = (*COUNTED, "+threshold_crossings")
"""What is built by increments, or remembered from one build to the next; everything else is made of these."""
TABLES = "select table_name from duckdb_tables() where schema_name = 'main' order by table_name"


def tables(builder: Builder) -> dict[str, list[tuple[Any, ...]]]:
    return {name: builder.query(f"select * from main.{name} order by all") for (name,) in builder.query(TABLES)}


def test_marts_built_by_increments_equal_a_full_build_after_a_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FILES", 2)
    world = World(tmp_path)
    demo.generate(world.landing, tmp_path / "accounts.csv", now=NOW, accounts=20, days=8, events=3_000)
    assert len(world.ingest(batch_bytes=100_000, now=NOW)) > 5
    with world.lake.writing():
        for kind in ACCOUNTS_FILES:
            path = tmp_path / f"{kind.name}.csv"
            world.lake.write_accounts(kind, path if path.exists() else None, rejected_at=NOW)
    builder = Builder(tmp_path)
    assert set(builder.build(NOW, *NODES).values()) <= {"success", "pass", "no-op"}
    with world.lake.writing():
        assert world.lake.compact(nullcontext()) > 10
    days = "where usage_date < date '2026-11-19'"
    marked = "select count(*) from hourly_usage where last_arrived_at < timestamp '2000-01-01'"
    builder.query(f"update hourly_usage set last_arrived_at = last_arrived_at - interval 100 years {days}")
    [[old]] = builder.query(marked)
    assert set(builder.build(NOW).values()) <= {"success", "pass", "no-op"}
    assert builder.query(marked) == [(old,)], "no old day was counted again"
    assert old
    builder.query(f"update hourly_usage set last_arrived_at = last_arrived_at + interval 100 years {days}")

    [account] = builder.query("select min(account_id) from daily_usage")[0]
    late = (make_event(account, f"2026-11-{day}T07:30:00Z", uuid=f"late {day}") for day in (15, 20))
    world.land(*late, make_quota(account, 5), name="late.ndjson")
    world.ingest(now=NOW)
    assert set(builder.build(NOW, *NODES).values()) <= {"success", "pass", "no-op"}
    by_increments = tables(builder)
    assert set(builder.build(NOW, *NODES, full_refresh=True).values()) <= {"success", "pass", "no-op"}
    assert tables(builder) == by_increments
    assert len(by_increments["hourly_usage"]) > 10
