"""Usage reports to a loopback Stripe in a process of its own: the plan, the sending, and what both keep in memory.

The baseline is the bare SDK that sends the same requests from as many threads, with no ledger. Stripe is the same
Python for both, so requests/s say more of it than of either: compare the ratios.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.measure import ROOT, Row, python

ACCOUNTS, BILLED, FEW, PACED = 100_000, 20_000, 2_000, 3_000
PER_SECOND = 100
LEDGER_ROWS = 2_000_000
WORKER, SERVER = "tests.bench.stripe_run", "tests.bench.stripe_server"
Figures = dict[str, float]


def bench(folder: Path) -> list[Row]:
    return [*bench_reports(folder), *bench_pace(folder), *bench_history(folder)]


def bench_reports(folder: Path) -> list[Row]:
    """One closed hour of all accounts, the same again, and again with 1 % of it corrected."""
    few = measured(folder / "few", FEW)[0]
    first, again, corrected, bare, bare_corrected = measured(folder / "all", BILLED)
    what = f"{BILLED:,} customers of {ACCOUNTS:,} accounts, one hour"
    return [
        against(f"{what}: whole", first["plan"] + first["send"], bare["send"], "the bare SDK, 8 threads"),
        against(f"{what}: send", first["send"], bare["send"], "the bare SDK, 8 threads"),
        against(f"{what}: plan and commit", first["plan"], bare["send"], "the bare SDK's sending"),
        Row(what, rate(BILLED, first["send"]), rate(BILLED, bare["send"]), "", "the same, requests/s"),
        Row(what, megabytes(first), megabytes(few), "", f"peak memory; the same of {FEW:,} customers"),
        against("nothing new: whole", again["plan"] + again["send"], bare["send"], "the bare SDK sends all again"),
        against(
            "1 % corrected: whole", corrected["plan"] + corrected["send"], bare_corrected["send"], "the bare SDK, those"
        ),
    ]


def bench_pace(folder: Path) -> list[Row]:
    first = measured(folder / "paced", PACED, PER_SECOND)[0]
    what = f"{PACED:,} reports at {PER_SECOND} requests/s"
    return [against(what, first["send"], PACED / PER_SECOND, "what the limit allows")]


def bench_history(folder: Path) -> list[Row]:
    """Days and a month of an hour each, already reported; then nothing changed, and one day did."""
    home = folder / "history"
    home.mkdir()
    report = python(WORKER, "history", home, LEDGER_ROWS, home / "figures.json")
    figures: Figures = json.loads((home / "figures.json").read_text())
    what = f"plan over a ledger of {LEDGER_ROWS:,} rows"
    return [
        Row(f"{what}, nothing changed", f"{figures['nothing']:.2f} s", "", "", f"peak {report.peak_bytes >> 20} MB"),
        Row(f"{what}, one day changed", f"{figures['one day']:.2f} s", "", "", "the same process"),
        Row(f"{what}, one hour without an answer", f"{figures['in doubt']:.2f} s", "", "", "the same process"),
    ]


def measured(home: Path, billed: int, per_second: float = 1e9) -> list[Figures]:
    """The first run, one with nothing new, one with corrections; then the bare SDK with the requests of the first and
    of the last. Where there is a limit, only the first.
    """
    home.mkdir()
    with stripe(billed) as url:
        steps = ["first"] if per_second == PER_SECOND else ["first", "again", "corrected"]
        found = [run(home, url, step, billed, per_second) for step in steps]
    if len(steps) > 1:
        with stripe(billed) as url:
            found += [run(home, url, "bare", count, per_second) for count in (billed, billed // 100)]
    return found


def run(home: Path, url: str, step: str, billed: int, per_second: float) -> Figures:
    figures = home / "figures.json"
    peak = python(WORKER, step, home, url, ACCOUNTS, billed, per_second, figures).peak_bytes
    return {**json.loads(figures.read_text()), "peak": peak}


@contextmanager
def stripe(customers: int) -> Iterator[str]:
    command = [sys.executable, "-m", SERVER, str(customers)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        yield server.stdout.readline().strip()
        server.communicate("")


def against(what: str, ours: float, baseline: float, name: str) -> Row:
    return Row(what, f"{ours:.2f} s", f"{baseline:.2f} s", f"{ours / baseline:.2f}", name, ours / baseline)


def rate(count: int, seconds: float) -> str:
    return f"{count / seconds:,.0f} /s"


def megabytes(figures: Figures) -> str:
    return f"{int(figures['peak']) >> 20} MB"
