"""`make bench`: how long it takes, as ratios against a baseline that is measured in the same run.

Seconds differ from machine to machine and from hour to hour; the ratios are what to compare. Each figure is the
median of several runs, ours and the baseline's in turn. Name what to run: jobs, ingest, files, history, day, accounts,
marts, pages, clickhouse, collector, bucket, stripe, gate, billion (hours, 80 GB of disk), others (which installs other
tools into a folder of its own first); without a name, the first two and the collector. Beside each ratio stands the
recorded one; `--record` takes those of this run in its place.
"""

import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import (
    accounts,
    billion,
    clickhouse,
    collector,
    day,
    files,
    gate,
    history,
    ingest,
    jobs,
    marts,
    others,
    pages,
    recorded,
    stripe,
)
from tests.bench.measure import ROUNDS, Row

BENCHMARKS: dict[str, Callable[[Path], list[Row]]] = {
    "jobs": jobs.bench,
    "ingest": ingest.bench,
    "collector": collector.bench,
    "bucket": collector.bench_bucket,
    "files": files.bench,
    "history": history.bench,
    "day": day.bench,
    "accounts": accounts.bench,
    "marts": marts.bench,
    "clickhouse": clickhouse.bench,
    "billion": billion.bench,
    "others": others.bench,
    "pages": pages.bench,
    "stripe": stripe.bench,
    "gate": gate.bench,
}


def main() -> None:
    console = Console(width=150)
    wanted = [name for name in sys.argv[1:] if name != "--record"] or ["jobs", "ingest", "collector"]
    if unknown := set(wanted) - set(BENCHMARKS):
        raise SystemExit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    known, rows = recorded.load(), list[Row]()
    table = Table("What", "Headroom", "Baseline", "Ratio", "Against", "Recorded time ratio")
    for name in wanted:
        with tempfile.TemporaryDirectory(prefix="headroom-bench-") as folder:
            for row in BENCHMARKS[name](Path(folder)):
                rows.append(row)
                table.add_row(row.what, row.ours, row.baseline, row.ratio, row.against, recorded.compare(row, known))
                console.print(row)
    on, machine = f"{datetime.now(UTC):%Y-%m-%d}", recorded.machine()
    console.print(f"{on}, {machine}, medians of {ROUNDS} where not said otherwise")
    console.print(table)
    if slower := [row.what for row in rows if recorded.is_slower(row, known)]:
        console.print(f"Slower than recorded by more than a tenth: {'; '.join(slower)}.")
    if "--record" in sys.argv:
        recorded.save({**known, **recorded.figures(rows, on, machine)})


if __name__ == "__main__":
    main()
