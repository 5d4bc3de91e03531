"""Whether a file's producer will write to it no more: evidence, not only that it made a pause. Pure.

A row that is written half looks like a whole one (`ac` of `acme`), so the last row of a CSV that has no line break
waits until there is some.
"""

import re
from collections.abc import Callable, Iterable

DONE = ".done"
"""Beside a file, behind its name: its producer says that it is finished."""
QUIET_SECONDS = 86_400
"""Nobody pauses for so long in the middle of a row."""
PAUSE_SECONDS = 60
"""Several files of a series may be written at once: a newer one says nothing of a file that was written to just now."""


def has_ended(
    path: str, mtime_ns: int, beside: Iterable[str], mtime_of: Callable[[str], int | None], now_ns: int
) -> bool:
    """Whether there is evidence. `beside` are the paths in its folder, `mtime_of` says when one was written to."""
    quiet_ns = now_ns - mtime_ns
    if quiet_ns > QUIET_SECONDS * 10**9:
        return True
    names = set(beside)
    if path + DONE in names:
        return True
    if quiet_ns <= PAUSE_SECONDS * 10**9:
        return False
    rotated = re.sub(r"\.\d+$", "", path)
    newer = {rotated} & names - {path}
    newer |= {name for name in names if _series(name) == _series(path) and _numbers(name) > _numbers(path)}
    return any((at := mtime_of(name)) is not None and at > mtime_ns for name in newer)


def _series(path: str) -> str:
    return re.sub(r"\d+", "#", path)


def _numbers(path: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path)]
