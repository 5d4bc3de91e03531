"""A lake that does not keep old calls any more: by increments or anew, its marts are those of one that never had them;
what was announced is not news again, and a lake that is put back counts as it did.
"""

import shutil
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestration import demo, settings
from orchestration.defs.digest import prepare_digest
from orchestration.defs.resources import Project
from orchestration.lake.lake import Lake
from orchestration.messages.digest import compose_digest, read_figures
from orchestration.warehouse import duckdb
from tests.dbt_project.builder import COUNTED, Builder
from tests.support.pipeline import ingest

NOW = datetime(2026, 11, 20, 8, 17, 5, tzinfo=UTC)
TODAY = NOW.date()
KEPT_FROM = date(2026, 10, 20)
"""In the middle of the period before the running one: then crossings go that were announced."""
TABLES = """select table_name from duckdb_tables() where schema_name = 'main'
    and table_name not in ('recount_progress', 'crossing_moments', 'events_rejected') order by table_name"""
OTHERWISE = {"data_quality": "rejected_lines, lost_events, complete_pct"}
"""What a lake that refused the old calls says otherwise."""
MARTS = ("resource_type:seed", "resource_type:model", *COUNTED)


@pytest.fixture
def builder(data: Path) -> Builder:
    return Builder(data)


def build(builder: Builder, *nodes: str) -> dict[str, list[tuple[Any, ...]]]:
    """All tables after a build of all models, or of `nodes`."""
    assert set(builder.build(NOW, *(nodes or MARTS)).values()) <= {"success", "pass", "no-op"}
    return {
        name: builder.query(f"select * exclude ({OTHERWISE.get(name, '')}) from {name} order by all")
        if name in OTHERWISE
        else builder.query(f"from {name} order by all")
        for (name,) in builder.query(TABLES)
    }


def test_marts_of_a_pruned_lake_equal_marts_without_the_old_calls(
    data: Path, builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADROOM_NOW", NOW.isoformat())
    config, project = settings.load(), Project()
    lake = Lake(config.lake)
    demo.generate(config.landing, config.accounts_csv, now=NOW, accounts=20, days=50, events=2_000)
    ingest(data, config.landing, NOW)
    before = build(builder)
    duckdb.publish(config.warehouse, config.published)
    prepare_digest(project, project.ways(), TODAY, "", print)
    whole = shutil.copytree(lake.root, data / "before")

    with lake.writing():
        lake.keep_from(KEPT_FROM)
    hidden = build(builder, *COUNTED)  # files that were not removed yet, as after a kill
    with lake.writing():
        lake.compact(nullcontext())
    pruned = build(builder)
    for table in ("hourly_usage", "hourly_usage_by_endpoint", "daily_usage"):
        assert before[table] != hidden[table] == pruned[table]

    duckdb.publish(config.warehouse, config.published)
    ledger, tomorrow = project.ledger(), TODAY + timedelta(days=1)
    figures = read_figures(config, ledger, tomorrow, None)
    with ledger.transaction() as connection:
        told = {key[2].date() for key in ledger.verdicts(connection, config.env)}
        digest = compose_digest(figures, ledger, connection, config, tomorrow, print)
    assert told == {date(2026, 10, 1), date(2026, 11, 1)}
    assert {row["period_start"].date() for row in figures.crossings} == {date(2026, 11, 1)}
    assert (digest.verdicts, digest.withdrawn, digest.digest["items"]) == ([], [], [])

    shutil.rmtree(lake.root)
    whole.rename(lake.root)
    assert build(builder, *COUNTED)["hourly_usage"] == before["hourly_usage"]

    shutil.rmtree(lake.root)
    with lake.writing():
        lake.keep_from(KEPT_FROM)
    ingest(data, config.landing, NOW)
    builder.warehouse.unlink()
    anew = build(builder)
    assert pruned.keys() == anew.keys()
    for table, rows in anew.items():
        assert pruned[table] == rows, table
    assert sum(map(bool, anew.values())) > 25
