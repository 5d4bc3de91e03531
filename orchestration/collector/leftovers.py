"""Segments whose process was killed before it sealed them, with events in them that were acknowledged.

A process locks its open segment, and the lock dies with it: an open segment that can be locked is a leftover. Every
collector of the folder seals leftovers, when it starts and every so often while it serves (`spool.py`). `headroom
doctor` names those that wait for one.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from orchestration.usage.findings import Finding

FOLDER = "collector"
"""In the landing folder: where collectors put their segments."""
OPEN_SUFFIX = ".part"
SUFFIX = ".ndjson"
PROBE = ".probe-"
_TAIL_BYTES = 2**16

logger = logging.getLogger("headroom.collector")
_reported: set[str] = set()
"""Leftovers that cannot be sealed. Each is said once, not every few seconds."""


def recover(folder: Path) -> int:
    """Seal the segments of processes that were killed, up to their last complete line; how many there were.

    The segment of a living process is locked. All complete lines count: an unacknowledged one may be among them. One
    that cannot be sealed stops no other.

    :raises OSError: the folder cannot be read.
    """
    count = 0
    for name in _open_names(folder):
        path = folder / name
        try:
            if name.startswith(PROBE):
                path.unlink(missing_ok=True)
            elif name.endswith(SUFFIX + OPEN_SUFFIX):
                count += _recover(folder, path)
        except OSError as error:
            if name not in _reported:
                logger.error("cannot seal %s, which a killed process left: %s", path, error.strerror)
                _reported.add(name)
    return count


def waiting(folder: Path) -> list[Path]:
    """The leftovers that no collector has sealed yet. Looks only: it changes nothing.

    :raises OSError: the folder or one of them cannot be read.
    """
    paths = [folder / name for name in _open_names(folder) if name.endswith(SUFFIX + OPEN_SUFFIX)]
    return [path for path in paths if not path.name.startswith(PROBE) and _is_left(path)]


def examine(landing: Path) -> Iterator[Finding]:
    """For `headroom doctor`: whether one waits in the landing folder."""
    folder = landing / FOLDER
    if not folder.is_dir():
        return
    try:
        paths = waiting(folder)
    except OSError as error:
        yield Finding(
            "collector", f"{error.filename or folder} cannot be read ({error.strerror}): give this user access"
        )
        return
    if not paths:
        yield Finding("collector: no file of a killed collector waits")
        return
    yield Finding(
        f"collector: {len(paths):,} file{'s' if len(paths) > 1 else ''} of a killed collector",
        "the events inside were acknowledged and do not count yet. A collector that runs on this folder seals the file"
        f" within seconds: start `headroom collect` where none runs. The first is {paths[0]}",
    )


def _open_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:  # beside days of sealed ones: no pattern, and no look at each
        return sorted(entry.name for entry in entries if entry.name.endswith(OPEN_SUFFIX))


def _is_left(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False  # sealed a moment ago
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return path.exists() and os.fstat(descriptor).st_size > 0
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _recover(folder: Path, path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False  # somebody else has just sealed it
    try:
        if not lock(descriptor, path):
            return False
        size = _complete_bytes(descriptor)
        if not size:
            path.unlink()
            return False
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
        path.rename(path.with_suffix(""))
        sync_folder(folder)
        logger.info("sealed %s, which a killed process had left", path.with_suffix("").name)
        return True
    finally:
        os.close(descriptor)


def lock(descriptor: int, path: Path) -> bool:
    """Lock the file, unless another process has, or has sealed or removed it (names are never used again)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return path.exists()


def sync_folder(folder: Path) -> None:
    """Make names in the folder durable: syncing a file does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _complete_bytes(descriptor: int) -> int:
    """The size up to and with the last line break."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
