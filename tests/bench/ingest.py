"""Landing file to lake against DuckDB's own typed parse of the same bytes; and a look that finds nothing new."""

import json
import sqlite3
import statistics
import sys
from pathlib import Path

from tests.bench.measure import ROUNDS, Row, python, row, write_events

EVENTS = 1_000_000
BULK_EVENTS = 10_000_000
REMEMBERED = 300_000
"""Files that were read and are gone."""


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
                f"ingest of {events:,} events (median of {rounds})",
                f"{statistics.median(ours):.2f} s, peak {max(peaks) // 2**20:,} MB",
                f"{statistics.median(parse):.2f} s",
                f"{ratio:.2f} ({1 / ratio:.2f} of its speed)",
                "DuckDB's typed parse of the same file: four fields, properties as text",
                ratio,
            )
        )
    return [*rows, idle(folder)]


def idle(folder: Path) -> Row:
    """A look into an empty landing folder, with many files remembered and with none."""
    seconds: dict[int, list[float]] = {REMEMBERED: [], 0: []}
    for number in range(ROUNDS):
        for count, found in seconds.items():
            data = folder / f"remembered-{count}"
            if not number:
                remember(data, count)
            python(__name__, "idle", data, data / "lake")
            found.append(seconds_of(data / "lake"))
    ours, baseline = seconds.values()
    return row(f"idle look, {REMEMBERED:,} files remembered", ours, baseline, "the same with none remembered")


def remember(data: Path, count: int) -> None:
    from orchestration.ledger.ledger import Ledger

    (data / "landing").mkdir(parents=True, exist_ok=True)
    Ledger(f"sqlite:///{data / 'ledger.sqlite'}").close()
    with sqlite3.connect(data / "ledger.sqlite") as connection:
        connection.executemany(
            "insert into landed_files (path, size_bytes, stored_bytes, mtime_ns, inode, sha256, origin, read_bytes,"
            " read_lines, is_complete, batch, gone_at)"
            " values (?, 5000, 5000, ?, ?, ?, ?, 5000, 40, 1, 1, '2026-11-20 00:00:00.000000')",
            ((f"{n}.ndjson.gz", 10**18 + n, 10**6 + n, f"{n:064x}", f"{n}.ndjson.gz#{n:016x}") for n in range(count)),
        )


def look(data: Path, lake: Path) -> None:
    from datetime import UTC, datetime

    from orchestration.lake.lake import Lake
    from orchestration.lake.remembered import Asked
    from orchestration.lake.sources import Folder
    from orchestration.ledger.landed import LandedFiles
    from orchestration.ledger.ledger import Ledger

    store = Lake(lake)
    known = Asked(LandedFiles(Ledger(f"sqlite:///{data / 'ledger.sqlite'}")))
    with store.writing():
        assert store.ingest(Folder(data / "landing"), known, datetime(2026, 11, 21, tzinfo=UTC))[0] is None


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
                            properties: 'VARCHAR'}})
        """).fetchall()


if __name__ == "__main__":
    import time

    work = {"lake": into_lake, "parse": typed_parse, "idle": look}[sys.argv[1]]
    target = Path(sys.argv[3])
    started = time.perf_counter()
    work(Path(sys.argv[2]), target)
    (target.parent / f"{target.name}.json").write_text(json.dumps(time.perf_counter() - started))
