"""Many small files: what twenty thousand cost, and what a whole run pays for those that it remembers."""

import os
from pathlib import Path

from tests.bench import ingest
from tests.bench.measure import BIN, ROUNDS, Row, python, rows_of_runs, run, write_events

FILES = int(os.environ.get("BENCH_FILES", "20_000"))
EVENTS_IN_EACH = 3


def bench(folder: Path) -> list[Row]:
    return [*bench_small(folder), *bench_remembered(folder)]


def bench_small(folder: Path) -> list[Row]:
    """The same events in many files and in one; whole processes, for most of the time is not in DuckDB."""
    one, many = folder / "one", folder / "many"
    write_events(one / "all.ndjson", FILES * EVENTS_IN_EACH, seed=1)
    lines = (one / "all.ndjson").read_bytes().splitlines(keepends=True)
    many.mkdir()
    for number in range(FILES):
        part = lines[number * EVENTS_IN_EACH : (number + 1) * EVENTS_IN_EACH]
        (many / f"{number:06}.ndjson").write_bytes(b"".join(part))
    ours, theirs = [], []
    for number in range(3):
        ours.append(python(ingest.__name__, "lake", many, folder / f"lake-many-{number}"))
        theirs.append(python(ingest.__name__, "lake", one, folder / f"lake-one-{number}"))
    return rows_of_runs(f"ingest of {FILES:,} files of {EVENTS_IN_EACH} events", ours, theirs, "the same in one file")


def bench_remembered(folder: Path) -> list[Row]:
    """A run with nothing new, when the ledger has many files that were read and are gone."""
    known, fresh = folder / "known", folder / "fresh"
    for data, count in ((known, ingest.REMEMBERED), (fresh, 0)):
        run([BIN / "headroom", "generate"], data)
        run([BIN / "headroom", "run"], data)
        ingest.remember(data, count)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(run([BIN / "headroom", "run"], known))
        theirs.append(run([BIN / "headroom", "run"], fresh))
    what = f"`headroom run`, nothing new, {ingest.REMEMBERED:,} files remembered"
    return rows_of_runs(what, ours, theirs, "the same without them")
