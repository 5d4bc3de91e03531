"""How benchmarks measure: whole processes, ours and the baseline's in turn, on events made for the purpose."""

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import duckdb

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    ours: str
    baseline: str
    ratio: str
    against: str
    time_ratio: float | None = None
    """Its time as a multiple of the baseline's, which recorded.py compares. None: there is no baseline."""

    @property
    def name(self) -> str:
        """The same in every run: what varies is in the other columns."""
        return f"{self.what} / {self.against}"


@dataclass(frozen=True)
class Run:
    """One whole process."""

    seconds: float
    peak_bytes: int
    """The largest that it or a process below it was."""
    cpu_seconds: float
    """Of it and of the processes below it that have ended."""
    output: str


def row(what: str, ours: Sequence[float], baseline: Sequence[float], against: str) -> Row:
    """Medians, and the median of the ratios of neighbours."""
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, baseline, strict=True))
    mine, theirs = (f"{statistics.median(seconds):.2f} s" for seconds in (ours, baseline))
    return Row(what, mine, theirs, f"{ratio:.2f}", against, ratio)


def rows_of_runs(what: str, ours: Sequence[Run], baseline: Sequence[Run], against: str) -> list[Row]:
    """Two rows: seconds by the clock, and seconds of processor time."""
    return [
        row(what, [run.seconds for run in ours], [run.seconds for run in baseline], against),
        row(f"{what}, CPU", [run.cpu_seconds for run in ours], [run.cpu_seconds for run in baseline], against),
    ]


def run(
    command: Sequence[str | Path],
    data: Path | None = None,
    cwd: Path = ROOT,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Run:
    """Start a process, wait for its end.

    :raises SystemExit: it failed; what it printed is in the message.
    """
    environment = clean_environment(data) | variables
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{[str(part) for part in command]} failed:\n{output}")
    return Run(seconds, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime, output)


def clean_environment(data: Path | None = None) -> dict[str, str]:
    """This process's, without the developer's settings; of that data folder."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADROOM_", "SLACK_", "STRIPE_"))
    }
    return kept | ({"HEADROOM_DATA": str(data), "DAGSTER_HOME": str(data / "dagster")} if data else {})


def side_by_side(commands: Sequence[Sequence[str | Path]], data: Path) -> Run:
    """Processes that are started at the same time, as one: until the last has ended, with the time of all."""
    started = time.perf_counter()
    with ThreadPoolExecutor(len(commands)) as pool:
        runs = list(pool.map(lambda command: run(command, data), commands))
    seconds, peak = time.perf_counter() - started, max(done.peak_bytes for done in runs)
    return Run(seconds, peak, sum(done.cpu_seconds for done in runs), "")


def timed(command: Sequence[str | Path], data: Path, variables: Mapping[str, str] = MappingProxyType({})) -> float:
    return run(command, data, variables=variables).seconds


def python(module: str, *arguments: object) -> Run:
    """A module of the benchmarks as a process of its own."""
    return run([sys.executable, "-m", module, *map(str, arguments)])


def peak_of_this_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_events(path: Path, count: int, seed: int, until: datetime | None = None) -> None:
    """NDJSON of some 260 bytes a line: 5,000 accounts of very different size, calls of the hour before `until` (now)
    and 2 % that are up to three days late, 1 % sent twice, 0.1 % cut off. Complete before it gets its name.
    """
    until = until or datetime.now(UTC)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with duckdb.connect() as connection:
        connection.execute(f"""
            copy (
                with event as (
                    select i, case when i % 100 = 0 and i > 1000 then i - 777 else i end as n
                    from range({count}) as t (i)
                ),
                drawn as (
                    select
                        i, md5(n || '-{seed}') as id, hash(n, {seed}, 1) / 18446744073709551616.0 as u,
                        hash(n, {seed}, 2) % 3600 as late, hash(n, {seed}, 3) % 50 as is_late,
                        hash(n, {seed}, 4) % 1000 as ms
                    from event
                ),
                line as (
                    select
                        i, 'account-' || cast(floor(pow(5000, u)) as integer) as account,
                        strftime(
                            timestamp '{until:%Y-%m-%d %H:%M:%S}'
                                - to_seconds(late * case when is_late = 0 then 72 else 1 end),
                            '%Y-%m-%dT%H:%M:%S'
                        ) || '.' || lpad(ms::varchar, 3, '0') || 'Z' as called_at,
                        id[:8] || '-' || id[9:12] || '-4' || id[14:16] || '-8' || id[18:20] || '-' || id[21:] as uuid,
                        ms
                    from drawn
                ),
                text as (
                    select i, '{{"event":"api_call","uuid":"' || uuid || '","distinct_id":"' || account
                        || '","timestamp":"' || called_at || '","properties":{{"account_id":"' || account
                        || '","endpoint":"/v1/search","method":"GET","status":200,"region":"eu-west-1","duration_ms":'
                        || ms || '}}}}' as line
                    from line
                )
                select case when i % 1000 = 500 then line[:80] else line end from text
            ) to '{part}' (format csv, header false, quote '', escape '', delimiter '\x01')
        """).fetchall()
    part.rename(path)
