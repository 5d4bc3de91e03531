"""`make soak`: a simulated month of two installations at once, one on SQLite and one on Postgres, and what happened.

Prints a line for each day, and ends with status 1 where an invariant is broken. `SEED=7` is another month, `MINUTES=5`
visits fewer of its hours, and `DAYS=6` is its first days.
"""

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any
from zoneinfo import ZoneInfo

from tests.fakes import postgres
from tests.fakes.slack import FakeSlack
from tests.fakes.stripe import FakeStripe
from tests.soak.clock import Clock, NoClockError
from tests.soak.disk import disk
from tests.soak.month import HOUR, RECOVERY, START, ZONE, Month
from tests.soak.versions import versions

STORAGES = ("sqlite", "postgres")
DAYS = 30
MINUTES = 19.0
PATIENCE_MINUTES = 0.5
"""How late a month may be before it leaves out a morning, too."""

Result = tuple[Counter[str], list[str], list[str]]
"""What happened in one month, what was left out, and what is wrong with it."""


def planned(seed: int, days: int) -> list[datetime]:
    """The moments that are visited, a minute after schedules tick: each morning, and another hour of each day."""
    found = set()
    for number in range(days):
        day = START + timedelta(days=number)
        hours = [day + hour * HOUR for hour in range(1 if number == 0 else 0, 24)]
        found |= {next(filter(is_morning, hours)), random.Random(f"{seed} hour {day.isoformat()}").choice(hours)}
    return [hour + timedelta(minutes=6) for hour in sorted(found)]


def is_morning(at: datetime) -> bool:
    return at.astimezone(ZoneInfo(ZONE)).hour == 8


