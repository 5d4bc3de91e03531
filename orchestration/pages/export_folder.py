"""The folder of an export: made beside the old one, and put in its place in one step.

A reader finds the old export or the new one, whole. A process that is killed leaves the old one, and beside it a folder
that the next export removes.
"""

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from orchestration.lake.compaction import exchange

MARK = "export.json"
"""The file by which a folder is known as an export. Written last."""
_NAMES = re.compile(
    rf"{re.escape(MARK)}|robots\.txt|accounts|digests|static|index(-\d+)?\.html|[a-z]+\.(html|csv)"
    r"|top\.[a-z0-9-]+\.(html|csv)"
)
"""What an export has at its top."""
WAIT_SECONDS = 900
"""For another export to the same folder: a run of Dagster waits for the one before it."""
MODE = 0o750
"""Of a new folder: names and revenue of customers are in it. A folder that exists keeps its mode and its group."""


class ExportError(RuntimeError):
    """The export was not made, and the one before it stays. The message says why, and what to do."""


class Folder:
    """An export that is being made."""

    def __init__(self, path: Path, mode: int) -> None:
        self._path, self._mode = path, mode
        self.files = 0

    def write(self, name: str, text: str) -> None:
        """`name` is relative to the folder, at most one folder below it."""
        path = self._path / name
        if not path.parent.exists():
            path.parent.mkdir()
            path.parent.chmod(self._mode)
        path.write_text(text, encoding="utf-8", newline="")
        path.chmod(self._mode & 0o666)
        self.files += 1


@contextmanager
def renewed(target: Path) -> Iterator[Folder]:
    """What is written inside takes the place of `target` at the end; of another end nothing is left.

    Files can be read by those who may open the folder, and belong to its group.

    :raises ExportError: something else than an export is there, or the disk does not allow it.
    """
    target = target.resolve()
    try:
        refuse(target)
        part, lock = (target.with_name(f".{target.name}.headroom-{kind}") for kind in ("part", "lock"))
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=WAIT_SECONDS):
            if part.exists():  # of a process that was killed
                shutil.rmtree(part)
            try:
                yield _made(part, target)
                _put(part, target)
            finally:
                shutil.rmtree(part, ignore_errors=True)  # what was there before, or what was not finished
    except Timeout:
        raise ExportError(f"another process exports to {target}. Wait for its end, and try again") from None
    except OSError as error:
        raise ExportError(
            f"the pages were not exported to {target}: {error.strerror or error}"
            f"{f', {error.filename}' if error.filename else ''}. The files there are as they were"
        ) from error


def refuse(target: Path) -> None:
    """:raises ExportError: `target` is not an export, not empty, and not missing."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target} is a file. Name a folder")
    if os.path.ismount(target):
        raise ExportError(f"{target} is a disk of its own. Name a folder in it, such as {target / 'pages'}")
    names = sorted(path.name for path in target.iterdir())
    others = [name for name in names if not _NAMES.fullmatch(name)]
    if names and (others or MARK not in names):
        raise ExportError(
            f"{target} has other files than an export, such as {(others or names)[0]!r}, and an export replaces the"
            " whole folder. Name an empty folder, or a new one"
        )


def _made(part: Path, target: Path) -> Folder:
    part.mkdir()
    mode = MODE
    if target.exists():
        found = target.stat()
        mode = stat.S_IMODE(found.st_mode)
        if part.stat().st_gid != found.st_gid:
            os.chown(part, -1, found.st_gid)
            mode |= stat.S_ISGID  # what is made in it has the group, too
    part.chmod(mode)
    return Folder(part, mode)


def _put(part: Path, target: Path) -> None:
    if target.exists():
        refuse(target)  # files that somebody put there meanwhile
        exchange(part, target)
    else:
        part.rename(target)
