"""`make soak`: a simulated month of two installations at once, one on SQLite and one on Postgres, and what happened.

Ends with status 1 where an invariant is broken. `SEED=7` is another month, `MINUTES=5` visits fewer of its hours, and
`DAYS=6` is its first days.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from orchestration.settings import PROJECT_ROOT
from tests.fakes import postgres
from tests.fakes.slack import FakeSlack
from tests.fakes.stripe import FakeStripe
from tests.soak.clock import Clock, NoClockError
from tests.soak.month import HOUR, RECOVERY, START, ZONE, Code, Month

STORAGES = ("sqlite", "postgres")
DAYS = 30
EVERY = 4
"""Of so many hours one is visited, and each morning."""
MINUTES = 19.0
DISK_BYTES = 3 * 2**30
SETTLED = timedelta(hours=3)
"""After the commit that made the layout which `machine.py` knows, the oldest version is taken. A second one is half as
old; each runs for two days.
"""


def planned(days: int) -> list[datetime]:
    """The moments that are visited: a minute after those at which schedules tick."""
    hours = [START + number * HOUR + timedelta(minutes=6) for number in range(1, days * 24)]
    return [at for at in hours if at.hour % EVERY == 0 or at.astimezone(ZoneInfo(ZONE)).hour == 8]


def versions(folder: Path) -> tuple[list[Code], str]:
    """What is installed in the course of the month, and why there is no older version where there is none."""
    found, since = [], START
    try:
        built = _git("log", "-1", "--format=%cI", "--diff-filter=A", "--", "orchestration/warehouse/dbt_worker.py")
        oldest = datetime.fromisoformat(built) + SETTLED
        newest = datetime.fromisoformat(_git("log", "-1", "--format=%cI"))
        for moment in (oldest, oldest + (newest - oldest) / 2):
            commit = _git("log", "-1", "--format=%H", f"--before={moment.isoformat()}")
            if commit and commit not in [each.name for each in found]:
                code = folder / commit[:8]
                code.mkdir(parents=True)
                archive = subprocess.run(
                    ["git", "archive", commit], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, check=True
                ).stdout
                subprocess.run(["tar", "x"], cwd=code, input=archive, check=True)
                found.append(Code(commit, code, since))
                since += timedelta(days=2)
        why = "" if found else "no commit is old enough"
    except (OSError, subprocess.CalledProcessError) as error:
        found, why = [], f"no history: {error}"
    return [*found, Code("now", PROJECT_ROOT, since if found else START)], why


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout.strip()


@contextmanager
def disk(folder: Path) -> Iterator[tuple[Callable[[int | None], object], str]]:
    """A disk of its own for the folder: what changes its size; or why there is none, where it cannot be made."""
    folder.mkdir()

    def resize(size: int | None) -> None:
        options = f"remount,size={size or DISK_BYTES}"
        subprocess.run(["mount", "-o", options, str(folder)], check=True, capture_output=True)

    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "tmpfs", str(folder)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        yield resize, f"a disk of its own needs the right to mount one: {said.strip()}"
        return
    try:
        yield resize, ""
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def go_through(storage: str, seed: int, minutes: float, days: int) -> tuple[Counter[str], list[str], list[str]]:
    """What happened in one month, what was left out, and what is wrong with it."""
    began, moments, left_out = time.monotonic(), planned(days), []
    with tempfile.TemporaryDirectory(prefix="headroom-soak-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres is another user
        clock = Clock(folder, START)
        installed, no_older = versions(folder / "code")
        with (
            disk(folder / "data") as (resize, no_disk),
            FakeSlack() as slack,
            FakeStripe() as stripe,
            server(storage, clock) as database,
        ):
            month = Month(seed, folder, slack, stripe, installed, database, clock)
            left_out += [f"{storage}: no upgrade: {no_older}"] * bool(no_older)
            left_out += [f"{storage}: the disk was never full: {no_disk}"] * bool(no_disk)
            if not no_disk:
                month.resize = resize
                later = [at for at in moments if at > installed[-1].since]
                month.full_disks = frozenset(month.chance("disk", START).sample(later, min(2, len(later))))
            try:
                for number, at in enumerate(moments):
                    is_late = (time.monotonic() - began) / 60 > minutes * (number + 5) / (len(moments) + 10)
                    has_to_be = at in month.full_disks or at.astimezone(ZoneInfo(ZONE)).hour == 8
                    if is_late and not has_to_be:
                        month.tally["hours: left out, for want of minutes"] += 1
                    else:
                        month.visit(at)
                month.recover(moments[-1], RECOVERY)
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
    month.tally["minutes"] = round((time.monotonic() - began) / 60)
    return month.tally, left_out, wrong


@contextmanager
def server(storage: str, clock: Clock) -> Iterator[postgres.Postgres | None]:
    if storage == "sqlite":
        yield None
    else:
        with postgres.running(clock.variables) as running:
            yield running


def attempt(storage: str, seed: int, minutes: float, days: int) -> tuple[Counter[str], list[str], list[str]]:
    """The same, where it can be done here."""
    try:
        return go_through(storage, seed, minutes, days)
    except NoClockError as error:
        return Counter(), [f"{storage}: {error}"], []
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        return Counter(), [f"{storage}: nothing was tried: {error}"], []


def main(seed: int, minutes: float, days: int) -> int:
    """Print what happened; 1 where an invariant is broken."""
    with ProcessPoolExecutor(len(STORAGES)) as pool:
        months = list(pool.map(attempt, STORAGES, [seed] * 2, [minutes] * 2, [days] * 2))
    tallies = [tally for tally, _, _ in months]
    lines = [f"A month of two installations, SEED={seed}", "", f"{'':<62}{''.join(f'{each:>10}' for each in STORAGES)}"]
    names = sorted(set().union(*tallies))
    lines += [f"{name:<62}{''.join(f'{tally[name]:>10,}' for tally in tallies)}" for name in names]
    left_out = [each for _, each_left, _ in months for each in each_left]
    wrong = [each for _, _, each_wrong in months for each in each_wrong]
    lines += ["", *(f"LEFT OUT: {each}" for each in left_out), *(f"BROKEN: {each}" for each in wrong)]
    lines += (
        [] if wrong or not any(tallies) else ["I1 counts, I2 Stripe, I3 messages hold, and nothing waits for a hand."]
    )
    sys.stdout.write("\n".join([*lines, ""]))
    return 1 if wrong else 0


if __name__ == "__main__":
    asked = {name: os.environ.get(name, "") for name in ("SEED", "MINUTES", "DAYS")}
    sys.exit(main(int(asked["SEED"] or 1), float(asked["MINUTES"] or MINUTES), int(asked["DAYS"] or DAYS)))
