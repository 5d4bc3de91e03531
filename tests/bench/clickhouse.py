"""The marts on two nodes of ClickHouse against those on DuckDB, from ten million calls, and how fast these get there.

Both nodes, dbt and DuckDB share this machine's cores: the nodes are there to be correct, not to be fast.
"""

import os
import time
from pathlib import Path

import duckdb

from orchestration.lake.lake import Lake
from orchestration.warehouse.clickhouse import client
from orchestration.warehouse.clickhouse import load as clickhouse_load
from orchestration.warehouse.clickhouse.client import ClickHouse
from tests.bench import history, ingest, marts
from tests.bench.jobs import dbt_build
from tests.bench.measure import Row, python, row, timed, write_events
from tests.fakes.clickhouse import CLUSTER, running

DAYS = int(os.environ.get("BENCH_CLICKHOUSE_DAYS", "10"))
ROUNDS = int(os.environ.get("BENCH_CLICKHOUSE_ROUNDS", "3"))


def bench(folder: Path) -> list[Row]:
    data = folder / "marts"
    history.make_history(data / "lake", DAYS)
    marts.write_quotas(folder / "quotas" / "quotas.ndjson")
    python(ingest.__name__, "lake", folder / "quotas", data / "lake")
    with running(2, user_files=data) as nodes:
        url = nodes[0].url("marts")
        environments: dict[str, dict[str, str]] = {"clickhouse": client.environment(url), "duckdb": {}}
        server = ClickHouse(url)
        seconds: dict[str, dict[str, list[float]]] = {
            what: {engine: [] for engine in environments} for what in ("start", "models", "tests", "rerun")
        }
        loaded = [load(server, data)]

        def build(engine: str, what: str, *options: str) -> None:
            command = [*dbt_build(folder / engine), *options]
            seconds[what][engine].append(timed(command, data, environments[engine]))

        for engine in environments:  # from now on the project is parsed
            timed(dbt_build(folder / engine), data, environments[engine])
        for number in range(ROUNDS):
            for engine in environments:
                build(engine, "start", "--select", "meters", "--exclude-resource-type", "unit_test", "test")
                build(engine, "models", "--full-refresh", "--exclude-resource-type", "unit_test", "test")
                build(engine, "tests", "--full-refresh")
            write_events(folder / f"hour-{number}" / "hour.ndjson", history.HOUR_EVENTS, seed=number)
            python(ingest.__name__, "lake", folder / f"hour-{number}", data / "lake")
            loaded.append(load(server, data))
            for engine in environments:
                build(engine, "rerun")
        assert_same(data / "warehouse.duckdb", server)
        [size] = server.ask(
            f"""select sum(bytes_on_disk) / sum(rows) as bytes from cluster({CLUSTER}, system.parts)
                where active and table = 'raw_events_shard'"""
        )
    calls = DAYS * history.DAY_EVENTS
    on = f"{calls:,} calls (median of {ROUNDS})"
    names = {
        "start": f"dbt alone: one seed (median of {ROUNDS})",
        "models": f"all marts rebuilt, {on}: models alone",
        "tests": "the same: models and their tests",
        "rerun": f"{history.HOUR_EVENTS:,} new events on them: models and their tests",
    }
    rows = [row(names[what], *figures.values(), "the same on DuckDB") for what, figures in seconds.items()]
    return [
        Row(f"load of {calls:,} calls (once)", f"{loaded[0]:.1f} s", "–", f"{calls / loaded[0]:,.0f} /s", "–"),
        Row("a call on its shard", f"{size['bytes']:.0f} bytes", "–", "–", "–"),
        row(f"load of {history.HOUR_EVENTS:,} events (median of {ROUNDS})", loaded[1:], loaded[1:], "itself"),
        *rows,
    ]


def load(server: ClickHouse, data: Path) -> float:
    started = time.perf_counter()
    lake = Lake(data / "lake")
    clickhouse_load.load(server, lake, str(lake.root), data / "load.lock", lambda _: None)
    return time.perf_counter() - started


def assert_same(warehouse: Path, server: ClickHouse) -> None:
    """:raises AssertionError: the two did not count the same."""
    query = "select count(*) as accounts, sum(used_mtd) as used from utilization_mtd"
    [found] = server.ask(query)
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        assert connection.execute(query).fetchall() == [(found["accounts"], found["used"])]
