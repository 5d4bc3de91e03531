"""A slice of a billion events a day: the last hour of a large day, as files, on all the hours before it.

The hours before are written straight into the lake's format. Then that hour is counted on DuckDB and on two nodes of
ClickHouse, all on this machine.
"""

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestration.warehouse.clickhouse import client
from orchestration.warehouse.clickhouse.client import ClickHouse
from tests.bench import ingest
from tests.bench.clickhouse import load
from tests.bench.history import write_batch
from tests.bench.jobs import dbt_build
from tests.bench.measure import BIN, Row, Run, python, run, write_events
from tests.fakes.clickhouse import running

DAY_EVENTS = int(os.environ.get("BENCH_BILLION_DAY", "500_000_000"))
HOUR_EVENTS = int(os.environ.get("BENCH_BILLION_HOUR", "42_000_000"))
FILE_EVENTS = 1_000_000
DAY = datetime(2026, 10, 20, tzinfo=UTC)
HOURS = 23
NOW = DAY + timedelta(hours=HOURS, minutes=2)
THEN = DAY + timedelta(hours=HOURS + 1)


def bench(folder: Path) -> list[Row]:
    for hour in range(HOURS):
        write_batch(folder / "lake", hour + 1, DAY + timedelta(hours=hour), timedelta(hours=1), DAY_EVENTS // HOURS)
    rows = [_row(f"DuckDB: first run, {DAY_EVENTS:,} events in the lake", _run(folder, NOW))]
    engines = os.environ.get("BENCH_BILLION_ENGINES", "duckdb clickhouse").split()
    if "clickhouse" in engines:
        shutil.copytree(folder / "lake", folder / "sharded" / "lake", copy_function=os.link)  # a batch never changes
    for number in range(HOUR_EVENTS // FILE_EVENTS):
        write_events(folder / "landing" / f"{number:04}.ndjson", FILE_EVENTS, number, until=THEN)
    landed = folder / "landed"
    shutil.copytree(folder / "landing", landed, copy_function=os.link)
    rows.append(_row(f"DuckDB: ingest of {HOUR_EVENTS:,}", _run(folder, THEN, "--only", "ingest")))
    rows.append(_row("DuckDB: the increment, models and their tests", _run(folder, THEN, "--only", "models")))
    rows.append(_row("DuckDB: the same, nothing new", _run(folder, THEN, "--only", "models")))
    return rows + (_sharded(folder / "sharded", landed) if "clickhouse" in engines else [])


def _sharded(data: Path, landed: Path) -> list[Row]:
    with running(2, user_files=data) as nodes:
        url = nodes[0].url("marts")
        server, environment, build = ClickHouse(url), client.environment(url), dbt_build(data / "target")
        seconds = load(server, data)
        per_second = f"{DAY_EVENTS / seconds:,.0f} /s"
        rows = [Row(f"ClickHouse, two shards: load of {DAY_EVENTS:,}", f"{seconds:.1f} s", "–", per_second, "–")]
        then = {**environment, "HEADROOM_NOW": NOW.isoformat()}
        rows.append(_row("ClickHouse: first build", run(build, data, variables=then)))
        python(ingest.__name__, "lake", landed, data / "lake")
        seconds = load(server, data)
        per_second = f"{HOUR_EVENTS / seconds:,.0f} /s"
        rows.append(Row(f"ClickHouse: load of {HOUR_EVENTS:,}", f"{seconds:.1f} s", "–", per_second, "–"))
        now = {**environment, "HEADROOM_NOW": THEN.isoformat()}
        return [*rows, _row("ClickHouse: the increment, models and their tests", run(build, data, variables=now))]


def _run(data: Path, now: datetime, *options: str) -> Run:
    return run([BIN / "headroom", "run", *options], data, variables={"HEADROOM_NOW": now.isoformat()})


def _row(what: str, done: Run) -> Row:
    said = f"{done.seconds:.1f} s, CPU {done.cpu_seconds:.1f} s, peak {done.peak_bytes >> 20:,} MB"
    sys.stdout.write(f"{what}: {said}\n")  # at once: the last ones take hours
    sys.stdout.flush()
    return Row(what, said, "–", "–", "–")
