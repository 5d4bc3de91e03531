"""Whether an hour costs the same however long the history is: one day of a million events, ten days, a hundred."""

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from orchestration.lake import id_hash
from orchestration.lake.batch import CALL_COLUMNS
from orchestration.lake.lake import Lake
from orchestration.lake.manifests import Batch
from tests.bench import ingest
from tests.bench.measure import BIN, Row, python, timed, write_events

DAY_EVENTS = 1_000_000
SHORT_DAYS, LONG_DAYS = 10, 100
DAYS = (1, SHORT_DAYS, LONG_DAYS)
HOUR_EVENTS = 93_500
LARGE_HOUR_EVENTS = 1_000_000
ROUNDS = 3


def bench(folder: Path) -> list[Row]:
    jobs, idle = dict[int, list[float]](), dict[int, list[float]]()
    ingests: dict[int, dict[int, list[float]]] = {HOUR_EVENTS: {}, LARGE_HOUR_EVENTS: {}}
    for days in DAYS:
        data = folder / f"history-{days}"
        make_history(data / "lake", days)
        timed([BIN / "headroom", "run"], data)
        jobs[days], idle[days] = [], []
        for number in range(ROUNDS):
            idle[days].append(timed([BIN / "headroom", "run"], data))
            write_events(data / "landing" / f"hour-{number}.ndjson", HOUR_EVENTS, seed=days + number)
            jobs[days].append(timed([BIN / "headroom", "run"], data))
        for events, seconds in ingests.items():
            seconds[days] = []
            for number in range(ROUNDS):
                landing = folder / f"hour-{days}-{events}-{number}"
                write_events(landing / "hour.ndjson", events, seed=events + days + number)
                python(ingest.__name__, "lake", landing, data / "lake")
                seconds[days].append(ingest.seconds_of(data / "lake"))
                shutil.rmtree(landing)
        shutil.rmtree(data)
    run = f"`headroom run`, {HOUR_EVENTS:,} new events"
    figures_of = {f"ingest of {events:,} events": seconds for events, seconds in ingests.items()} | {run: jobs}
    return [
        *(
            _row(
                f"{what}, on {days * DAY_EVENTS:,}",
                figures[days],
                figures[short],
                f"the same on {short * DAY_EVENTS:,}",
            )
            for what, figures in figures_of.items()
            for short, days in ((DAYS[0], LONG_DAYS), (SHORT_DAYS, LONG_DAYS))
        ),
        *(_row(f"{run}, on {days * DAY_EVENTS:,}", jobs[days], idle[days], "nothing new on the same") for days in DAYS),
    ]


def _row(what: str, ours: Sequence[float], theirs: Sequence[float], against: str) -> Row:
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Row(
        f"{what} (median of {ROUNDS})", f"{mine:.2f} s", f"{other:.2f} s", f"{mine / other:.2f}", against, mine / other
    )


def make_history(lake: Path, days: int) -> None:
    """A lake of `days` days up to now, one batch a day, as ingest would have left it."""
    today = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for number in range(1, days + 1):
        day = (today - timedelta(days=days - number + 1)).replace(hour=0)
        write_batch(lake, number, day, timedelta(days=1), DAY_EVENTS)


def write_batch(lake: Path, number: int, start: datetime, length: timedelta, events: int) -> None:
    """Commit a batch of calls at random moments of that time, which is within a UTC day, ingested at its end."""
    folder = lake / "batches" / f"{number:06d}"
    values = {
        "source": "''",
        "event_id": "cast(uuid() as varchar)",
        "event_name": "'api_call'",
        "account_id": "'account-' || cast(floor(pow(5000, random())) as integer)",
        "event_at": f"timestamptz '{start.isoformat()}'"
        f" + to_milliseconds(cast(random() * {length // timedelta(milliseconds=1) - 1} as bigint))",
        "ingested_at": f"timestamptz '{(start + length).isoformat()}'",
        "sample_weight": "1",
        "endpoint": "'/v1/search'",
        "status": "200",
        "properties": '\'{"method":"GET","region":"eu-west-1"}\'',
        "landed_file": "'history.ndjson'",
        "line_number": "i",
        "batch": str(number),
    }
    selected = ", ".join(f"cast({values[name]} as {kind}) as {name}" for name, kind in CALL_COLUMNS.items())
    with Lake(lake).writing(), duckdb.connect() as connection:
        day = folder / "calls" / f"event_date={start:%Y-%m-%d}"
        day.mkdir(parents=True)
        connection.execute("set TimeZone = 'UTC'").fetchall()
        connection.execute(
            f"copy (select *, {id_hash.HASH} as {id_hash.column()}"
            f" from (select {selected} from range({events}) as t (i)) order by event_at) to '{day}/calls.parquet'"
            " (format parquet, compression zstd, compression_level 1)"
        ).fetchall()
        batch = Batch(number, (start + length).isoformat(), lines=events, accepted=events)
        (folder / "manifest.json").write_text(json.dumps(asdict(batch)))
