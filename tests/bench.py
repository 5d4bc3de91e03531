"""`make bench`: how long it takes, as ratios against a baseline that is measured in the same run.

Seconds differ from machine to machine and from hour to hour; the ratios are what to compare. Each figure is the
median of several runs, ours and the baseline's in turn.
"""

import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
HOUR_EVENTS = 100_000
BULK_EVENTS = 1_000_000
ROUNDS = 5


def main() -> None:
    console = Console(width=120)
    table = Table("What", "Headroom", "Baseline", "Ratio", "Against")
    with tempfile.TemporaryDirectory(prefix="headroom-bench-") as folder:
        for rows in (bench_first_run, bench_hourly_job, bench_ingest):
            for row in rows(Path(folder)):
                table.add_row(*row)
    console.print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, medians of {ROUNDS} (first run: 1)")
    console.print(table)


Row = tuple[str, str, str, str, str]


def bench_first_run(folder: Path) -> list[Row]:
    """From a ready environment to the digest on the screen, nothing prepared."""
    data = folder / "first"
    seconds = timed([BIN / "headroom", "demo"], data)
    baseline = timed(dbt_build(folder / "first-target"), data)
    return [row("first `headroom demo`, 150,000 events", [seconds], [baseline], "`dbt build` of the same models alone")]


def bench_hourly_job(folder: Path) -> list[Row]:
    """A warm project gets an hour of new events: start of process to recorded deliveries."""
    data = folder / "hourly"
    timed([BIN / "headroom", "generate", "--events", "500000"], data)
    timed([BIN / "headroom", "run"], data)
    ours, dbt, dagster = [], [], []
    for number in range(ROUNDS):
        write_events(data / "landing" / f"hour-{number}.ndjson", HOUR_EVENTS, seed=number)
        ours.append(timed([BIN / "headroom", "run"], data))
        dbt.append(timed(dbt_build(folder / "hourly-target"), data))
        write_events(data / "landing" / f"again-{number}.ndjson", HOUR_EVENTS, seed=1000 + number)
        dagster.append(
            timed([BIN / "dagster", "job", "execute", "-m", "orchestration.definitions", "-j", "hourly_job"], data)
        )
    what = f"`headroom run`, warm, {HOUR_EVENTS:,} new events"
    return [
        row(what, ours, dbt, "`dbt build` of the same models alone, nothing ingested"),
        row(what, ours, dagster, "the hourly job by `dagster job execute`"),
    ]


def bench_ingest(folder: Path) -> list[Row]:
    """Landing file to lake (validate, quarantine, de-duplicate, write) against DuckDB's own typed parse of it."""
    landing = folder / "bulk"
    write_events(landing / "bulk.ndjson", BULK_EVENTS, seed=1)
    ours, parse, peak = [], [], 0
    for number in range(ROUNDS):
        lake = folder / f"lake-{number}"
        seconds, memory = in_process(_ingest, landing, lake)
        ours.append(seconds)
        peak = max(peak, memory)
        parse.append(in_process(_typed_parse, landing, lake)[0])
        shutil.rmtree(lake)
    what = f"ingest of {BULK_EVENTS:,} events, peak {peak // 2**20:,} MB"
    return [row(what, ours, parse, "DuckDB's typed parse of the same file")]


def row(what: str, ours: Sequence[float], baseline: Sequence[float], against: str) -> Row:
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, baseline, strict=True))
    return what, f"{statistics.median(ours):.2f} s", f"{statistics.median(baseline):.2f} s", f"{ratio:.2f}", against


def timed(command: Sequence[str | Path], data: Path) -> float:
    """Wall seconds of a whole process."""
    environment = {
        **{
            name: value for name, value in os.environ.items() if not name.startswith(("HEADROOM_", "SLACK_", "STRIPE_"))
        },
        "HEADROOM_DATA": str(data),
        "DAGSTER_HOME": str(data / "dagster"),
    }
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return seconds


def dbt_build(target: Path) -> list[str | Path]:
    places: list[str | Path] = [
        "--project-dir",
        "dbt_project",
        "--profiles-dir",
        "dbt_project",
        "--target-path",
        target,
    ]
    return [BIN / "dbt", "build", *places, "--exclude-resource-type", "unit_test", "--log-path", target]


def in_process(work: Callable[[Path, Path], None], *places: Path) -> tuple[float, int]:
    """Seconds of `work` and peak bytes of a process of its own."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        started = time.perf_counter()
        work(*places)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        os.write(writer, json.dumps([seconds, peak]).encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"{work.__name__} failed")
    with os.fdopen(reader) as stream:
        seconds, peak = json.load(stream)
    return seconds, peak


def _ingest(landing: Path, lake: Path) -> None:
    from orchestration.storage.lake import Lake
    from orchestration.storage.landing import LandedFile

    known: dict[str, LandedFile] = {}
    store = Lake(lake)
    with store.writing():
        while (outcome := store.ingest(landing, known, datetime.now(UTC)))[0]:
            known.update({file.path: file for file in outcome[0].files})


def _typed_parse(landing: Path, lake: Path) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"""
            create table parsed as select * from read_json(
                '{landing}/*.ndjson', format = 'newline_delimited', ignore_errors = true,
                columns = {{event: 'VARCHAR', uuid: 'VARCHAR', distinct_id: 'VARCHAR', timestamp: 'TIMESTAMPTZ',
                            properties: 'STRUCT(account_id VARCHAR, endpoint VARCHAR, status INTEGER)'}})
        """)


def write_events(path: Path, count: int, seed: int) -> None:
    """`count` calls of 5,000 accounts within the last hour, complete before it gets its name."""
    rng, now = random.Random(seed), datetime.now(UTC)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as stream:
        for _ in range(count):
            at = now - timedelta(seconds=rng.randrange(3600))
            account = f"account-{int(rng.paretovariate(0.6)) % 5000}"
            stream.write(
                f'{{"event":"api_call","uuid":"{uuid.UUID(int=rng.getrandbits(128))}","distinct_id":"{account}",'
                f'"timestamp":"{at:%Y-%m-%dT%H:%M:%SZ}","properties":{{"account_id":"{account}",'
                f'"endpoint":"/v1/search","method":"GET","status":200,"region":"eu"}}}}\n'
            )
    part.rename(path)


if __name__ == "__main__":
    main()
