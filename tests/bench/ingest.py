"""Landing file to lake against DuckDB's own typed parse of the same bytes."""

import json
import statistics
import sys
from pathlib import Path

from tests.bench.measure import ROUNDS, Row, python, write_events

EVENTS = 1_000_000
BULK_EVENTS = 10_000_000


def bench(folder: Path) -> list[Row]:
    rows = []
    for events, rounds in ((EVENTS, ROUNDS), (BULK_EVENTS, 2)):
        landing = folder / f"landing-{events}"
        write_events(landing / "bulk.ndjson", events, seed=1)
        ours, parse, peaks, lakes = [], [], [], []
        for number in range(rounds):
            lake = folder / f"lake-{events}-{number}"
            mine = python(__name__, "lake", landing, lake)
            peaks.append(mine.peak_bytes)
            ours.append(seconds_of(lake))
            python(__name__, "parse", landing, lake)
            parse.append(seconds_of(lake))
            lakes.append(lake)
        ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, parse, strict=True))
        rows.append(
            Row(
                f"ingest of {events:,} events (median of {rounds}), peak {max(peaks) // 2**20:,} MB",
                f"{statistics.median(ours):.2f} s",
                f"{statistics.median(parse):.2f} s",
                f"{ratio:.2f} ({1 / ratio:.2f} of its speed)",
                "DuckDB's typed parse of five fields of the same file",
            )
        )
    return rows


def seconds_of(lake: Path) -> float:
    """Seconds of the work itself, without starting Python."""
    seconds: float = json.loads((lake.parent / f"{lake.name}.json").read_text())
    return seconds


def into_lake(landing: Path, lake: Path) -> None:
    from datetime import UTC, datetime

    from orchestration.lake.lake import Lake
    from orchestration.lake.landed_file import LandedFile
    from orchestration.lake.sources import Folder

    known: dict[str, LandedFile] = {}
    store = Lake(lake)
    with store.writing():
        while (outcome := store.ingest(Folder(landing), known, datetime.now(UTC)))[0]:
            known.update({file.path: file for file in outcome[0].files})


def typed_parse(landing: Path, lake: Path) -> None:
    import duckdb

    with duckdb.connect(str(lake.with_suffix(".duckdb")), config={"threads": 2}) as connection:
        connection.execute("set TimeZone = 'UTC'").fetchall()
        connection.execute(f"""
            create temp table parsed as select * from read_json(
                '{landing}/*.ndjson', format = 'newline_delimited', ignore_errors = true,
                columns = {{event: 'VARCHAR', uuid: 'VARCHAR', distinct_id: 'VARCHAR', timestamp: 'TIMESTAMPTZ',
                            properties: 'STRUCT(account_id VARCHAR, endpoint VARCHAR, status INTEGER)'}})
        """).fetchall()


if __name__ == "__main__":
    import time

    work = {"lake": into_lake, "parse": typed_parse}[sys.argv[1]]
    target = Path(sys.argv[3])
    started = time.perf_counter()
    work(Path(sys.argv[2]), target)
    (target.parent / f"{target.name}.json").write_text(json.dumps(time.perf_counter() - started))
