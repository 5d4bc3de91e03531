"""What a user would pick instead: dlt, ClickHouse in process, plain dbt, each doing what ours does.

Every contender is one process that loads the same NDJSON file, counts each event once by its uuid, keeps malformed
lines out, rolls up per account and UTC day, and prints the accounts with the most calls of the month. Its answer is
compared with what is in the file; the row of one that counts something else says so. Ours besides judges every line
by its rules, keeps the refused ones with their reasons and syncs what it wrote, which is asked of no other.

The other tools are installed into environments in the folder of the benchmark, by uv and from its cache.
"""

import json
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tests.bench import others_dbt, others_headroom
from tests.bench.measure import BIN, Row, Run, python, run, write_events
from tests.bench.others_answer import answer_file

EVENTS = 1_000_000
FEW_EVENTS, SOME_EVENTS = 10_000, 100_000
"""For what takes minutes: what an event costs between these two tells what all of them would."""
ROUNDS = 3


@dataclass(frozen=True)
class Answer:
    calls: int
    top: list[list[object]]
    versions: str


@dataclass(frozen=True)
class Landing:
    """A landing folder, and what is in it."""

    folder: Path
    good: int
    distinct: int


@dataclass(frozen=True)
class Contender:
    """Another tool: how it is run from a landing folder to a target."""

    name: str
    run: Callable[[Path, Path], Run]
    rounds: int = ROUNDS
    counts_once: bool = True
    is_scaled: bool = False


def bench(folder: Path) -> list[Row]:
    landings = {events: _landing(folder, events) for events in (FEW_EVENTS, SOME_EVENTS, EVENTS)}
    rows = []
    for name, requirements, contenders in (
        ("dlt", ("dlt[duckdb,parquet]>=1.31,<2", "pyarrow"), _dlt),
        ("ClickHouse", ("chdb>=4.4,<5",), _clickhouse),
    ):
        try:
            interpreter = _environment(folder / f"{name}-environment", *requirements)
        except SystemExit as failure:
            rows.append(_failed(name, failure))
        else:
            rows.extend(_compare(folder, contender, landings) for contender in contenders(interpreter))
    rows.append(_compare(folder, _dbt(folder / "dbt-project"), landings))
    return rows


def _dlt(interpreter: Path) -> list[Contender]:
    def way(how: str) -> Callable[[Path, Path], Run]:
        return lambda landing, target: run([interpreter, "-m", "tests.bench.others_dlt", how, landing, target])

    return [
        Contender("dlt merge, Arrow", way("arrow")),
        Contender("dlt merge, parquet loader format", way("parquet"), rounds=1),
        Contender("dlt merge, defaults", way("defaults"), rounds=1, is_scaled=True),
    ]


def _clickhouse(interpreter: Path) -> list[Contender]:
    def way(how: str) -> Callable[[Path, Path], Run]:
        return lambda landing, target: run([interpreter, "-m", "tests.bench.others_clickhouse", how, landing, target])

    return [
        Contender("ClickHouse in process, ReplacingMergeTree and FINAL", way("replacing")),
        Contender("ClickHouse in process, MergeTree, no de-duplication", way("plain"), counts_once=False),
    ]


def _dbt(project: Path) -> Contender:
    warehouse = project / "warehouse.duckdb"

    def build(landing: Path, target: Path) -> Run:
        """The project stays from one round to the next, so that dbt parses it once."""
        others_dbt.write_project(project, landing, warehouse)
        warehouse.unlink(missing_ok=True)
        measured = run(others_dbt.build(project))
        others_dbt.tell_built(warehouse, target)
        return measured

    return Contender("plain `dbt build` over the raw JSON", build)


