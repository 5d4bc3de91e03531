"""Landed files that nobody needs any more, removed some days after they were read, where somebody asks for it.

A file goes when the lake holds all of it: its batch is there and says so, none of its lines is in quarantine with fewer
bytes than it has, and it lies there as it was read. It stays while a program has it open for writing, and where it is a
link, a copy that did not count, or damaged. A bucket's objects stay: that store has rules of its own for their age.
"""

import errno
import fcntl
import os
import signal
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from orchestration.lake.endings import DONE
from orchestration.lake.lake import Lake
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import SourceFile

AT_ONCE = 50_000
"""Files that one run removes at most: after years of landing, the next runs remove the others."""
IN_USE = "a program has it open for writing"
NOT_IN_LAKE = "its batch is not in the lake as the ledger has it"
NOT_WHOLE = "some of its lines are in quarantine without all of their bytes"
CHANGED = "it changed since it was read"


@dataclass
class Removed:
    """What one run removed, and what it left although it is old enough."""

    files: int = 0
    stored_bytes: int = 0
    left: Counter[str] = field(default_factory=Counter)
    """Files by reason."""
    example: dict[str, str] = field(default_factory=dict)
    """A path for each reason."""

    def leave(self, path: str, reason: str) -> None:
        self.left[reason] += 1
        self.example.setdefault(reason, path)

    @property
    def sentences(self) -> list[str]:
        return [
            f"{count:,} landed {'file that was read stays' if count == 1 else 'files that were read stay'}: {reason},"
            f" such as {self.example[reason]}"
            for reason, count in self.left.items()
        ]


def kept_since(now: datetime, keep_days: int) -> datetime:
    """The moment from which on a file is too young to go: the beginning of a UTC day.

    So files go once a day, and not a few with each run: what goes looks like news to the sensor of the landing folder.
    """
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=keep_days)


def remove(
    root: Path,
    lake: Lake,
    read: Iterable[tuple[LandedFile, int]],
    found: Iterable[SourceFile],
    before: datetime,
) -> Removed:
    """Remove those of `read`, files of the folder `root` with the batch that read them, that are old enough.

    `found` is the scan of this run. Old is what was written, and read, before that. Call inside `Lake.writing()`.
    """
    removed, there = Removed(), {file.path: file for file in found}
    candidates = _old(read, there, lake, before, removed)
    old = list(islice(candidates, AT_ONCE))
    partly = lake.held_in_part({file.origin for file in old}) if old else set()
    for file in old:
        if file.origin in partly:
            removed.leave(file.path, NOT_WHOLE)
            continue
        try:
            problem = _remove(root / file.path, file)
        except FileNotFoundError:
            continue
        except OSError as error:
            problem = f"it cannot be removed ({error.strerror})"
        if problem:
            removed.leave(file.path, problem)
        else:
            removed.files += 1
            removed.stored_bytes += file.stored_bytes
    _remove_empty_folders(root, before)
    return removed


def _old(
    read: Iterable[tuple[LandedFile, int]],
    there: Mapping[str, SourceFile],
    lake: Lake,
    before: datetime,
    removed: Removed,
) -> Iterator[LandedFile]:
    batches: dict[int, Mapping[str, LandedFile] | None] = {}
    before_ns = int(before.timestamp()) * 10**9
    for file, number in read:
        lies_there = there.get(file.path)
        if lies_there is None or "://" in file.path or lies_there.is_link or file.mtime_ns >= before_ns:
            continue
        if file.copy_of or file.damage or not file.is_complete or lies_there != file.found:
            continue
        if number not in batches:
            batch = lake.batch(number)
            is_young = batch is not None and datetime.fromisoformat(batch.ingested_at) >= before
            batches[number] = None if is_young else {each.path: each for each in batch.files} if batch else {}
        listed = batches[number]
        if listed is None:
            continue
        if listed.get(file.path) == file:
            yield file
        else:
            removed.leave(file.path, NOT_IN_LAKE)


def _remove(path: Path, file: LandedFile) -> str | None:
    """Remove the file if it is still the one that was read; else why not.

    :raises OSError: it is gone, or cannot be opened or removed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        stamp = (status.st_size, status.st_mtime_ns, status.st_ino % 2**63)
        if not stat.S_ISREG(status.st_mode) or stamp != (file.stored_bytes, file.mtime_ns, file.inode):
            return CHANGED
        if _is_written_to(descriptor):
            return IN_USE
        path.unlink()
    finally:
        os.close(descriptor)
    with suppress(OSError):  # its producer's mark that it is finished
        path.with_name(path.name + DONE).unlink()
    return None


def _is_written_to(descriptor: int) -> bool:
    """Whether a program of this machine has the file open for writing: then Linux gives nobody a lease on it.

    False where the system does not say, as over NFS.
    """
    if not hasattr(fcntl, "F_SETLEASE") or not hasattr(fcntl, "F_SETSIG"):
        return False
    try:
        # who opens the file in between has the lease broken by a signal, which would end the program but for this
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def _remove_empty_folders(root: Path, before: datetime) -> None:
    """Folders of days and hours that have been empty for as long; a new one may be about to get its file."""
    for folder, _, _ in os.walk(root, topdown=False):
        path = Path(folder)
        with suppress(OSError):  # most have something in them
            if path.parent != root and path != root and path.stat().st_mtime < before.timestamp():
                path.rmdir()
