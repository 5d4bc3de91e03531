"""The wall clock of a simulated month, for real programs: they are started with `variables`, and see the time set here.

Needs a C compiler, and a Linux with glibc. From where it was set the clock runs on, but slowly, so that a busy machine
does not come to the next hour while it works on this one.
"""

import mmap
import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

SLOWER = 20
SOURCE = Path(__file__).with_name("clock.c")


class NoClockError(RuntimeError):
    """The clock cannot be moved here. The message says what is missing."""


class Clock:
    """One clock, in a folder that everybody may read."""

    def __init__(self, folder: Path, now: datetime) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise NoClockError("no C compiler: the programs' clock is moved by a library that is compiled here")
        self._library, self._file = folder / "clock.so", folder / "clock"
        built = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", self._library, SOURCE, "-ldl"],
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            raise NoClockError(f"{compiler} cannot build {SOURCE.name}: {built.stderr}")
        self._file.write_bytes(bytes(4096))
        with self._file.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 4096)
        self.is_wrong_by = timedelta()
        """How far the programs' clock is ahead of the true one, which vendors and producers go by."""
        self._current = 0
        self.set(now)

    @property
    def variables(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "HEADROOM_SOAK_CLOCK": str(self._file)}

    def now(self) -> datetime:
        """The true time of the simulation."""
        return self._there + (datetime.now(UTC) - self._here) / SLOWER

    def timestamp(self) -> float:
        return self.now().timestamp()

    def set(self, now: datetime) -> None:
        self._here, self._there = datetime.now(UTC), now
        self._write()

    def wrong_by(self, error: timedelta) -> None:
        """From now on the programs' clock is wrong, or right again."""
        self.is_wrong_by = error
        self._write()

    def _write(self) -> None:
        self._current = 1 - self._current
        here, there = (_nanoseconds(at) for at in (self._here, self._there + self.is_wrong_by))
        struct.pack_into("qqq", self._page, 8 + 24 * self._current, here, there, SLOWER)
        struct.pack_into("q", self._page, 0, self._current)


def _nanoseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
