"""Two hundred thousand accounts: the first run, one with nothing new, the preview, and what a page of one asks."""

import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb

from orchestration.warehouse.account_usage import usage
from tests.bench.measure import BIN, Row, Run, run

ACCOUNTS = int(os.environ.get("BENCH_ACCOUNTS", "200_000"))
EVENTS_OF_EACH, DAYS = 10, 30
ROUNDS = 3
READS = 21


def bench(folder: Path) -> list[Row]:
    large, small = folder / "large", folder / "small"
    options = ["--accounts", ACCOUNTS, "--days", DAYS, "--events", ACCOUNTS * EVENTS_OF_EACH]
    run([BIN / "headroom", "generate", *map(str, options)], large)
    run([BIN / "headroom", "generate"], small)
    first, run_of_few = _run(large), _run(small)
    again, few, preview = list[Run](), list[Run](), list[Run]()
    for _ in range(ROUNDS):
        again.append(_run(large))
        few.append(_run(small))
        preview.append(run([BIN / "headroom", "digest", "--preview"], large))
    of = f"{ACCOUNTS:,} accounts"
    return [
        _row(f"{of}: first run", [first], [run_of_few], "300 accounts, 60 days"),
        _row(f"{of}: nothing new (median of {ROUNDS})", again, few, "300 accounts"),
        _row(f"{of}: digest preview (median of {ROUNDS})", preview, few, "`headroom run` of 300 accounts"),
        *_reads(large, of),
    ]


def _run(data: Path) -> Run:
    return run([BIN / "headroom", "run"], data)


def _row(what: str, ours: list[Run], theirs: list[Run], against: str) -> Row:
    mine, other = (statistics.median(done.seconds for done in runs) for runs in (ours, theirs))
    cpu, peak = statistics.median(done.cpu_seconds for done in ours), max(done.peak_bytes for done in ours)
    said = f"{mine:.1f} s, CPU {cpu:.1f} s, peak {peak >> 20:,} MB"
    return Row(what, said, f"{other:.1f} s", f"{mine / other:.2f}", against, mine / other)


def _reads(data: Path, of: str) -> list[Row]:
    """What the account with the most calls did in a month, from the opening of the published copy to the rows."""
    published = data / "published.duckdb"
    with duckdb.connect(str(published), read_only=True) as connection:
        found = connection.execute("select account_id from utilization_mtd order by used_mtd desc limit 1").fetchall()
    today, milliseconds = datetime.now(UTC).date(), []
    for _ in range(READS):
        started = time.perf_counter()
        usage(published, found[0][0], today - timedelta(days=DAYS), today + timedelta(days=1), ZoneInfo("UTC"))
        milliseconds.append(1000 * (time.perf_counter() - started))
    said = f"{statistics.median(milliseconds):.0f} ms"
    return [Row(f"{of}: the days of one account (median of {READS})", said, "–", "–", "–")]
