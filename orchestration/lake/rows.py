"""Files of rows that go on from others by their rows: repaired, written again with more of them, or compressed.

Their stored bytes have nothing in common then, so the lines that were read of the one are looked for in the other.
"""

import hashlib
from collections.abc import Iterable

from orchestration.lake import content, formats
from orchestration.lake.landed_file import LandedFile
from orchestration.lake.sources import Source


def former(source: Source, file: LandedFile, earlier: Iterable[LandedFile]) -> LandedFile | None:
    """Of the known files the one of which most was read, all of it being the beginning of `file`.

    :raises OSError: as `content.opened`.
    """
    if not formats.is_by_row(file.format or ""):
        return None
    likely = [
        each for each in earlier if each.read_lines and _has_rows(each) and (each.rows_sha256 or _is_old(each, file))
    ]
    hashes: dict[int, str] = {}
    if likely:
        lines, seen = 0, hashlib.sha256()
        with content.opened(source, file.found, file.format or "") as stream:
            for count in sorted({each.read_lines for each in likely}):
                if not stream.skip_lines(count - lines, seen.update):
                    break
                lines, hashes[count] = count, seen.hexdigest()
    same = [
        each for each in likely if each.read_lines in hashes and each.rows_sha256 in (None, hashes[each.read_lines])
    ]
    return max(same, key=lambda each: each.read_lines, default=None)


def _has_rows(file: LandedFile) -> bool:
    return formats.is_by_row(file.format or formats.by_name(file.path))


def _is_old(known: LandedFile, file: LandedFile) -> bool:
    """Whether it was damaged and read before rows were remembered; "land it again as a whole" was the advice."""
    return known.is_damaged and known.path == file.path