class Table:
    """A line for each day, of what happened in it."""

    HEADER = f"{'day':<8}{'storage':<10}{'minute':>6}{'visits':>8}{'events':>8}{'runs':>6}{'kills':>7}{'messages':>10}"

    def __init__(self, storage: str, month: Month) -> None:
        self._storage, self._month, self._began = storage, month, time.monotonic()
        self._before, self._figures_before = Counter[str](), [0] * 5

    @property
    def minutes(self) -> float:
        """Since it began."""
        return (time.monotonic() - self._began) / 60

    def add(self, day: str) -> None:
        tally, month = self._month.tally, self._month
        since = tally - self._before
        messages = sum(month.slack.counts().values())
        killed = sum(tally[name] for name in tally if name.startswith("killed: "))
        figures = [tally["hours: visited"], len(month.sent), month.runs, killed, messages]
        news = [now - then for now, then in zip(figures, self._figures_before, strict=True)]
        told = [name.partition(": ")[2] for name in sorted(since) if name.startswith("happened: ")]
        told = [name for name in told if name != "an event was sent twice"]
        told += ["left out, for want of minutes"] * (not news[0])
        columns = "".join(f"{figure:>{width}}" for figure, width in zip(news, (8, 8, 6, 7, 10), strict=True))
        say(f"{day:<8}{self._storage:<10}{self.minutes:>6.1f}{columns}   {', '.join(told)}".rstrip())
        self._before, self._figures_before = tally.copy(), figures


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def go_through(storage: str, seed: int, minutes: float, days: int) -> Result:
    """One month from its first hour to its end."""
    moments, left_out = planned(seed, days), []
    with tempfile.TemporaryDirectory(prefix="headroom-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres is another user
        clock = Clock(folder, START)
        installed, no_older = versions(folder / "code", START)
        with (
            disk(folder / "data") as (resize, no_disk),
            FakeSlack() as slack,
            FakeStripe() as stripe,
            server(storage, clock) as database,
        ):
            month = Month(seed, folder, slack, stripe, installed, database, clock)
            table = Table(storage, month)
            left_out += [f"{storage}: no upgrade: {no_older}"] * bool(no_older)
            left_out += [f"{storage}: the disk was never full: {no_disk}"] * bool(no_disk)
            if not no_disk:
                month.resize = resize
                later = [at for at in moments if at > installed[-1].since]
                month.full_disks = frozenset(month.chance("disk", START).sample(later, min(2, len(later))))
            try:
                month.begin(START)
                for number, at in enumerate(moments):
                    each = table.minutes / (month.tally["hours: visited"] + 1)
                    late = table.minutes - (minutes - len(RECOVERY) * each) * (number + 1) / len(moments)
                    has_to_be = at in month.full_disks or month.is_upgraded(at)
                    if late > PATIENCE_MINUTES * is_morning(at) and not has_to_be:
                        month.tally["hours: left out, for want of minutes"] += 1
                    elif at > month.visited:  # else a later visit of that day took its place
                        month.visit(at)
                    if number + 1 == len(moments) or moments[number + 1].date() != at.date():
                        table.add(f"{at:%d %b}")
                month.recover(max(moments[-1], month.visited), RECOVERY)
                table.add("the end")
                wrong = [f"{storage}: {each}" for each in month.wrong()]
            except Exception as error:  # noqa: BLE001 - what happened until then is printed as well
                wrong = [f"{storage}: it ended with {type(error).__name__}: {error}"]
            finally:
                month.end()
        if wrong:
            kept = Path(tempfile.mkdtemp(prefix=f"headroom-soak-{storage}-logs-"))
            for log in folder.glob("machine-*/*.log"):
                (kept / f"{log.parent.name}-{log.name}").write_bytes(log.read_bytes())
            wrong.append(f"{storage}: what its processes said is in {kept}")
    month.tally["minutes"] = round(table.minutes)
    return month.tally, left_out, wrong


@contextmanager
def server(storage: str, clock: Clock) -> Iterator[postgres.Postgres | None]:
    if storage == "sqlite":
        yield None
    else:
        with postgres.running(clock.variables) as running:
            yield running


def attempt(storage: str, seed: int, minutes: float, days: int) -> Result:
    """The same, where it can be done here."""
    try:
        return go_through(storage, seed, minutes, days)
    except NoClockError as error:
        return Counter(), [f"{storage}: {error}"], []
    except (FileNotFoundError, CalledProcessError) as error:
        return Counter(), [f"{storage}: nothing was tried: {error}"], []


def work(answers: Any, storage: str, *arguments: Any) -> None:
    """What the process of a month does; SIGTERM ends it as an error would, with all that it started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the starter, which ends this one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    answers.send(attempt(storage, *arguments))


def months(seed: int, minutes: float, days: int) -> list[Result]:
    """Both at once, each in a process."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = []
    for storage in STORAGES:
        here, there = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=work, args=(there, storage, seed, minutes, days))
        process.start()
        there.close()
        started.append((storage, process, here))
    try:
        found = []
        for storage, process, here in started:
            try:
                found.append(here.recv())
            except EOFError:
                process.join()
                found.append((Counter(), [], [f"{storage}: its process ended with {process.exitcode}"]))
        return found
    finally:
        for _, process, _ in started:
            process.terminate()
        for _, process, _ in started:
            process.join()


def main(seed: int, minutes: float, days: int) -> int:
    """Print what happens, and what happened; 1 where an invariant is broken."""
    say(f"A month of two installations, SEED={seed}\n\n{Table.HEADER}   what happened")
    try:
        results = months(seed, minutes, days)
    except KeyboardInterrupt:
        say("Stopped before its end.")
        return 130
    tallies = [tally for tally, _, _ in results]
    lines = ["", f"{'':<62}{''.join(f'{each:>10}' for each in STORAGES)}"]
    names = sorted(set().union(*tallies))
    lines += [f"{name:<62}{''.join(f'{tally[name]:>10,}' for tally in tallies)}" for name in names]
    left_out = [each for _, each_left, _ in results for each in each_left]
    wrong = [each for _, _, each_wrong in results for each in each_wrong]
    lines += ["", *(f"LEFT OUT: {each}" for each in left_out), *(f"BROKEN: {each}" for each in wrong)]
    if not wrong and any(tallies):
        lines.append("I1 counts, I2 Stripe, I3 messages hold, and nothing waits for a hand.")
    say("\n".join(lines))
    return 1 if wrong else 0


if __name__ == "__main__":
    asked = {name: os.environ.get(name, "") for name in ("SEED", "MINUTES", "DAYS")}
    sys.exit(main(int(asked["SEED"] or 1), float(asked["MINUTES"] or MINUTES), int(asked["DAYS"] or DAYS)))