def _compare(folder: Path, contender: Contender, landings: dict[int, Landing]) -> Row:
    landing = landings[EVENTS]
    ours, theirs = [], []
    for _ in range(contender.rounds):
        ours.append(_ours(folder, landing))
        try:
            measured, answer = _theirs(folder, contender, landings)
        except SystemExit as failure:
            return _failed(contender.name, failure)
        theirs.append(measured)
    pairs = [(mine.seconds, other.seconds) for mine, other in zip(ours, theirs, strict=True)]
    ratio = statistics.median(mine / other for mine, other in pairs)
    counted = _counted(folder, contender, landings[SOME_EVENTS] if contender.is_scaled else landing, answer)
    peak = f"peak {_megabytes(theirs)}"
    if contender.is_scaled:
        peak += f" at {SOME_EVENTS:,} events; seconds scaled from {FEW_EVENTS:,} and {SOME_EVENTS:,}"
    rounds = f"median of {contender.rounds}" if contender.rounds > 1 else "once"
    return Row(
        f"{EVENTS:,} events to calls per account and day ({rounds})",
        f"{statistics.median(mine for mine, _ in pairs):.2f} s, peak {_megabytes(ours)}",
        f"{statistics.median(other for _, other in pairs):.2f} s, {peak}; {counted} ({answer.versions})",
        f"{ratio:.2f}" if ratio > 0.1 else f"{ratio:.2g}",
        contender.name,
        ratio,
    )


def _theirs(folder: Path, contender: Contender, landings: dict[int, Landing]) -> tuple[Run, Answer]:
    if not contender.is_scaled:
        return _one(folder, contender, landings[EVENTS])
    few, _ = _one(folder, contender, landings[FEW_EVENTS])
    some, answer = _one(folder, contender, landings[SOME_EVENTS])
    each = (some.seconds - few.seconds) / (SOME_EVENTS - FEW_EVENTS)
    return Run(some.seconds + each * (EVENTS - SOME_EVENTS), some.peak_bytes, some.output), answer


def _counted(folder: Path, contender: Contender, landing: Landing, answer: Answer) -> str:
    expected = landing.distinct if contender.counts_once else landing.good
    if lost := expected - answer.calls:
        what = f"{lost:,} good events lost" if lost > 0 else f"{-lost:,} counted twice"
        return f"{answer.calls:,} calls of {expected:,}: {what}"
    if not contender.counts_once:
        return f"{answer.calls:,} calls, duplicates among them"
    _, mine = _one(folder, OURS, landing)
    return (
        f"same {answer.calls:,} calls" if answer.top == mine.top else f"{answer.calls:,} calls, but of other accounts"
    )


def _ours(folder: Path, landing: Landing) -> Run:
    measured, answer = _one(folder, OURS, landing)
    if answer.calls != landing.distinct:
        raise AssertionError(f"ours counts {answer.calls:,} calls of {landing.distinct:,}")
    return measured


def _one(folder: Path, contender: Contender, landing: Landing) -> tuple[Run, Answer]:
    target = folder / "target"
    shutil.rmtree(target, ignore_errors=True)
    measured = contender.run(landing.folder, target)
    answer = Answer(**json.loads(answer_file(target).read_text()))
    answer_file(target).unlink()
    return measured, answer


def _landing(folder: Path, events: int) -> Landing:
    landing = folder / f"landing-{events}"
    write_events(landing / "bulk.ndjson", events, seed=1)
    with duckdb.connect() as connection:
        [[good, distinct]] = connection.execute(f"""
            select count(uuid), count(distinct uuid) from read_json(
                '{landing}/*.ndjson', format = 'newline_delimited', ignore_errors = true, columns = {{uuid: 'VARCHAR'}})
        """).fetchall()
    return Landing(landing, good, distinct)


def _environment(place: Path, *requirements: str) -> Path:
    """A Python of its own with these packages.

    :raises SystemExit: they cannot be had.
    """
    interpreter = place / "bin" / "python"
    run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, place])
    run([BIN / "uv", "pip", "install", "--quiet", "--python", interpreter, *requirements])
    run([interpreter, "-m", "compileall", "-q", place / "lib"])
    return interpreter


def _failed(name: str, failure: SystemExit) -> Row:
    *_, last = str(failure).strip().splitlines()
    return Row(f"{EVENTS:,} events", "", "not measured", "", f"{name}: {last[:300]}")


def _megabytes(runs: list[Run]) -> str:
    return f"{max(each.peak_bytes for each in runs) // 2**20:,} MB"


OURS = Contender("ours", lambda landing, target: python(others_headroom.__name__, landing, target))
