"""Whether an hour costs what the hour brought: the 24th hour of a large day against its second, and late events."""

import os
import re
import shutil
import statistics
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench.history import write_batch
from tests.bench.measure import BIN, Row, run

DAY_EVENTS = int(os.environ.get("BENCH_DAY_EVENTS", "10_000_000"))
DAY = datetime(2026, 10, 20, tzinfo=UTC)
PAST_DAYS, LATE_DAYS = 40, 30
PAST_DAY_EVENTS = 250_000
MEASURED = {2: (2, 3, 4), 24: (22, 23, 24)}
"""Hours of the day, of which the median is taken."""
_MODELS = re.compile(r"models ([0-9.]+) s")


def bench(folder: Path) -> list[Row]:
    lake = folder / "lake"
    for number in range(1, PAST_DAYS + 1):
        write_batch(lake, number, DAY - timedelta(days=number), timedelta(days=1), PAST_DAY_EVENTS)
    seconds = dict[int, tuple[float, float]]()
    for hour in range(1, 25):
        at = DAY + timedelta(hours=hour - 1)
        write_batch(lake, PAST_DAYS + hour, at, timedelta(hours=1), DAY_EVENTS // 24)
        # The run before one that is measured counts all hours that no run has counted until then.
        if any({hour, hour + 1} & set(hours) for hours in MEASURED.values()):
            seconds[hour] = _run(folder, at + timedelta(hours=1, minutes=2))
    late = list[tuple[float, float]]()
    for number in range(3):
        for day in range(LATE_DAYS):
            at = DAY - timedelta(days=day + 1) + timedelta(hours=7 + number)
            write_batch(lake, 100 + LATE_DAYS * number + day, at, timedelta(hours=1), 1)
        late.append(_run(folder, DAY + timedelta(hours=24, minutes=10 + number)))
    shutil.rmtree(folder / "lake")
    rows = []
    for place, what in enumerate(("`headroom run`", "models alone")):
        last, first = (statistics.median(seconds[hour][place] for hour in MEASURED[key]) for key in (24, 2))
        mine = statistics.median(pair[place] for pair in late)
        rows.append(_row(f"hour 24 of a day of {DAY_EVENTS:,} events, {what}", last, first, "hour 2 of it"))
        rows.append(_row(f"one late event in each of {LATE_DAYS} past days, {what}", mine, last, "hour 24 of the day"))
    return rows


def _row(what: str, ours: float, theirs: float, against: str) -> Row:
    return Row(
        f"{what} (median of 3)", f"{ours:.2f} s", f"{theirs:.2f} s", f"{ours / theirs:.2f}", against, ours / theirs
    )


def _run(data: Path, now: datetime) -> tuple[float, float]:
    """Seconds of a whole run, and of its models."""
    done = run([BIN / "headroom", "run"], data, variables={"HEADROOM_NOW": now.isoformat()})
    [seconds] = _MODELS.findall(done.output)
    return done.seconds, float(seconds)
