"""What of the landing files did not count, in words: files that are gone before they were read, and copies."""

from collections.abc import Collection, Iterable, Sequence

from orchestration.lake.landed_file import LandedFile
from orchestration.lake.remembered import Remembered
from orchestration.lake.sources import Skipped, SourceFile

LISTED = 5
LAPSE = "is gone, and only {} of it were read: put it back under any name, and the rest is read"


def gone(known: Remembered, found: Iterable[SourceFile], skipped: Collection[Skipped]) -> set[str]:
    """Paths that were there at the last look; not those in a place that could not be looked into."""
    closed = [entry.path for entry in skipped if "cannot be" in entry.reason]
    missing = set(known.stamps()) - {file.path for file in found}
    if "." in closed:
        return set()
    return {path for path in missing if not any(path == each or path.startswith(f"{each}/") for each in closed)}


def back(known: Remembered, found: Iterable[SourceFile]) -> set[str]:
    """Paths that are there again, as far as they are remembered."""
    stamps = known.stamps()
    return {file.path for file in known.find("path", [file.path for file in found if file.path not in stamps])}


def lost(known: Remembered, begun: Sequence[LandedFile], found: Iterable[SourceFile]) -> list[Skipped]:
    """Of files that were not read to their end, those that are gone and go on nowhere."""
    there = {file.path: file for file in found}
    away = [file for file in begun if not file.is_in_place(there.get(file.path)) and not file.is_refused]
    going_on = {
        file.origin
        for file in known.find("origin", {file.origin for file in away})
        if file.is_complete or file.is_in_place(there.get(file.path))
    }
    return [Skipped(file.path, LAPSE.format(_lines(file.read_lines))) for file in away if file.origin not in going_on]


def copies(files: Sequence[LandedFile]) -> str:
    """A sentence about files of which nothing counts, because they are copies; empty without any."""
    if not files:
        return ""
    count, lines = len(files), _lines(sum(file.read_lines for file in files))
    names = ", ".join(f"{file.path} (of {file.copy_of})" for file in files[:LISTED])
    more = f", and {count - LISTED:,} more" if count > LISTED else ""
    subject = "1 file is a copy of another one" if count == 1 else f"{count:,} files are copies of others"
    return (
        f"{subject} and {'does' if count == 1 else 'do'} not count again ({lines}): {names}{more}. To count copies, set"
        " HEADROOM_LANDING_COPIES=count"
    )


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"
